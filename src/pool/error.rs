//! Why the pool says no.

use std::{sync::Arc, time::Duration};

/// Why there is no lease.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError {
    /// As many requests wait for a sandbox as the pool allows.
    #[error("{limit} requests already wait for a sandbox of this pool; {key} raises the limit")]
    QueueFull {
        /// How many may wait.
        limit: u32,
        /// The configuration key of the limit.
        key: Arc<str>,
        /// When a sandbox may be free, estimated from recent starts; 100 ms to 30 s.
        retry_after: Duration,
    },
    /// As many requests of this caller wait as the pool allows one caller.
    #[error(
        "{limit} requests of this caller already wait for a sandbox of this pool; {key} raises \
         the limit"
    )]
    CallerQueueFull {
        /// How many of one caller may wait.
        limit: u32,
        /// The configuration key of the limit.
        key: Arc<str>,
        /// When a sandbox may be free, estimated from recent starts; 100 ms to 30 s.
        retry_after: Duration,
    },
    /// The caller's time in the queue is over.
    #[error("no sandbox became free within {waited:.1?}")]
    QueueTimeout {
        /// How long it waited.
        waited: Duration,
    },
    /// The pool was drained.
    #[error("the pool is drained and leases nothing more until the server restarts")]
    Drained,
    /// The server is shutting down.
    #[error("the server is shutting down")]
    ShuttingDown,
}

/// Why a pool keeps its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResizeError {
    /// A pool of none.
    #[error("max_sandboxes must be at least 1; to empty the pool, drain it")]
    NoSandboxes,
    /// More idle sandboxes than sandboxes.
    #[error(
        "min_idle {min_idle} is above max_sandboxes {max_sandboxes}: lower the one or raise the \
         other in the same request"
    )]
    MinIdleAboveMax {
        /// What min_idle would have been.
        min_idle: u32,
        /// What max_sandboxes would have been.
        max_sandboxes: u32,
    },
    /// The pool is drained or shutting down: it has no size any more.
    #[error("the pool is drained: it fills again only when the server restarts")]
    Drained,
}
