//! A checked execution: nothing optional is left in it, and nothing needs checking again.

use std::{
    collections::BTreeMap,
    hash::{BuildHasher, Hash, Hasher},
    time::Duration,
};

use bytes::Bytes;

use super::FileOperation;

/// One program, with all that it gets and within its bounds.
///
/// It carries its owner's secrets, so it cannot be printed; the same holds for [`Program`] and
/// [`InputFile`].
pub struct Spec {
    /// What is run.
    pub program: Program,
    /// Added to the pool's environment, over it. Names are not empty and hold neither '=' nor NUL.
    pub env: BTreeMap<String, String>,
    /// Absolute and normalised: [`paths::WORKSPACE`](super::paths::WORKSPACE) or below it.
    pub working_directory: String,
    /// Written before the program starts. No path comes twice or is another one's directory.
    pub files: Vec<InputFile>,
    /// Globs relative to the working directory, without '.', '..' and empty components.
    pub output_paths: Vec<String>,
    /// What the caller has of these files. While one is so, it does not come.
    pub known_files: Vec<KnownFile>,
    /// What ends the program, if it does not end by itself.
    pub limits: Limits,
    /// Whether stdin follows; if not, it is at its end from the start.
    pub stdin_open: bool,
    /// The size of the terminal that it runs on, if it does. Then stdin is open.
    pub terminal: Option<TerminalSize>,
    /// Written to the log beside the execution; not secret.
    pub labels: BTreeMap<String, String>,
    /// The kind of sandbox that it runs in.
    pub tenancy: Tenancy,
    /// How long it goes on without a caller: zero, not at all; none, as is usual for the kind of sandbox.
    pub keep_after_disconnect: Option<Duration>,
}

/// A terminal's size in characters, each from 1 to 4096.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TerminalSize {
    /// Lines.
    pub rows: u32,
    /// Characters of a line.
    pub columns: u32,
}

/// Whether a sandbox is one execution's alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tenancy {
    /// It is, and is deleted with its end.
    SingleUse,
    /// It has been there before, lives on, and runs others meanwhile.
    Named {
        /// Memory of all of them together, in bytes: beyond it, the one that uses the most is ended.
        memory_bytes: u64,
    },
}

impl Spec {
    /// A number that another spec has not, but for a chance of one in 2^64.
    pub fn fingerprint(&self, hashers: &impl BuildHasher) -> u64 {
        let mut hasher = hashers.build_hasher();
        match &self.program {
            Program::Code {
                language,
                source,
                args,
            } => (0, language, source, args).hash(&mut hasher),
            Program::Command { args } => (1, args).hash(&mut hasher),
            // Have no id that anyone could choose.
            Program::File(_) | Program::Context { .. } => 2.hash(&mut hasher),
            // Its number is not the caller's.
            Program::Cell {
                context_id, source, ..
            } => (3, context_id, source).hash(&mut hasher),
        }
        for file in &self.files {
            (&file.path, &file.content, file.mode).hash(&mut hasher);
        }
        let terminal = self.terminal.map(|size| (size.rows, size.columns));
        (
            &self.env,
            &self.working_directory,
            (&self.output_paths, &self.known_files),
            &self.limits,
            self.stdin_open,
            terminal,
            &self.labels,
            self.keep_after_disconnect,
        )
            .hash(&mut hasher);
        hasher.finish()
    }

    /// A file operation, which takes input if it is to write, and ends in its own time.
    #[must_use]
    pub fn file_operation(operation: FileOperation) -> Self {
        let takes_input = matches!(
            operation,
            FileOperation::Write { .. } | FileOperation::Unpack { .. }
        );
        let mut spec = Self::rehearsal("");
        spec.limits.timeout = Duration::from_secs(24 * 3600);
        spec.limits.output_bytes = u64::MAX;
        Self {
            program: Program::File(operation),
            stdin_open: takes_input,
            // The agent's own memory is not counted.
            tenancy: Tenancy::Named {
                memory_bytes: u64::MAX,
            },
            ..spec
        }
    }

    /// A context, which runs until it is stopped.
    #[must_use]
    pub fn context(
        context_id: String,
        language: String,
        env: BTreeMap<String, String>,
        working_directory: String,
        limits: Limits,
    ) -> Self {
        let memory_bytes = limits.memory_bytes;
        Self {
            program: Program::Context {
                context_id,
                language,
            },
            env,
            working_directory,
            limits,
            tenancy: Tenancy::Named { memory_bytes },
            ..Self::rehearsal("")
        }
    }

    /// A program in the agent's own `language`, which takes nothing and prints a line.
    pub(crate) fn rehearsal(language: &str) -> Self {
        Self {
            program: Program::Code {
                language: language.to_owned(),
                source: String::new(),
                args: Vec::new(),
            },
            env: BTreeMap::new(),
            working_directory: super::paths::WORKSPACE.to_owned(),
            files: Vec::new(),
            output_paths: Vec::new(),
            known_files: Vec::new(),
            limits: Limits {
                timeout: Duration::from_secs(10),
                queue_timeout: Duration::ZERO,
                memory_bytes: u64::MAX,
                disk_bytes: u64::MAX,
                output_bytes: 1024,
                output_file_bytes: 0,
                processes: 4096,
            },
            stdin_open: false,
            terminal: None,
            labels: BTreeMap::new(),
            tenancy: Tenancy::SingleUse,
            keep_after_disconnect: None,
        }
    }
}

/// A file that the caller has, as it is there.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct KnownFile {
    /// As an output file has it: relative to the working directory. One that no file can have matches none.
    pub path: String,
    /// Of the content, in bytes.
    pub size: u64,
    /// The content's SHA-256.
    pub sha256: [u8; 32],
}

/// What is run.
pub enum Program {
    /// Source for a waiting interpreter.
    Code {
        /// A language of the pool.
        language: String,
        /// The main script; not blank.
        source: String,
        /// What the script sees after its own name; without NUL.
        args: Vec<String>,
    },
    /// Any program of the sandbox's root file system.
    Command {
        /// The program, never empty, and its arguments; without NUL.
        args: Vec<String>,
    },
    /// What the agent does itself.
    File(FileOperation),
    /// An interpreter that keeps its state and runs cells.
    Context {
        /// New in its sandbox.
        context_id: String,
        /// A language of the pool that has contexts.
        language: String,
    },
    /// Source for a context.
    Cell {
        /// The context.
        context_id: String,
        /// Not blank.
        source: String,
        /// How many the context has run with it.
        number: u64,
    },
}

/// A file that is there when the program starts.
pub struct InputFile {
    /// Absolute and normalised, below [`paths::WORKSPACE`](super::paths::WORKSPACE).
    pub path: String,
    /// The whole file.
    pub content: Bytes,
    /// Permission bits, 1 to 0o777.
    pub mode: u32,
}

/// Bounds of one execution. Each is at most the pool's maximum and has a value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Limits {
    /// Wall clock, counted from the program's start.
    pub timeout: Duration,
    /// How long to wait for a sandbox.
    pub queue_timeout: Duration,
    /// Memory of all processes together, in bytes; files in memory not counted.
    pub memory_bytes: u64,
    /// Files written to /workspace, /tmp and HOME together, in bytes.
    pub disk_bytes: u64,
    /// stdout and stderr together, in bytes.
    pub output_bytes: u64,
    /// Content of all output files together, in bytes.
    pub output_file_bytes: u64,
    /// Processes and threads at once.
    pub processes: u32,
}

/// A pool's limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitBounds {
    /// What an execution gets that asks for nothing else; nowhere above `max`.
    pub default: Limits,
    /// The most that an execution may ask for.
    pub max: Limits,
}
