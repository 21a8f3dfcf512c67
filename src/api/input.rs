//! The order of the messages that an Execute call may send: a state machine without a stream.

use bytes::Bytes;

use super::translate::terminal;
use crate::{
    execution::TerminalSize,
    proto::v1::{self, execute_request::Event},
};

/// Most bytes of stdin in one message: a message stays small, so that others get through.
pub const MAX_STDIN_BYTES: usize = 1024 * 1024;

/// Linux's signals; 0 would only ask whether the process is there.
const SIGNALS: std::ops::RangeInclusive<i32> = 1..=64;

/// A message that may come where it came.
///
/// Start comes once, and first.
pub enum Accepted {
    /// The call's spec; not yet checked.
    Start(Box<v1::ExecutionSpec>),
    /// The next bytes of stdin; never after [`Accepted::CloseStdin`].
    Stdin(Bytes),
    /// stdin is at its end. May come again, and where it was never open: it says nothing new then.
    CloseStdin,
    /// A signal for the program, 1 to 64.
    Signal(i32),
    /// Another size of the program's terminal.
    Resize(TerminalSize),
}

/// Why a message ends its call. The text is a predicate: it follows the field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InputError {
    /// Nothing is known yet of what to run.
    #[error("is missing: the first message must be start")]
    NotStarted,
    /// One call runs one program.
    #[error("came a second time: make another call for another program")]
    StartedTwice,
    /// The spec said that there is no stdin.
    #[error("was not announced: set start.stdin_open to send it")]
    StdinNotOpen,
    /// It was said to be at its end.
    #[error("came after close_stdin: send close_stdin last")]
    StdinClosed,
    /// Over [`MAX_STDIN_BYTES`].
    #[error(
        "has {0} bytes, where at most {MAX_STDIN_BYTES} are allowed in a message: send it in pieces"
    )]
    StdinTooLarge(usize),
    /// Linux has no such signal.
    #[error("is {0}, which is no signal: give {first} to {last}, for example 15 for SIGTERM", first = SIGNALS.start(), last = SIGNALS.end())]
    UnknownSignal(i32),
    /// The spec asked for no terminal.
    #[error("came for a program without a terminal: set start.terminal")]
    NoTerminal,
    /// No terminal has that size.
    #[error("{0}")]
    TerminalSize(terminal::BadSize),
    /// No event, or one that this version does not know.
    #[error("is missing: set one of start, stdin, close_stdin, signal or resize")]
    Empty,
}

impl InputError {
    /// The field of the ExecuteRequest that is at fault.
    #[must_use]
    pub fn field(self) -> &'static str {
        match self {
            Self::NotStarted | Self::StartedTwice => "start",
            Self::StdinNotOpen | Self::StdinClosed | Self::StdinTooLarge(_) => "stdin",
            Self::UnknownSignal(_) => "signal.number",
            Self::NoTerminal => "resize",
            Self::TerminalSize(bad) => bad.field("resize.rows", "resize.columns"),
            Self::Empty => "event",
        }
    }
}

/// What an Execute call has sent so far, as far as it matters to what may follow.
#[derive(Debug, Default)]
pub struct Input {
    stage: Stage,
    has_terminal: bool,
}

#[derive(Clone, Copy, Debug, Default)]
enum Stage {
    #[default]
    Nothing,
    StdinNeverOpen,
    StdinOpen,
    StdinClosed,
}

/// Checks the number of a signal.
pub(super) fn signal(number: i32) -> Result<i32, InputError> {
    if SIGNALS.contains(&number) {
        Ok(number)
    } else {
        Err(InputError::UnknownSignal(number))
    }
}

impl Input {
    /// A call that has sent nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the call's next message. After an error the call is to be ended; the state is what it
    /// was before.
    pub fn accept(&mut self, request: v1::ExecuteRequest) -> Result<Accepted, InputError> {
        match (self.stage, request.event.ok_or(InputError::Empty)?) {
            (Stage::Nothing, Event::Start(spec)) => {
                self.has_terminal = spec.terminal.is_some();
                self.stage = if spec.stdin_open || self.has_terminal {
                    Stage::StdinOpen
                } else {
                    Stage::StdinNeverOpen
                };
                Ok(Accepted::Start(Box::new(spec)))
            }
            (
                Stage::Nothing,
                Event::Stdin(_) | Event::CloseStdin(_) | Event::Signal(_) | Event::Resize(_),
            ) => Err(InputError::NotStarted),
            (Stage::StdinNeverOpen | Stage::StdinOpen | Stage::StdinClosed, Event::Start(_)) => {
                Err(InputError::StartedTwice)
            }
            (Stage::StdinNeverOpen, Event::Stdin(_)) => Err(InputError::StdinNotOpen),
            (Stage::StdinClosed, Event::Stdin(_)) => Err(InputError::StdinClosed),
            (Stage::StdinOpen, Event::Stdin(bytes)) => {
                if bytes.len() > MAX_STDIN_BYTES {
                    return Err(InputError::StdinTooLarge(bytes.len()));
                }
                Ok(Accepted::Stdin(bytes))
            }
            (Stage::StdinOpen, Event::CloseStdin(_)) => {
                self.stage = Stage::StdinClosed;
                Ok(Accepted::CloseStdin)
            }
            (Stage::StdinNeverOpen | Stage::StdinClosed, Event::CloseStdin(_)) => {
                Ok(Accepted::CloseStdin)
            }
            (
                Stage::StdinNeverOpen | Stage::StdinOpen | Stage::StdinClosed,
                Event::Signal(signal),
            ) => self::signal(signal.number).map(Accepted::Signal),
            (
                Stage::StdinNeverOpen | Stage::StdinOpen | Stage::StdinClosed,
                Event::Resize(size),
            ) => {
                if !self.has_terminal {
                    return Err(InputError::NoTerminal);
                }
                let size = terminal::size(size).map_err(InputError::TerminalSize)?;
                Ok(Accepted::Resize(size))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(stdin_open: bool) -> Event {
        Event::Start(v1::ExecutionSpec {
            stdin_open,
            ..v1::ExecutionSpec::default()
        })
    }

    fn stdin(bytes: usize) -> Event {
        Event::Stdin(Bytes::from(vec![b'x'; bytes]))
    }

    fn close() -> Event {
        Event::CloseStdin(v1::CloseStdin {})
    }

    fn signal(number: i32) -> Event {
        Event::Signal(v1::Signal { number })
    }

    /// What comes of the last of `events`; those before it must be accepted.
    fn last(events: Vec<Event>) -> Result<Accepted, InputError> {
        let mut input = Input::new();
        let mut answer = Err(InputError::Empty);
        let count = events.len();
        for (index, event) in events.into_iter().enumerate() {
            answer = input.accept(v1::ExecuteRequest { event: Some(event) });
            assert!(answer.is_ok() || index + 1 == count, "message {index}");
        }
        answer
    }

    #[test]
    fn a_whole_conversation_is_accepted() {
        let mut input = Input::new();
        let mut accept = |event| input.accept(v1::ExecuteRequest { event: Some(event) });
        assert!(matches!(accept(start(true)), Ok(Accepted::Start(spec)) if spec.stdin_open));
        assert!(matches!(accept(stdin(3)), Ok(Accepted::Stdin(bytes)) if bytes == "xxx"));
        assert!(matches!(accept(stdin(0)), Ok(Accepted::Stdin(_))));
        assert!(matches!(accept(signal(2)), Ok(Accepted::Signal(2))));
        assert!(matches!(
            accept(stdin(MAX_STDIN_BYTES)),
            Ok(Accepted::Stdin(_))
        ));
        assert!(matches!(accept(close()), Ok(Accepted::CloseStdin)));
        assert!(matches!(accept(signal(64)), Ok(Accepted::Signal(64))));
    }

    #[test]
    fn closing_what_is_closed_says_nothing_new() {
        assert!(matches!(
            last(vec![start(false), close(), close()]),
            Ok(Accepted::CloseStdin)
        ));
        assert!(matches!(
            last(vec![start(true), close(), close()]),
            Ok(Accepted::CloseStdin)
        ));
    }

    #[test]
    fn each_message_out_of_place_names_its_field_and_the_remedy() {
        for (events, error, field, remedy) in [
            (
                vec![stdin(1)],
                InputError::NotStarted,
                "start",
                "first message must be start",
            ),
            (
                vec![close()],
                InputError::NotStarted,
                "start",
                "first message",
            ),
            (
                vec![signal(1)],
                InputError::NotStarted,
                "start",
                "first message",
            ),
            (
                vec![start(true), start(true)],
                InputError::StartedTwice,
                "start",
                "another call",
            ),
            (
                vec![start(true), close(), start(true)],
                InputError::StartedTwice,
                "start",
                "another call",
            ),
            (
                vec![start(false), stdin(1)],
                InputError::StdinNotOpen,
                "stdin",
                "set start.stdin_open",
            ),
            (
                vec![start(false), close(), stdin(1)],
                InputError::StdinNotOpen,
                "stdin",
                "set start.stdin_open",
            ),
            (
                vec![start(true), close(), stdin(1)],
                InputError::StdinClosed,
                "stdin",
                "send close_stdin last",
            ),
            (
                vec![start(true), stdin(MAX_STDIN_BYTES + 1)],
                InputError::StdinTooLarge(1_048_577),
                "stdin",
                "at most 1048576 are allowed",
            ),
            (
                vec![start(false), signal(0)],
                InputError::UnknownSignal(0),
                "signal.number",
                "is 0, which is no signal: give 1 to 64",
            ),
            (
                vec![start(false), signal(65)],
                InputError::UnknownSignal(65),
                "signal.number",
                "give 1 to 64",
            ),
            (
                vec![start(false), signal(-9)],
                InputError::UnknownSignal(-9),
                "signal.number",
                "is -9",
            ),
        ] {
            assert_eq!(last(events).err(), Some(error));
            assert_eq!(error.field(), field);
            assert!(error.to_string().contains(remedy), "{error}");
        }
    }

    #[test]
    fn a_message_without_an_event_is_refused() {
        let empty = v1::ExecuteRequest { event: None };
        assert_eq!(Input::new().accept(empty).err(), Some(InputError::Empty));
        assert_eq!(InputError::Empty.field(), "event");
    }

    #[test]
    fn a_refused_message_changes_nothing() {
        let mut input = Input::new();
        let mut accept = |event| input.accept(v1::ExecuteRequest { event: Some(event) });
        assert!(accept(stdin(1)).is_err());
        assert!(accept(start(true)).is_ok());
        assert!(accept(stdin(MAX_STDIN_BYTES + 1)).is_err());
        assert!(accept(stdin(1)).is_ok());
    }
}
