//! `[pools.NAME.named]`: sandboxes that callers keep.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{check::Check, units};

/// The bounds of a pool's named sandboxes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamedConfig {
    /// How long one lives that asks for nothing else. A duration, at most max_lifetime; default 1h.
    #[serde(with = "units::duration")]
    pub default_lifetime: Duration,
    /// How long one may live, however often it is extended. A duration from 1s to 30d; default 24h.
    #[serde(with = "units::duration")]
    pub max_lifetime: Duration,
    /// After how much time in which nothing is done in it one ends that asks for nothing else. A
    /// duration, at most max_lifetime; default 10m.
    #[serde(with = "units::duration")]
    pub default_idle_timeout: Duration,
    /// How many of the pool's sandboxes one caller may keep at once. A number, at most max_sandboxes;
    /// 0 (the default) takes half of max_sandboxes.
    pub max_per_caller: u32,
}

impl Default for NamedConfig {
    fn default() -> Self {
        Self {
            default_lifetime: Duration::from_secs(3600),
            max_lifetime: Duration::from_secs(24 * 3600),
            default_idle_timeout: Duration::from_secs(600),
            max_per_caller: 0,
        }
    }
}

impl NamedConfig {
    /// Puts what is in force where 0 stands for something derived.
    pub(super) fn resolve(&mut self, max_sandboxes: u32) {
        if self.max_per_caller == 0 {
            self.max_per_caller = max_sandboxes.div_ceil(2);
        }
    }

    pub(super) fn check(&self, key: &str, max_sandboxes: u32, check: &mut Check) {
        let (least, most) = (Duration::from_secs(1), Duration::from_secs(30 * 24 * 3600));
        if self.max_lifetime < least || self.max_lifetime > most {
            check.problem(format!("{key}.max_lifetime"), "a duration from 1s to 30d");
        }
        for (last, value) in [
            ("default_lifetime", self.default_lifetime),
            ("default_idle_timeout", self.default_idle_timeout),
        ] {
            if value.is_zero() || value > self.max_lifetime {
                let max = humantime::format_duration(self.max_lifetime);
                check.problem(
                    format!("{key}.{last}"),
                    format!("a duration of more than 0s, at most max_lifetime, {max}"),
                );
            }
        }
        if self.max_per_caller > max_sandboxes {
            let expected = format!("at most max_sandboxes, {max_sandboxes}");
            check.problem(format!("{key}.max_per_caller"), expected);
        }
    }
}
