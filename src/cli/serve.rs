//! `sandpool serve`

use std::{io, process::ExitCode};

use clap::Args;
use tokio::{
    runtime::Builder,
    signal::unix::{SignalKind, signal},
};
use tracing::debug;

use super::{
    say::{complain, say},
    sources::SourceArgs,
};
use crate::{
    config::{Config, ConfigError},
    huge_pages,
    serve::{self, Running, ServeError},
    telemetry::{self, TelemetryError},
};

#[derive(Args)]
pub(super) struct ServeArgs {
    #[command(flatten)]
    sources: SourceArgs,
}

/// Why the server is not there (any more).
#[derive(Debug, thiserror::Error)]
enum ServeCommandError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    #[error("cannot start threads: {0}")]
    Threads(io::Error),
    #[error("cannot wait for signals: {0}")]
    Signals(io::Error),
    #[error(transparent)]
    Serve(#[from] ServeError),
}

pub(super) fn main(args: ServeArgs) -> ExitCode {
    match serve(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(error);
            ExitCode::FAILURE
        }
    }
}

fn serve(args: ServeArgs) -> Result<(), ServeCommandError> {
    let config = Config::load(&args.sources.into_sources())?;
    telemetry::init(&config.log)?;
    // Before there are threads.
    match huge_pages::hold_program() {
        Ok(0) => debug!("this machine has no transparent huge pages for the code"),
        Ok(bytes) => debug!(bytes, "code is on huge pages"),
        Err(error) => debug!(%error, "code is not on huge pages"),
    }
    let runtime = Builder::new_multi_thread()
        .worker_threads(config.threads as usize)
        .enable_all()
        .build()
        .map_err(ServeCommandError::Threads)?;
    let served = runtime.block_on(until_signal(config));
    // Not waiting for a file that is still being read.
    runtime.shutdown_background();
    served
}

async fn until_signal(config: Config) -> Result<(), ServeCommandError> {
    // Waited for from here on, so that a signal during the start is not lost, either.
    let mut terminate = signal(SignalKind::terminate()).map_err(ServeCommandError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(ServeCommandError::Signals)?;
    let shutdown = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    serve::run(config, shutdown, announce).await?;
    Ok(())
}

/// On stdout, where the log is not: what waits for the server can read it line by line.
fn announce(running: Running) {
    say(&format!("listening on {}", running.address));
    if let Some(address) = running.metrics {
        say(&format!("metrics on {address}"));
    }
    tokio::spawn(async move {
        // An error says that the server ended before; it says why itself.
        if running.warm.await.is_ok() {
            // As this program was called, which is how it will be found again.
            let program = std::env::args().next().unwrap_or_else(|| "sandpool".into());
            say(&format!(
                "ready\ntry: {program} run --language python -c 'print(6 * 7)'"
            ));
        }
    });
}
