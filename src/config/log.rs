//! `[log]`: what is logged, and how.

use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;

use super::check::Check;

/// What is logged to stderr, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogConfig {
    /// A level (off, error, warn, info, debug, trace), or tracing directives such as
    /// "info,sandpool::pool=debug". No unit; default info.
    pub level: String,
    /// How a line looks. No unit; default auto.
    pub format: LogFormat,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people when stderr is a terminal, JSON otherwise.
    Auto,
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            level: "info".to_owned(),
            format: LogFormat::Auto,
        }
    }
}

impl LogConfig {
    pub(super) fn check(&self, check: &mut Check) {
        if EnvFilter::try_new(&self.level).is_err() {
            check.problem(
                "log.level",
                "off, error, warn, info, debug, trace, or tracing directives such as \
                 \"info,sandpool::pool=debug\"",
            );
        }
    }
}
