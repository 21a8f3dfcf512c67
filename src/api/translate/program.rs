//! What is run: code in a language of the pool, or a command.

use crate::{
    api::violations::{Violations, one_of, quoted},
    execution::Program,
    proto::v1::{self, execution_spec},
};

/// Most arguments of a program, its own name included for a command.
pub const MAX_ARGS: usize = 4096;

/// Longest argument in bytes: Linux and gVisor take 128 KiB with the NUL at its end.
pub const MAX_ARG_BYTES: usize = 128 * 1024 - 1;

/// All arguments together, in bytes. gVisor takes 2 MiB for arguments and environment; what the
/// pool and the agent add must fit as well.
pub const MAX_ARGS_BYTES: usize = 1024 * 1024;

/// `None` if there is no program, or one that cannot be run: then at least one violation is added.
pub(super) fn check(
    given: Option<execution_spec::Program>,
    languages: &[String],
    violations: &mut Violations,
) -> Option<Program> {
    match given {
        Some(execution_spec::Program::Code(code)) => Some(check_code(code, languages, violations)),
        Some(execution_spec::Program::Command(command)) => Some(check_command(command, violations)),
        None => {
            violations.add("program", "is missing: set either code or command");
            None
        }
    }
}

fn check_code(code: v1::Code, languages: &[String], violations: &mut Violations) -> Program {
    let v1::Code {
        language,
        source,
        args,
    } = code;
    if !languages.contains(&language) {
        let allowed = one_of(languages, "none, since this pool has only commands");
        let text = if language.is_empty() {
            format!("is empty: this pool's languages are {allowed}")
        } else {
            format!(
                "{} is not a language of this pool: use {allowed}",
                quoted(&language)
            )
        };
        violations.add("code.language", text);
    }
    if source.trim().is_empty() {
        violations.add("code.source", "is blank: give the text of a program");
    }
    check_args("code.args", &args, violations);
    Program::Code {
        language,
        source,
        args,
    }
}

fn check_command(command: v1::Command, violations: &mut Violations) -> Program {
    let v1::Command { args } = command;
    match args.first() {
        None => violations.add(
            "command.args",
            "is empty: args[0] is the program, an absolute path or a name to look up in PATH",
        ),
        Some(program) if program.is_empty() => violations.add(
            "command.args[0]",
            "is empty: it is the program, an absolute path or a name to look up in PATH",
        ),
        Some(_) => {}
    }
    check_args("command.args", &args, violations);
    Program::Command { args }
}

fn check_args(field: &str, args: &[String], violations: &mut Violations) {
    if args.len() > MAX_ARGS {
        violations.add(
            field,
            format!(
                "has {} entries, where at most {MAX_ARGS} are allowed: pass the rest in a file or on stdin",
                args.len()
            ),
        );
        return;
    }
    let bytes: usize = args.iter().map(String::len).sum();
    if bytes > MAX_ARGS_BYTES {
        violations.add(
            field,
            format!(
                "takes {bytes} bytes in all, where at most {MAX_ARGS_BYTES} are allowed: pass large data in a file or on stdin"
            ),
        );
    }
    for (index, arg) in args.iter().enumerate() {
        if arg.contains('\0') {
            violations.add(
                format!("{field}[{index}]"),
                "holds a NUL, which no argument of a program can: leave it out",
            );
        }
        if arg.len() > MAX_ARG_BYTES {
            violations.add(
                format!("{field}[{index}]"),
                format!(
                    "has {} bytes, where at most {MAX_ARG_BYTES} are allowed: pass large data in a file or on stdin",
                    arg.len()
                ),
            );
        }
    }
}
