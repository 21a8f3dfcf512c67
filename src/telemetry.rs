//! Where log lines go, and how they look.

use std::io::{self, IsTerminal};

use tracing_subscriber::{
    EnvFilter, Layer, filter::ParseError, layer::SubscriberExt, util::SubscriberInitExt,
    util::TryInitError,
};

use crate::config::{LogConfig, LogFormat};

/// Why nothing would be logged.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// `log.level` is no filter.
    #[error("log.level is not a filter: {0}")]
    Filter(#[from] ParseError),
    /// The process logs elsewhere already.
    #[error("logging is set up already: {0}")]
    Again(#[from] TryInitError),
}

/// Logs to stderr from here on: for people on a terminal, JSON otherwise, unless the
/// configuration says which.
///
/// # Errors
/// The level is no filter, or logging was set up before.
pub fn init(config: &LogConfig) -> Result<(), TelemetryError> {
    let terminal = io::stderr().is_terminal();
    let json = match config.format {
        LogFormat::Auto => !terminal,
        LogFormat::Human => false,
        LogFormat::Json => true,
    };
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    let lines = if json {
        // The current span alone: the list would have the same once more.
        lines
            .json()
            .flatten_event(true)
            .with_span_list(false)
            .boxed()
    } else {
        lines.with_ansi(terminal).with_target(false).boxed()
    };
    let filter = EnvFilter::try_new(&config.level)?;
    tracing_subscriber::registry()
        .with(lines.with_filter(filter))
        .try_init()?;
    Ok(())
}
