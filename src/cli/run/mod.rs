//! `sandpool run`: `spec` says what to run, `session` runs it, `input`, `files` and `displays` are
//! what goes in and comes out, `exit` is how it ended.

mod displays;
mod exit;
mod files;
mod input;
mod session;
mod spec;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::Args;

use super::{
    OWN_TROUBLE,
    client::{ClientError, Connection, ServerArgs},
    say::{complain, say},
};
use crate::config::ByteSize;
pub(super) use exit::Exit;
use files::FilesError;
pub(super) use input::{forward_stdin, request};
use spec::SpecError;

/// What `--help` ends with.
const AFTER_HELP: &str = "\
Exits with the program's own code, or 128 + N if signal N ended it; with 124 on timeout, 137 out \
of memory, 153 beyond the output or disk limit, 130 when cancelled from here, 126 if the program could not \
be started, and 125 for whatever is not the program's doing.\n\n\
The first Ctrl-C is sent to the program, the second cancels it.";

/// The arguments of `sandpool run`.
#[derive(Args)]
#[command(override_usage = "sandpool run [OPTIONS] FILE [ARGS]...\n       \
                      sandpool run [OPTIONS] --language LANGUAGE -c SOURCE [--] [ARGS]...\n       \
                      sandpool run [OPTIONS] --command [--] PROGRAM [ARGS]...",
    after_help = AFTER_HELP
)]
pub(super) struct RunArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// Take the sandbox from this pool instead of the server's default pool.
    #[arg(long)]
    pool: Option<String>,
    /// Run in this sandbox, which lives on (see sandpool sandbox), instead of a fresh one.
    #[arg(long, value_name = "ID", conflicts_with = "pool")]
    sandbox: Option<String>,
    /// Run it in this context of the sandbox, which keeps its variables (see sandpool context).
    #[arg(long, value_name = "ID", requires = "sandbox", conflicts_with_all = ["command", "workdir", "env"])]
    context: Option<String>,
    /// Leave it running once it has started, and print its id (see sandpool attach). It has no input.
    #[arg(long, conflicts_with_all = ["output", "output_dir"])]
    detach: bool,
    /// With --detach: how long it goes on when nobody reads it.
    #[arg(long, value_name = "DURATION", default_value = "10m", requires = "detach",
          value_parser = humantime::parse_duration)]
    keep: Duration,
    /// python, bash or node [default: by the file's ending or first line].
    #[arg(long, short, conflicts_with = "command")]
    language: Option<String>,
    /// Run this source instead of a file.
    #[arg(
        short = 'c',
        value_name = "SOURCE",
        allow_hyphen_values = true,
        conflicts_with = "command"
    )]
    source: Option<String>,
    /// Run a program of the sandbox's root file system instead of a script.
    #[arg(long)]
    command: bool,
    /// Set an environment variable; NAME alone hands on this process's own.
    #[arg(long, short, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Put a local file into the sandbox; REMOTE is relative to the working directory.
    #[arg(long, short, value_name = "LOCAL[:REMOTE]")]
    file: Vec<String>,
    /// Fetch files that match after the end: relative to the working directory, with *, ? and **.
    #[arg(long, short, value_name = "GLOB", requires = "output_dir")]
    output: Vec<String>,
    /// Where fetched files are written, and with --context what is displayed, as display-1.png and so on;
    /// nothing is ever written outside of it.
    #[arg(long, value_name = "DIRECTORY")]
    output_dir: Option<PathBuf>,
    /// End the program after this long, such as 30s [default: the pool's].
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    timeout: Option<Duration>,
    /// Memory of all its processes, such as 256MiB [default: the pool's].
    #[arg(long, value_name = "SIZE")]
    memory: Option<ByteSize>,
    /// Working directory, relative to /workspace.
    #[arg(long, value_name = "DIRECTORY")]
    workdir: Option<String>,
    /// A script (- for standard input) and what it is given, or with --command a program and what
    /// it is given. What follows the first one is not read as sandpool's own options.
    #[arg(trailing_var_arg = true, value_name = "FILE|PROGRAM")]
    args: Vec<String>,
}

/// Why there is no outcome.
#[derive(Debug, thiserror::Error)]
enum RunError {
    #[error("the program did not start{0}")]
    NotStarted(String),
    #[error(transparent)]
    Spec(#[from] SpecError),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Files(#[from] FilesError),
    #[error("cannot wait for signals: {0}")]
    Signals(std::io::Error),
    #[error("cannot write the program's output: {0}")]
    Output(std::io::Error),
    #[error("the server ended the call without saying how the program ended")]
    NoOutcome,
    #[error("writing the output crashed: {0}")]
    Crashed(#[from] tokio::task::JoinError),
}

pub(super) async fn main(args: RunArgs) -> ExitCode {
    match run(args).await {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            complain(error);
            ExitCode::from(OWN_TROUBLE)
        }
    }
}

async fn run(args: RunArgs) -> Result<u8, RunError> {
    let spec = spec::build(&args)?;
    let sink = match &args.output_dir {
        Some(directory) if !args.output.is_empty() || args.context.is_some() => {
            Some(files::FileSink::open(directory)?)
        }
        _ => None,
    };
    let connection = args.server.connect().await?;
    if args.detach {
        say(&session::start(connection, spec).await?);
        return Ok(0);
    }
    session::run(connection, spec, sink).await
}

/// Goes on reading an execution, and answers with its exit code.
pub(super) async fn attach(connection: Connection, execution_id: String) -> ExitCode {
    match session::attach(connection, execution_id).await {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            complain(error);
            ExitCode::from(OWN_TROUBLE)
        }
    }
}
