//! Programs as tools: code, and commands.

use tonic::Code as Status;

use super::{
    answer::{Answer, of_program},
    arguments::{RunCode, RunCommand, input_files, seconds},
    execute::execute,
    progress::Progress,
    session::Session,
    trouble::Trouble,
};
use crate::{
    cli::client::printable,
    proto::v1::{Code, Command, ExecutionSpec, Limits, execution_spec::Program},
};

const PYTHON: &str = "python";
/// Runs the line that follows it, with bash where there is one.
const SHELL: &str = "command -v bash > /dev/null && exec bash -c \"$0\"; exec sh -c \"$0\"";

/// Code in a fresh sandbox, or in one that lives on; Python has its state there.
pub(super) async fn code(
    session: &Session,
    call: RunCode,
    progress: Option<&Progress>,
) -> Result<Answer, Trouble> {
    let mut spec = spec(session, call.sandbox_id, call.timeout_seconds)?;
    spec.files = input_files(call.files)?;
    spec.output_paths = call.output_paths;
    let is_cell = !spec.sandbox_id.is_empty() && call.language == PYTHON;
    if is_cell && !call.args.is_empty() {
        let reason = "mean nothing to the Python of a sandbox, which runs already: assign variables in the code, \
                      or use run_command with python3";
        return Err(Trouble::argument("args", reason));
    }
    spec.program = Some(Program::Code(Code {
        language: call.language,
        source: call.code,
        args: call.args,
    }));
    if !is_cell {
        let (ran, outcome, finished) = execute(session, spec, call.stdin, progress).await?;
        return Ok(of_program(ran, &outcome, &finished));
    }
    let sandbox_id = spec.sandbox_id.clone();
    let context_id = session.context(&sandbox_id).await?;
    spec.context_id.clone_from(&context_id);
    match execute(session, spec, call.stdin, progress).await {
        Ok((ran, outcome, finished)) => {
            if finished.context_ended {
                session.forget_context(&sandbox_id, &context_id).await;
            }
            Ok(of_program(ran, &outcome, &finished))
        }
        Err(Trouble::Refused(status)) if status.code() == Status::FailedPrecondition => {
            session.forget_context(&sandbox_id, &context_id).await;
            Err(Trouble::StateGone(printable(status.message())))
        }
        Err(Trouble::Refused(status)) if status.code() == Status::NotFound => {
            session.forget_context(&sandbox_id, &context_id).await;
            if session.has_sandbox(&sandbox_id).await? {
                return Err(Trouble::StateGone("it was deleted".to_owned()));
            }
            Err(Trouble::Refused(status))
        }
        Err(trouble) => Err(trouble),
    }
}

/// A shell's line, or a program.
pub(super) async fn command(
    session: &Session,
    call: RunCommand,
    progress: Option<&Progress>,
) -> Result<Answer, Trouble> {
    let mut spec = spec(session, call.sandbox_id, call.timeout_seconds)?;
    spec.files = input_files(call.files)?;
    spec.output_paths = call.output_paths;
    spec.working_directory = call.working_directory;
    let is_line = call.command.is_some();
    let args = match (call.command, call.args) {
        (Some(line), args) if args.is_empty() => [
            "/bin/sh".to_owned(),
            "-c".to_owned(),
            SHELL.to_owned(),
            line,
        ]
        .to_vec(),
        (None, args) if !args.is_empty() => args,
        (Some(_), _) => {
            let reason = "are given beside command: leave one of them out";
            return Err(Trouble::argument("args", reason));
        }
        (None, _) => {
            let reason = "is missing: give a line for the shell, or a program in args";
            return Err(Trouble::argument("command", reason));
        }
    };
    spec.program = Some(Program::Command(Command { args }));
    let ended = execute(session, spec, call.stdin, progress).await;
    let (ran, outcome, finished) =
        ended.map_err(|trouble| if is_line { trouble.of_line() } else { trouble })?;
    Ok(of_program(ran, &outcome, &finished))
}

/// What both have in common.
fn spec(
    session: &Session,
    sandbox_id: Option<String>,
    timeout_seconds: Option<f64>,
) -> Result<ExecutionSpec, Trouble> {
    let timeout = seconds("timeout_seconds", timeout_seconds)?;
    let sandbox_id = sandbox_id.unwrap_or_default();
    Ok(ExecutionSpec {
        // A sandbox that lives on is of whatever pool it is.
        pool: if sandbox_id.is_empty() {
            session.pool().to_owned()
        } else {
            String::new()
        },
        sandbox_id,
        limits: Some(Limits {
            timeout: timeout.and_then(|timeout| timeout.try_into().ok()),
            ..Limits::default()
        }),
        ..ExecutionSpec::default()
    })
}
