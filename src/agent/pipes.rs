//! A program's stdin, stdout and stderr, as the agent holds them.
//!
//! Where the backend can give a sandbox descriptors of the host's, an interpreter that waits for
//! its program writes its output straight to the server: no copy by the agent, and no waiting for
//! the agent's turn. gVisor's kernel lets a process that waits in the sandbox wait for up to 20 ms
//! longer while another one computes (its goroutine is queued behind the thread that waits for the
//! computing process, until Go's monitor finds out), so output that has to pass through the agent
//! is late by as much.
//!
//! Programs that start when they are asked for have pipes of gVisor's. To one of the host's, gVisor
//! writes what there is room for, and answers with that, where Linux waits until all is written. The
//! interpreters' own output goes on with the rest; `python3 -u` does not and loses it.

use std::{
    io::{self, PipeWriter},
    os::fd::{AsFd, FromRawFd, OwnedFd},
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use tokio::{io::AsyncReadExt, net::unix::pipe};

use super::terminal::Terminal;

/// Where the server's descriptors begin; the backend puts them there.
const FIRST_DIRECT: i32 = 10;
/// What a pipe between the agent and a program shall hold. The default of 64 KiB, in gVisor as on Linux (pipe(7),
/// "Pipe capacity"), takes more system calls of both sides for as many bytes, and they are slow there.
const PIPE_SIZE: usize = 1 << 20;
/// How long an interpreter that has ended may take to say why.
const LAST_WORDS_TIMEOUT: Duration = Duration::from_secs(1);

/// The writing ends of two pipes that the server reads.
pub(super) struct DirectPair {
    number: u32,
    stdout: OwnedFd,
    stderr: OwnedFd,
}

impl DirectPair {
    /// Takes the first `count` pairs that this process was started with: once, later calls get
    /// none.
    ///
    /// # Errors
    /// When there are not as many.
    pub(super) fn take(count: u32) -> io::Result<Vec<Self>> {
        static TAKEN: AtomicBool = AtomicBool::new(false);
        if TAKEN.swap(true, Ordering::Relaxed) {
            return Ok(Vec::new());
        }
        let descriptor = |number: i32| {
            // SAFETY: fcntl with F_SETFD changes no memory, whatever the descriptor is.
            if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
                return Err(io::Error::last_os_error());
            }
            // SAFETY: the descriptor is open, was not opened here but is one that the process was
            // started with, and is taken once.
            Ok(unsafe { OwnedFd::from_raw_fd(number) })
        };
        let count = i32::try_from(count).map_err(|_| io::ErrorKind::InvalidInput)?;
        (0..count)
            .map(|pair| {
                let stdout = FIRST_DIRECT + 2 * pair;
                Ok(Self {
                    number: pair.unsigned_abs(),
                    stdout: descriptor(stdout)?,
                    stderr: descriptor(stdout + 1)?,
                })
            })
            .collect()
    }
}

/// Where a program's output goes.
pub(super) enum Outputs {
    /// To the server, by the pair of that number.
    Direct(u32),
    /// To the agent, which passes it on.
    Read {
        stdout: pipe::Receiver,
        stderr: pipe::Receiver,
    },
    /// To its terminal.
    Terminal(Terminal),
}

/// Where a program's input comes from.
pub(super) enum Stdin {
    Pipe(PipeWriter),
    Terminal(Terminal),
}

/// Makes a pipe hold [`PIPE_SIZE`].
pub(super) fn enlarge(pipe: &impl AsFd) {
    // Refused where pipes hold too much already: then it is slower.
    let _ = rustix::pipe::fcntl_setpipe_size(pipe, PIPE_SIZE);
}

/// The other ends of a program's three pipes, for the program.
pub(super) struct ProgramEnds {
    pub(super) stdin: OwnedFd,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
}

/// A program's three pipes, or its terminal.
pub(super) struct Pipes {
    pub(super) stdin: Stdin,
    pub(super) outputs: Outputs,
}

impl Pipes {
    /// Gives a program that is about to start its ends.
    pub(super) fn attach(command: &mut Command, direct: Option<DirectPair>) -> io::Result<Self> {
        let Some(pair) = direct else {
            let (pipes, ends) = Self::read_by_agent()?;
            command
                .stdin(ends.stdin)
                .stdout(ends.stdout)
                .stderr(ends.stderr);
            return Ok(pipes);
        };
        let (stdin, our_stdin) = io::pipe()?;
        command.stdin(stdin).stdout(pair.stdout).stderr(pair.stderr);
        Ok(Self {
            stdin: Stdin::Pipe(our_stdin),
            outputs: Outputs::Direct(pair.number),
        })
    }

    /// Three whose output the agent reads, and their other ends.
    pub(super) fn read_by_agent() -> io::Result<(Self, ProgramEnds)> {
        let (stdin, our_stdin) = io::pipe()?;
        let (our_stdout, stdout) = io::pipe()?;
        let (our_stderr, stderr) = io::pipe()?;
        enlarge(&our_stdout);
        enlarge(&our_stderr);
        let pipes = Self {
            stdin: Stdin::Pipe(our_stdin),
            outputs: Outputs::Read {
                stdout: pipe::Receiver::from_owned_fd(our_stdout.into())?,
                stderr: pipe::Receiver::from_owned_fd(our_stderr.into())?,
            },
        };
        let ends = ProgramEnds {
            stdin: stdin.into(),
            stdout: stdout.into(),
            stderr: stderr.into(),
        };
        Ok((pipes, ends))
    }

    /// Those of a program whose terminal this is.
    pub(super) fn of_terminal(terminal: Terminal) -> Self {
        Self {
            stdin: Stdin::Terminal(terminal.clone()),
            outputs: Outputs::Terminal(terminal),
        }
    }

    /// What a program that has ended left on stderr: its beginning. Empty if the server has it.
    pub(super) async fn last_words(&mut self) -> String {
        let Outputs::Read { stderr, .. } = &mut self.outputs else {
            return String::new();
        };
        let mut text = vec![0; 4096];
        let length = tokio::time::timeout(LAST_WORDS_TIMEOUT, stderr.read(&mut text))
            .await
            .ok()
            .and_then(Result::ok)
            .unwrap_or(0);
        text.truncate(length);
        String::from_utf8_lossy(&text).into_owned()
    }
}
