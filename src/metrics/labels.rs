//! What the numbers are told apart by: the pool, whose name comes from the configuration, and
//! members of closed sets. Nothing that a caller or a program says becomes a label.

use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OfPool {
    pub(super) pool: Arc<str>,
}

/// See [`Outcome::name`](crate::execution::Outcome::name).
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OfOutcome {
    pub(super) pool: Arc<str>,
    pub(super) outcome: &'static str,
}

/// See [`LostCause::name`](crate::execution::LostCause::name).
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OfCause {
    pub(super) pool: Arc<str>,
    pub(super) cause: &'static str,
}

/// See [`RefusalReason::name`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OfReason {
    pub(super) pool: Arc<str>,
    pub(super) reason: &'static str,
}

/// Why a valid request got no sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalReason {
    /// Its id is not new.
    AlreadyExists,
    /// Its caller went away while it waited.
    CallerGone,
    /// As many requests of its caller wait as one caller may have.
    CallerQueueFull,
    /// The cells before it in its context took too long.
    ContextBusy,
    /// Its context takes no cells any more.
    ContextEnded,
    /// The pool is drained.
    Drained,
    /// The sandboxes may be another server's by now.
    NotOwner,
    /// As many requests wait as the pool allows.
    QueueFull,
    /// It has waited as long as it may.
    QueueTimeout,
    /// As much is done in its named sandbox as may be at once.
    SandboxBusy,
    /// The server is shutting down.
    ShuttingDown,
    /// Its caller has as many executions under way as one caller may have.
    TooManyExecutions,
    /// Its caller has as many named sandboxes as one caller may have.
    TooManySandboxes,
}

impl RefusalReason {
    /// All that there are.
    pub const ALL: [Self; 13] = [
        Self::AlreadyExists,
        Self::CallerGone,
        Self::CallerQueueFull,
        Self::ContextBusy,
        Self::ContextEnded,
        Self::Drained,
        Self::NotOwner,
        Self::QueueFull,
        Self::QueueTimeout,
        Self::SandboxBusy,
        Self::ShuttingDown,
        Self::TooManyExecutions,
        Self::TooManySandboxes,
    ];

    /// Its label.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AlreadyExists => "already_exists",
            Self::CallerGone => "caller_gone",
            Self::CallerQueueFull => "caller_queue_full",
            Self::Drained => "drained",
            Self::NotOwner => "not_owner",
            Self::QueueFull => "queue_full",
            Self::QueueTimeout => "queue_timeout",
            Self::SandboxBusy => "sandbox_busy",
            Self::ContextBusy => "context_busy",
            Self::ContextEnded => "context_ended",
            Self::ShuttingDown => "shutting_down",
            Self::TooManyExecutions => "too_many_executions",
            Self::TooManySandboxes => "too_many_sandboxes",
        }
    }
}
