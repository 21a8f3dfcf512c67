//! `[shutdown]`: how the server ends.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{check::Check, units};

/// How the server ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShutdownConfig {
    /// How long running executions may go on after SIGTERM, before they end as Cancelled.
    /// A duration, at most an hour; default 30s.
    #[serde(with = "units::duration")]
    pub grace: Duration,
}

impl Default for ShutdownConfig {
    fn default() -> Self {
        Self {
            grace: Duration::from_secs(30),
        }
    }
}

impl ShutdownConfig {
    pub(super) fn check(&self, check: &mut Check) {
        if self.grace > Duration::from_secs(3600) {
            check.problem("shutdown.grace", "a duration of at most 1h");
        }
    }
}
