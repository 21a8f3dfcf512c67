//! How the program ended, as an exit code and in words.

use crate::{
    cli::{OWN_TROUBLE, client::printable},
    config::ByteSize,
    proto::v1::{Finished, finished::Outcome},
};

/// As timeout(1) has it.
const TIMED_OUT: u8 = 124;
/// As env(1) has it.
const CANNOT_START: u8 = 126;
const SIGNALED: u8 = 128;
const SIGINT: u8 = 2;
const SIGKILL: u8 = 9;
const SIGPIPE: u8 = 13;
/// "File size limit exceeded", the nearest that there is to a limit of output or disk.
const SIGXFSZ: u8 = 25;

/// The call was cancelled from here.
pub(super) const CANCELLED: u8 = SIGNALED + SIGINT;
/// Nobody reads our own output any more.
pub(super) const BROKEN_PIPE: u8 = SIGNALED + SIGPIPE;

/// The exit code, and what is to be said beside it.
pub(in crate::cli) struct Exit {
    pub(in crate::cli) code: u8,
    pub(in crate::cli) message: Option<String>,
}

impl Exit {
    fn quiet(code: u8) -> Self {
        Self {
            code,
            message: None,
        }
    }

    fn because(code: u8, message: String) -> Self {
        Self {
            code,
            message: Some(message),
        }
    }

    /// `None` if the server did not say how it ended.
    pub(in crate::cli) fn of(finished: &Finished) -> Option<Self> {
        let exit = match finished.outcome.as_ref()? {
            // As the kernel: the lowest eight bits.
            Outcome::Exited(exited) => Self::quiet(exited.code.to_le_bytes()[0]),
            Outcome::Signaled(signaled) => {
                let number = u8::try_from(signaled.signal).unwrap_or(0).min(64);
                Self::quiet(SIGNALED + number)
            }
            Outcome::TimedOut(timed_out) => {
                let limit = timed_out.timeout.and_then(|limit| limit.try_into().ok());
                let limit = limit.map_or_else(String::new, |limit: std::time::Duration| {
                    format!(" after {}", humantime::format_duration(limit))
                });
                Self::because(TIMED_OUT, format!("timed out{limit}"))
            }
            Outcome::OutOfMemory(end) => Self::because(
                SIGNALED + SIGKILL,
                format!("out of memory at {}", ByteSize::new(end.memory_bytes)),
            ),
            Outcome::OutputLimit(end) => Self::because(
                SIGNALED + SIGXFSZ,
                format!("more output than {}", ByteSize::new(end.output_bytes)),
            ),
            Outcome::DiskLimit(end) => Self::because(
                SIGNALED + SIGXFSZ,
                format!("more in files than {}", ByteSize::new(end.disk_bytes)),
            ),
            Outcome::Cancelled(end) => Self::because(
                OWN_TROUBLE,
                format!("cancelled: {}", printable(&end.reason)),
            ),
            Outcome::SandboxLost(lost) => {
                let cause = lost.cause().as_str_name();
                let reason = printable(&lost.reason);
                Self::because(OWN_TROUBLE, format!("sandbox lost, {cause}: {reason}"))
            }
            Outcome::NotStarted(end) => Self::because(
                CANNOT_START,
                format!("not started: {}", printable(&end.reason)),
            ),
        };
        Some(exit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::v1::{
        Cancelled, Exited, NotStarted, OutOfMemory, OutputLimit, SandboxLost, Signaled, TimedOut,
        sandbox_lost::Cause,
    };

    fn exit(outcome: Outcome) -> (u8, String) {
        let finished = Finished {
            outcome: Some(outcome),
            ..Finished::default()
        };
        let exit = Exit::of(&finished).unwrap();
        (exit.code, exit.message.unwrap_or_default())
    }

    #[test]
    fn the_programs_own_end_is_handed_on_without_a_word() {
        for (code, expected) in [(0, 0), (1, 1), (255, 255), (256, 0), (-1, 255)] {
            assert_eq!(
                exit(Outcome::Exited(Exited { code })),
                (expected, String::new())
            );
        }
        for (signal, expected) in [(9, 137), (15, 143), (64, 192), (-1, 128), (1000, 128)] {
            let name = String::new();
            let outcome = Outcome::Signaled(Signaled { signal, name });
            assert_eq!(exit(outcome), (expected, String::new()));
        }
    }

    #[test]
    fn every_other_end_has_its_code_and_its_reason() {
        let timeout = prost_types::Duration {
            seconds: 90,
            nanos: 0,
        };
        let lost = SandboxLost {
            cause: Cause::Unknown.into(),
            reason: "gone\x1b[2J".to_owned(),
        };
        let reason = || "why".to_owned();
        for (outcome, code, message) in [
            (
                Outcome::TimedOut(TimedOut {
                    timeout: Some(timeout),
                }),
                124,
                "timed out after 1m 30s",
            ),
            (
                Outcome::OutOfMemory(OutOfMemory {
                    memory_bytes: 256 << 20,
                }),
                137,
                "out of memory at 256MiB",
            ),
            (
                Outcome::OutputLimit(OutputLimit { output_bytes: 5 }),
                153,
                "more output than 5B",
            ),
            (
                Outcome::Cancelled(Cancelled { reason: reason() }),
                125,
                "cancelled: why",
            ),
            (
                Outcome::SandboxLost(lost),
                125,
                "sandbox lost, UNKNOWN: gone\\u{1b}[2J",
            ),
            (
                Outcome::NotStarted(NotStarted { reason: reason() }),
                126,
                "not started: why",
            ),
        ] {
            assert_eq!(exit(outcome), (code, message.to_owned()));
        }
        assert!(Exit::of(&Finished::default()).is_none());
    }
}
