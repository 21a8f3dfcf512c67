//! Wires the parts together and runs the server.

use crate::config::Config;

/// Why the server ended, or did not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The parts are not wired together yet.
    #[error("this build has no server yet")]
    NotWired,
}

/// Serves until a signal ends it.
///
/// # Errors
/// What kept it from starting, or ended it before a signal did.
#[allow(clippy::unused_async)]
pub async fn run(config: Config) -> Result<(), ServeError> {
    drop(config);
    Err(ServeError::NotWired)
}
