//! How each language's interpreter is made to wait, and told to start. See also `boot/`.

use std::{collections::BTreeMap, fs, io, path::Path};

use super::{WORKSPACE, rehearsal::REHEARSAL};

/// How one language's interpreter is made to wait, and told to start.
#[derive(Clone, Copy)]
pub(super) struct Boot {
    pub(super) name: &'static str,
    script: &'static str,
    pub(super) script_name: &'static str,
    pub(super) main: &'static str,
    pub(super) hook: Hook,
    pub(super) start: fn(&StartRecord<'_>) -> Vec<u8>,
    /// The main script of a context, where the language has contexts.
    pub(super) context: Option<&'static str>,
}

/// What makes an interpreter run its boot script.
#[derive(Clone, Copy)]
pub(super) enum Hook {
    /// This variable holds the directory that the script is in, before what else it may hold.
    Directory(&'static str),
    /// This variable holds the script's path.
    Script(&'static str),
    /// This option comes before the script's path.
    Option(&'static str),
    /// This argument, alone, to a program that needs no script.
    Argument(&'static str),
}

pub(super) const BOOTS: [Boot; 4] = [
    Boot {
        name: "python",
        script: include_str!("boot/sitecustomize.py"),
        script_name: "sitecustomize.py",
        main: "main.py",
        hook: Hook::Directory("PYTHONPATH"),
        start: |record| record.fields(),
        context: Some(include_str!("boot/context/main.py")),
    },
    Boot {
        name: "bash",
        script: include_str!("boot/bash.sh"),
        script_name: "bash.sh",
        main: "main.sh",
        hook: Hook::Script("BASH_ENV"),
        start: |record| record.shell_commands(),
        context: None,
    },
    Boot {
        name: "node",
        script: include_str!("boot/node.js"),
        script_name: "node.js",
        main: "main.js",
        hook: Hook::Option("--require"),
        start: |record| record.fields(),
        context: None,
    },
    Boot {
        name: REHEARSAL,
        script: "",
        script_name: "rehearsal",
        main: "main",
        hook: Hook::Argument(REHEARSAL),
        start: |record| record.fields(),
        context: None,
    },
];

/// The package that a context's main script runs cells by, and its modules.
const CONTEXT_PACKAGE: &str = "sandpool_context";
const CONTEXT_MODULES: [(&str, &str); 8] = [
    ("__init__.py", ""),
    ("cells.py", include_str!("boot/context/cells.py")),
    ("displays.py", include_str!("boot/context/displays.py")),
    ("errors.py", include_str!("boot/context/errors.py")),
    ("imports.py", include_str!("boot/context/imports.py")),
    ("messages.py", include_str!("boot/context/messages.py")),
    ("signals.py", include_str!("boot/context/signals.py")),
    ("streams.py", include_str!("boot/context/streams.py")),
];

/// Puts the boot scripts where the interpreters find them.
pub(super) fn write_boot_scripts(run_dir: &Path) -> io::Result<()> {
    let dir = run_dir.join("boot");
    let package = dir.join(CONTEXT_PACKAGE);
    fs::create_dir_all(&package)?;
    let scripts = BOOTS
        .iter()
        .map(|boot| (dir.join(boot.script_name), boot.script));
    let modules = CONTEXT_MODULES
        .iter()
        .map(|(name, module)| (package.join(name), *module));
    scripts
        .chain(modules)
        .try_for_each(|(path, text)| fs::write(path, text))
}

/// Who reads what the program prints.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum OutputReader {
    /// Its pipes are the server's.
    Server,
    Agent,
    /// The agent, of each cell by itself: it is a context, which keeps its socket to be told of them.
    AgentByCell,
}

/// What a waiting interpreter is told.
pub(super) struct StartRecord<'a> {
    pub(super) working_directory: &'a str,
    pub(super) reader: OutputReader,
    pub(super) args: &'a [String],
    pub(super) env: &'a BTreeMap<&'a str, &'a str>,
}

impl StartRecord<'_> {
    /// Length, then texts that end with NUL.
    fn fields(&self) -> Vec<u8> {
        let mut fields = vec![0; 4];
        let mut add = |text: &str| {
            fields.extend_from_slice(text.as_bytes());
            fields.push(0);
        };
        add(self.working_directory);
        add(match self.reader {
            OutputReader::Server => "server",
            OutputReader::Agent => "agent",
            OutputReader::AgentByCell => "context",
        });
        add(&self.args.len().to_string());
        self.args.iter().for_each(|arg| add(arg));
        for (name, value) in self.env {
            add(&format!("{name}={value}"));
        }
        // Far below 4 GiB: gRPC messages are bounded.
        let length = (fields.len() - 4) as u32;
        fields[..4].copy_from_slice(&length.to_be_bytes());
        fields
    }

    fn shell_commands(&self) -> Vec<u8> {
        fn quote(text: &str) -> String {
            format!("'{}'", text.replace('\'', r"'\''"))
        }
        let mut commands = "unset REPLY; ".to_owned();
        if self.working_directory != WORKSPACE {
            let directory = quote(self.working_directory);
            commands.push_str(&format!("cd -- {directory} || exit; unset OLDPWD; "));
        }
        for (name, value) in self.env {
            commands.push_str(&format!("export {name}={}; ", quote(value)));
        }
        commands.push_str("set --");
        for arg in self.args {
            commands.push(' ');
            commands.push_str(&quote(arg));
        }
        commands.push('\0');
        commands.into_bytes()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
