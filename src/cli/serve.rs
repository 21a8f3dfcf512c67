//! `sandpool serve`

use std::process::ExitCode;

use clap::Args;

use super::sources::SourceArgs;
use crate::{
    config::{Config, ConfigError},
    serve::{self, ServeError},
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
    #[error(transparent)]
    Serve(#[from] ServeError),
}

pub(super) async fn main(args: ServeArgs) -> ExitCode {
    match serve(args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sandpool: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(args: ServeArgs) -> Result<(), ServeCommandError> {
    let config = Config::load(&args.sources.into_sources())?;
    telemetry::init(&config.log)?;
    serve::run(config).await?;
    Ok(())
}
