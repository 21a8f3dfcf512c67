//! `sandpool shell`: a shell on a terminal, in a sandbox that lives on.

use std::{
    env,
    io::{self, Write},
    process::ExitCode,
    time::Duration,
};

use clap::Args;
use rustix::{
    stdio,
    termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr},
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::{
    OWN_TROUBLE,
    client::{ClientError, Connection, ServerArgs},
    ending::Ending,
    run::{Exit, forward_stdin, request},
    say::complain,
};
use crate::proto::v1::{
    Command, CreateSandboxRequest, DeleteSandboxRequest, ExecuteRequest, ExecuteResponse,
    ExecutionSpec, Terminal, execute_request::Event as Sent, execute_response::Event,
    execution_service_client::ExecutionServiceClient, execution_spec::Program,
    sandbox_service_client::SandboxServiceClient,
};

/// Bash where there is one.
const SHELL: &str = "command -v bash > /dev/null && exec bash -i; exec sh -i";
/// Messages on their way to the server.
const REQUESTS: usize = 16;

#[derive(Args)]
pub(super) struct ShellArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// Take a sandbox from this pool instead of the server's default pool, and delete it afterwards.
    #[arg(long)]
    pool: Option<String>,
    /// In this sandbox, which lives on (see sandpool sandbox).
    #[arg(long, value_name = "ID", conflicts_with_all = ["pool", "idle_timeout"])]
    sandbox: Option<String>,
    /// How long it lives without anything being typed or shown [default: the pool's].
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    idle_timeout: Option<Duration>,
    /// Instead of a shell: a program and its arguments.
    #[arg(trailing_var_arg = true, value_name = "PROGRAM")]
    program: Vec<String>,
}

/// Why there is no shell.
#[derive(Debug, thiserror::Error)]
enum ShellError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("stdin is not a terminal: use sandpool run")]
    NoTerminal,
    #[error("the terminal: {0}")]
    Terminal(#[from] io::Error),
    #[error("the server ended the call without saying how the shell ended")]
    NoOutcome,
}

pub(super) async fn main(args: ShellArgs) -> ExitCode {
    match shell(args).await {
        Ok(exit) => {
            if let Some(message) = exit.message {
                complain(message);
            }
            ExitCode::from(exit.code)
        }
        Err(error) => {
            complain(error);
            ExitCode::from(OWN_TROUBLE)
        }
    }
}

async fn shell(args: ShellArgs) -> Result<Exit, ShellError> {
    if !isatty(stdio::stdin()) {
        return Err(ShellError::NoTerminal);
    }
    let connection = args.server.connect().await?;
    if let Some(id) = args.sandbox {
        return session(connection, id, args.program).await;
    }
    let mut sandboxes = SandboxServiceClient::new(connection.clone());
    let request = CreateSandboxRequest {
        pool: args.pool.unwrap_or_default(),
        idle_timeout: args.idle_timeout.and_then(|time| time.try_into().ok()),
        ..CreateSandboxRequest::default()
    };
    let created = sandboxes.create_sandbox(request).await;
    let sandbox_id = created.map_err(ClientError::from)?.into_inner().sandbox_id;
    let ended = session(connection, sandbox_id.clone(), args.program).await;
    // It may have ended by itself.
    let _ = sandboxes
        .delete_sandbox(DeleteSandboxRequest { sandbox_id })
        .await;
    ended
}

/// Until the shell ends, or this process is to end: the terminal is as it was then.
async fn session(
    connection: Connection,
    sandbox_id: String,
    program: Vec<String>,
) -> Result<Exit, ShellError> {
    let ending = Ending::listen()?;
    tokio::select! {
        ended = on_terminal(connection, sandbox_id, program) => ended,
        // The call is dropped, and the shell ends with it.
        signal = ending.asked_for() => Ok(Exit {
            // As a shell tells it.
            code: 128 + u8::try_from(signal).unwrap_or(0),
            message: None,
        }),
    }
}

async fn on_terminal(
    connection: Connection,
    sandbox_id: String,
    program: Vec<String>,
) -> Result<Exit, ShellError> {
    let args = if program.is_empty() {
        ["/bin/sh", "-c", SHELL].map(str::to_owned).to_vec()
    } else {
        program
    };
    // Before the size is asked for, or a change just after that would be missed.
    let resized = signal(SignalKind::window_change())?;
    let term = env::var("TERM").unwrap_or_else(|_| "xterm".to_owned());
    let spec = ExecutionSpec {
        sandbox_id,
        program: Some(Program::Command(Command { args })),
        env: [("TERM".to_owned(), term)].into(),
        terminal: Some(size()?),
        keep_after_disconnect: Some(Default::default()),
        ..ExecutionSpec::default()
    };
    let (requests, receiver) = mpsc::channel(REQUESTS);
    // There is room: the queue is new.
    let _ = requests.send(request(Sent::Start(spec))).await;
    let mut client = ExecutionServiceClient::new(connection);
    let answers = client.execute(ReceiverStream::new(receiver)).await;
    let answers = answers.map_err(ClientError::from)?.into_inner();
    let _raw = RawTerminal::enter()?;
    forward_stdin(requests.clone());
    tokio::select! {
        ended = follow(answers) => ended,
        never = forward_size(resized, requests) => never,
    }
}

async fn follow(mut answers: Streaming<ExecuteResponse>) -> Result<Exit, ShellError> {
    while let Some(answer) = answers.message().await.map_err(ClientError::from)? {
        match answer.event {
            Some(Event::Stdout(bytes)) => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(&bytes)?;
                stdout.flush()?;
            }
            Some(Event::Finished(finished)) => {
                return Exit::of(&finished).ok_or(ShellError::NoOutcome);
            }
            _ => {}
        }
    }
    Err(ShellError::NoOutcome)
}

/// Until the shell ends.
async fn forward_size(
    mut resized: Signal,
    requests: mpsc::Sender<ExecuteRequest>,
) -> Result<Exit, ShellError> {
    while resized.recv().await.is_some() {
        // An error says that the call has ended.
        let _ = requests.send(request(Sent::Resize(size()?))).await;
    }
    std::future::pending().await
}

/// Of the terminal that is typed in; one that knows none has 24 rows of 80.
fn size() -> io::Result<Terminal> {
    let size = tcgetwinsize(stdio::stdin())?;
    let or = |given: u16, default| u32::from(if given == 0 { default } else { given });
    Ok(Terminal {
        rows: or(size.ws_row, 24),
        columns: or(size.ws_col, 80),
    })
}

/// The terminal as it is while each key goes to the shell; dropped, it is as it was before.
struct RawTerminal(Termios);

impl RawTerminal {
    fn enter() -> io::Result<Self> {
        let before = tcgetattr(stdio::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(stdio::stdin(), OptionalActions::Drain, &raw)?;
        Ok(Self(before))
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        // Of a terminal that has gone nothing need be restored.
        let _ = tcsetattr(stdio::stdin(), OptionalActions::Drain, &self.0);
    }
}
