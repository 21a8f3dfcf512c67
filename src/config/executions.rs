//! `[executions]`: how many one caller may have, and what is remembered of them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    check::Check,
    units::{self, ByteSize},
};

/// How many executions one caller may have, and how long their ids are known, so that the same id
/// does not run twice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExecutionsConfig {
    /// How many ended executions are remembered; the oldest is forgotten first.
    /// A number from 1 to 10,000,000; default 10000.
    pub remembered: u32,
    /// How long an ended execution is remembered. A duration, at most a day; default 10m.
    #[serde(with = "units::duration")]
    pub remember_for: Duration,
    /// How much of each stream's newest output is kept of an execution that outlives its call. A size of at least
    /// 4KiB; default 1MiB.
    pub kept_output: ByteSize,
    /// How much output of ended executions is kept in all; the oldest is given up first. A size;
    /// default 256MiB.
    pub kept_output_total: ByteSize,
    /// How many executions of one caller may be under way at once, those that wait for a sandbox
    /// included. A number; 0 (the default) sets no limit.
    pub max_concurrent_per_caller: u32,
}

impl Default for ExecutionsConfig {
    fn default() -> Self {
        Self {
            remembered: 10_000,
            remember_for: Duration::from_secs(600),
            kept_output: ByteSize::mib(1),
            kept_output_total: ByteSize::mib(256),
            max_concurrent_per_caller: 0,
        }
    }
}

impl ExecutionsConfig {
    pub(super) fn check(&self, check: &mut Check) {
        check.range("executions.remembered", self.remembered, 1, 10_000_000);
        if self.remember_for > Duration::from_secs(24 * 3600) {
            check.problem("executions.remember_for", "a duration of at most 1d");
        }
        if self.kept_output.bytes() < 4096 {
            check.problem("executions.kept_output", "a size of at least 4KiB");
        }
    }
}
