//! `[pools.NAME.limits.*]`: the bounds of one execution.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    check::Check,
    pool::Volumes,
    units::{self, ByteSize},
};

/// The bounds of the executions of a pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolLimits {
    /// What a request gets that sets no limit of its own.
    pub default: Limits,
    /// The most that a request may set.
    pub max: Limits,
}

/// The bounds of one execution. Of two defaults the first is that of `limits.default`, the second
/// that of `limits.max`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Wall clock, counted from Started. A duration; default 30s, 10m.
    #[serde(with = "units::duration")]
    pub timeout: Duration,
    /// How long a request waits for a sandbox. A duration; default 10s, 5m.
    #[serde(with = "units::duration")]
    pub queue_timeout: Duration,
    /// Memory of all processes together, files in memory not counted. A size of at least 16MiB;
    /// default 256MiB, 512MiB.
    pub memory: ByteSize,
    /// Files in /workspace, /tmp and HOME together. A size, at most that of the volumes together,
    /// which is also what 0B (the default of both) means.
    pub disk: ByteSize,
    /// stdout and stderr together. A size; default 16MiB, 1GiB.
    pub output: ByteSize,
    /// Content of all output files together. A size; default 16MiB, 64MiB.
    pub output_files: ByteSize,
    /// Processes and threads at once. A number from 1 to 32768; default 64, 256.
    pub processes: u32,
}

impl Default for PoolLimits {
    fn default() -> Self {
        Self {
            default: Limits {
                timeout: Duration::from_secs(30),
                queue_timeout: Duration::from_secs(10),
                memory: ByteSize::mib(256),
                disk: ByteSize::default(),
                output: ByteSize::mib(16),
                output_files: ByteSize::mib(16),
                processes: 64,
            },
            max: Limits {
                timeout: Duration::from_secs(600),
                queue_timeout: Duration::from_secs(300),
                memory: ByteSize::mib(512),
                disk: ByteSize::default(),
                output: ByteSize::mib(1024),
                output_files: ByteSize::mib(64),
                processes: 256,
            },
        }
    }
}

impl PoolLimits {
    /// Puts the size of the volumes where 0B stands for it.
    pub(super) fn resolve(&mut self, volumes: &Volumes) {
        if self.max.disk == ByteSize::default() {
            self.max.disk = volumes.total();
        }
        if self.default.disk == ByteSize::default() {
            self.default.disk = self.max.disk;
        }
    }

    pub(super) fn check(&self, key: &str, volumes: &Volumes, check: &mut Check) {
        for (name, limits) in [("default", &self.default), ("max", &self.max)] {
            limits.check(&format!("{key}.{name}"), volumes, check);
        }
        let Self { default, max } = self;
        for (name, within) in [
            ("timeout", default.timeout <= max.timeout),
            ("queue_timeout", default.queue_timeout <= max.queue_timeout),
            ("memory", default.memory <= max.memory),
            ("disk", default.disk <= max.disk),
            ("output", default.output <= max.output),
            ("output_files", default.output_files <= max.output_files),
            ("processes", default.processes <= max.processes),
        ] {
            if !within {
                let expected = format!("at most {key}.max.{name}");
                check.problem(format!("{key}.default.{name}"), expected);
            }
        }
    }
}

impl Limits {
    fn check(&self, key: &str, volumes: &Volumes, check: &mut Check) {
        let day = Duration::from_secs(24 * 3600);
        for (name, value) in [
            ("timeout", self.timeout),
            ("queue_timeout", self.queue_timeout),
        ] {
            if value.is_zero() || value > day {
                check.problem(
                    format!("{key}.{name}"),
                    "a duration of more than 0s and at most 1d",
                );
            }
        }
        if self.memory < ByteSize::mib(16) {
            check.problem(format!("{key}.memory"), "a size of at least 16MiB");
        }
        if self.disk > volumes.total() {
            let expected = format!("at most the volumes' size together, {}", volumes.total());
            check.problem(format!("{key}.disk"), expected);
        }
        if self.output == ByteSize::default() {
            check.problem(format!("{key}.output"), "a size of more than 0B");
        }
        check.range(format!("{key}.processes"), self.processes, 1, 32_768);
    }
}
