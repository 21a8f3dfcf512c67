//! How a program ended: typed, and in words that say what can be done.

use rmcp::schemars::{self, JsonSchema};
use serde::Serialize;

use crate::{
    cli::{client::printable, run::Exit},
    proto::v1::{Finished, finished, sandbox_lost::Cause},
};

/// As the server's API names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub(super) enum Kind {
    Exited,
    Signaled,
    TimedOut,
    OutOfMemory,
    DiskLimit,
    OutputLimit,
    Cancelled,
    SandboxLost,
    NotStarted,
}

/// How it ended.
pub(super) struct Outcome {
    pub(super) kind: Kind,
    pub(super) exit_code: Option<i32>,
    pub(super) words: String,
}

impl Outcome {
    /// `None` if the server did not say.
    pub(super) fn of(finished: &Finished) -> Option<Self> {
        let outcome = finished.outcome.as_ref()?;
        let said = Exit::of(finished).and_then(|exit| exit.message);
        let said = said.unwrap_or_default();
        let (kind, exit_code, words) = match outcome {
            finished::Outcome::Exited(exited) => (
                Kind::Exited,
                Some(exited.code),
                format!("exit code {}", exited.code),
            ),
            finished::Outcome::Signaled(signaled) => {
                let (number, name) = (signaled.signal, printable(&signaled.name));
                let words = format!("ended by signal {number} {name}");
                (Kind::Signaled, None, words.trim_end().to_owned())
            }
            finished::Outcome::TimedOut(_) => (
                Kind::TimedOut,
                None,
                format!("{said}: give it a longer timeout_seconds, or less to do"),
            ),
            finished::Outcome::OutOfMemory(_) => (
                Kind::OutOfMemory,
                None,
                format!("{said}: work on less data at once"),
            ),
            finished::Outcome::DiskLimit(_) => (
                Kind::DiskLimit,
                None,
                format!("{said}: write less, or remove what is not needed"),
            ),
            finished::Outcome::OutputLimit(_) => (
                Kind::OutputLimit,
                None,
                format!("{said}: write into a file instead"),
            ),
            finished::Outcome::Cancelled(_) => (Kind::Cancelled, None, said),
            finished::Outcome::SandboxLost(lost) => {
                let remedy = match lost.cause() {
                    Cause::BeforeStart => "its start was not confirmed: call again",
                    _ => "it may have run in part: call again if that does no harm",
                };
                (Kind::SandboxLost, None, format!("{said}: {remedy}"))
            }
            finished::Outcome::NotStarted(_) => (Kind::NotStarted, None, said),
        };
        Some(Self {
            kind,
            exit_code,
            words,
        })
    }

    /// Whether it did what it should, as far as it says.
    pub(super) fn is_success(&self) -> bool {
        self.exit_code == Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::v1::{Exited, SandboxLost, Signaled, TimedOut};

    fn outcome(outcome: finished::Outcome) -> Outcome {
        let finished = Finished {
            outcome: Some(outcome),
            ..Finished::default()
        };
        Outcome::of(&finished).unwrap()
    }

    #[test]
    fn only_exit_code_0_is_a_success() {
        for (code, success) in [(0, true), (1, false), (256, false)] {
            let outcome = outcome(finished::Outcome::Exited(Exited { code }));
            assert_eq!(
                (outcome.is_success(), outcome.exit_code),
                (success, Some(code))
            );
        }
        let timed_out = outcome(finished::Outcome::TimedOut(TimedOut { timeout: None }));
        assert!(!timed_out.is_success());
    }

    #[test]
    fn words_say_what_happened_and_what_can_be_done() {
        let signaled = Signaled {
            signal: 9,
            name: "SIGKILL".to_owned(),
        };
        let lost = SandboxLost {
            cause: Cause::BeforeStart.into(),
            reason: "gone".to_owned(),
        };
        for (ended, words) in [
            (
                finished::Outcome::Signaled(signaled),
                "ended by signal 9 SIGKILL",
            ),
            (
                finished::Outcome::SandboxLost(lost),
                "sandbox lost, BEFORE_START: gone: its start was not confirmed: call again",
            ),
        ] {
            assert_eq!(outcome(ended).words, words);
        }
        assert!(Outcome::of(&Finished::default()).is_none());
    }
}
