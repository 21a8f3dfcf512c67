//! How a program ended, as a closed set. The API's Finished is made from this alone.

use std::time::Duration;

/// What ended the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It exited with this code: the sandbox's claim.
    Exited(i32),
    /// A signal ended it: the sandbox's claim.
    Signaled(i32),
    /// The server ended it after this much time.
    TimedOut(Duration),
    /// It passed this many bytes of memory.
    OutOfMemory(u64),
    /// Its files passed this many bytes.
    DiskLimit(u64),
    /// It wrote more than this many bytes to stdout and stderr.
    OutputLimit(u64),
    /// The caller or the server ended it: who, and why.
    Cancelled(String),
    /// The sandbox is gone, and with it what became of the program.
    Lost(LostCause, String),
    /// The sandbox could not start it: why, in the sandbox's words.
    NotStarted(String),
}

impl Outcome {
    /// All that [`Self::name`] gives.
    pub const NAMES: [&str; 9] = [
        "exited",
        "signaled",
        "timed_out",
        "out_of_memory",
        "disk_limit",
        "output_limit",
        "cancelled",
        "sandbox_lost",
        "not_started",
    ];

    /// Its name in logs and metrics, as in the API.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Exited(_) => "exited",
            Self::Signaled(_) => "signaled",
            Self::TimedOut(_) => "timed_out",
            Self::OutOfMemory(_) => "out_of_memory",
            Self::DiskLimit(_) => "disk_limit",
            Self::OutputLimit(_) => "output_limit",
            Self::Cancelled(_) => "cancelled",
            Self::Lost(..) => "sandbox_lost",
            Self::NotStarted(_) => "not_started",
        }
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "it exited with code {code}"),
            Self::Signaled(signal) => write!(f, "signal {signal} ended it"),
            Self::TimedOut(limit) => write!(f, "it timed out after {limit:?}"),
            Self::OutOfMemory(bytes) => write!(f, "it was out of memory at {bytes} bytes"),
            Self::DiskLimit(bytes) => write!(f, "its files had more than {bytes} bytes"),
            Self::OutputLimit(bytes) => write!(f, "it wrote more than {bytes} bytes"),
            Self::Cancelled(reason) => write!(f, "it was cancelled: {reason}"),
            Self::Lost(_, reason) => write!(f, "its sandbox was lost: {reason}"),
            Self::NotStarted(reason) => write!(f, "it was not started: {reason}"),
        }
    }
}

/// What a caller may conclude from a lost sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LostCause {
    /// No sandbox confirmed its start: safe to repeat. What had begun all the same ends with its sandbox.
    BeforeStart,
    /// There is evidence from outside: eviction, node loss, deletion by another.
    InfrastructureEvent,
    /// It may have been the program's own doing.
    Unknown,
}

impl LostCause {
    /// All that there are.
    pub const ALL: [Self; 3] = [Self::BeforeStart, Self::InfrastructureEvent, Self::Unknown];

    /// Its name in metrics, as in the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::BeforeStart => "before_start",
            Self::InfrastructureEvent => "infrastructure_event",
            Self::Unknown => "unknown",
        }
    }
}

/// What a program used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// The sandbox's claim.
    pub cpu_time: Duration,
    /// The sandbox's claim.
    pub peak_memory_bytes: u64,
    /// Delivered by the server.
    pub stdout_bytes: u64,
    /// Delivered by the server.
    pub stderr_bytes: u64,
    /// Delivered by the server: displays, as they were encoded.
    pub display_bytes: u64,
    /// Displays that were left out, since there were too many.
    pub displays_omitted: u32,
    /// Output files that were left out.
    pub output_files_omitted: u32,
}
