//! How big a pool shall be, and how it is.

use std::{sync::Arc, time::Duration};

/// What a pool is made with. Checked by the configuration, not here.
#[derive(Clone, Debug)]
pub struct PoolSettings {
    /// The pool's name, part of its sandboxes' ids.
    pub name: String,
    /// How many sandboxes are kept warm beyond those that requests wait for.
    pub min_idle: u32,
    /// How many sandboxes there are at most, those being started and deleted included.
    pub max_sandboxes: u32,
    /// How many requests may wait for a sandbox.
    pub max_queued: u32,
    /// How many requests of one caller may wait; half of `max_queued`, at least 1, if not given.
    pub max_queued_per_caller: Option<u32>,
    /// How many sandboxes are started at the same time, at most; at least 1.
    pub max_starting: u32,
    /// How long a start that nobody waits for is put off, so that it does not share the processor
    /// with the very program whose lease made it necessary.
    pub start_delay: Duration,
    /// How many idle sandboxes keep a connection: those that are leased next. One without costs the
    /// program that gets it the time to connect.
    pub connected_idle: u32,
    /// How old an idle sandbox gets, about, before it is replaced.
    pub max_idle_age: Duration,
}

impl PoolSettings {
    /// Starts are bound by the processor more than by waiting: two for each of its threads.
    #[must_use]
    pub fn default_max_starting() -> u32 {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        u32::try_from(threads).unwrap_or(u32::MAX).saturating_mul(2)
    }

    pub(super) fn caller_limit(&self) -> u32 {
        self.max_queued_per_caller
            .unwrap_or((self.max_queued / 2).max(1))
    }
}

/// A pool at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolStatus {
    /// Sandboxes being started.
    pub starting: u32,
    /// Sandboxes that wait for a lease.
    pub idle: u32,
    /// Sandboxes in use.
    pub leased: u32,
    /// Sandboxes being deleted.
    pub recycling: u32,
    /// Requests that wait for a sandbox.
    pub queued: u32,
    /// How many are to be idle.
    pub min_idle: u32,
    /// How many there may be in all.
    pub max_sandboxes: u32,
    /// Whether min_idle has been reached once. A drained pool counts as warm: nobody need wait.
    pub warmed: bool,
    /// Whether it works.
    pub health: PoolHealth,
}

impl PoolStatus {
    /// All sandboxes, in whatever state.
    #[must_use]
    pub fn sandboxes(&self) -> u32 {
        self.starting + self.idle + self.leased + self.recycling
    }
}

/// Whether a pool works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PoolHealth {
    /// min_idle has not been reached yet.
    Warming,
    /// It was reached, and the last start succeeded.
    Ready,
    /// The last starts failed; they are retried with backoff.
    Unhealthy {
        /// Why the last one failed.
        reason: Arc<str>,
        /// How many failed in a row.
        failed_starts: u32,
    },
    /// It leases nothing more.
    Drained,
}
