//! `sandpool mcp`: sandboxes as tools of the Model Context Protocol, over standard input and output.
//!
//! - `tools`: which tools there are, and which of them a call means; `arguments`: what they take
//! - `session`: what lives as long as it, and ends with it; `connection`: its way to the server; `stdin`, `lines`: what
//!   it reads; `log`: standard error
//! - `run`: programs as tools; `execute`: one of them until its end; `progress`: what is told meanwhile
//! - `outcome`, `excerpt`, `images`, `answer`: what is told of it afterwards, and how much
//! - `sandboxes`, `files`: the other tools
//! - `trouble`: why a call was not done, in words

mod answer;
mod arguments;
mod connection;
mod excerpt;
mod execute;
mod files;
mod images;
mod lines;
mod log;
mod outcome;
mod progress;
mod run;
mod sandboxes;
mod session;
mod stdin;
mod tools;
mod trouble;

use std::{
    io::{self, IsTerminal},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use clap::Args;
use rmcp::{ServiceExt, service::ServerInitializeError, transport::stdio_pipes};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::{
    Layer, filter::Targets, fmt, layer::SubscriberExt, registry, util::SubscriberInitExt,
};

use self::{log::Log, session::Session, stdin::Input, tools::Tools};
use super::{client::ServerArgs, ending::Ending, exit_code};

/// How long answers that are not written yet may take after the end.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

#[derive(Args)]
pub(super) struct McpArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// Take sandboxes from this pool instead of the server's default pool.
    #[arg(long)]
    pool: Option<String>,
    /// Answer with content alone, for clients that show no content (images, for example) beside structured content.
    #[arg(long)]
    no_structured_content: bool,
}

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
enum McpError {
    #[error("cannot wait for signals: {0}")]
    Signals(#[from] io::Error),
    #[error("whoever has started this does not speak MCP: its first message must be initialize")]
    NoInitialize,
    #[error("the session did not begin: {0}")]
    Handshake(Box<ServerInitializeError>),
    #[error("the session crashed: {0}")]
    Crashed(#[from] tokio::task::JoinError),
}

/// Until the end of standard input, or a signal.
pub(super) async fn main(args: McpArgs) -> ExitCode {
    let log = match Log::start() {
        Ok(log) => log,
        Err(error) => return exit_code(Err(error)),
    };
    let served = serve(args, &log).await;
    if let Err(error) = &served {
        log.say(error);
    }
    log.flush().await;
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

async fn serve(args: McpArgs, log: &Log) -> Result<(), McpError> {
    log_into(log.clone());
    if io::stdin().is_terminal() {
        log.say("this speaks MCP with the program that has started it (docs/mcp.md)");
    }
    let end = CancellationToken::new();
    end_on_signal(end.clone())?;
    let session = Arc::new(Session::new(
        args.server,
        args.pool.unwrap_or_default(),
        log.clone(),
    ));
    tokio::spawn(session.clone().tell_if_away());
    let tools = Tools::new(session.clone(), !args.no_structured_content);
    let (reader, writer) = stdio_pipes();
    let reader = Input::new(reader, end.clone());
    let serving = async {
        match tools.serve_with_ct((reader, writer), end.clone()).await {
            Ok(running) => running.waiting().await.map(drop).map_err(McpError::from),
            Err(ServerInitializeError::Cancelled | ServerInitializeError::ConnectionClosed(_)) => {
                Ok(())
            }
            // Its own words have the message in them.
            Err(ServerInitializeError::ExpectedInitializeRequest(_)) => Err(McpError::NoInitialize),
            Err(error) => Err(McpError::Handshake(Box::new(error))),
        }
    };
    let too_late = async {
        end.cancelled().await;
        sleep(LAST_ANSWERS).await;
    };
    let served = tokio::select! {
        served = serving => served,
        // The SDK waits for a client that does not read for as long as it likes.
        () = too_late => Ok(()),
    };
    session.close().await;
    served
}

/// Standard output is the protocol's.
fn log_into(log: Log) {
    let levels = Targets::new()
        .with_default(LevelFilter::WARN)
        // It warns of each call that is cancelled, or answered with an error.
        .with_target("rmcp::service", LevelFilter::ERROR);
    let lines = fmt::layer()
        .with_writer(move || log.clone())
        .with_ansi(false);
    registry().with(lines.with_filter(levels)).init();
}

/// A second signal does not stop what is done at the end: that has a deadline.
fn end_on_signal(end: CancellationToken) -> io::Result<()> {
    let ending = Ending::listen()?;
    tokio::spawn(async move {
        ending.asked_for().await;
        end.cancel();
    });
    Ok(())
}
