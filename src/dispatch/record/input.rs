//! What may be sent to a program.

use std::sync::{Mutex, PoisonError};

use tokio::sync::mpsc;

use crate::{execution::Spec, sandbox::Input};

/// Pieces that the program has not taken yet.
const INPUTS: usize = 4;

/// Why something was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotSent {
    /// The program has ended.
    Ended,
    /// Its stdin was at its end from the start.
    StdinNotOpen,
    /// Its stdin is at its end.
    StdinClosed,
    /// It has no terminal.
    NoTerminal,
}

/// The way to a program, for all who may send it something: its own call and, if it goes on without that, others.
pub struct ProgramInput {
    to_program: mpsc::Sender<Input>,
    stdin: Mutex<Stdin>,
    has_terminal: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stdin {
    NeverOpen,
    Open,
    Closed,
}

impl ProgramInput {
    pub(in crate::dispatch) fn new(spec: &Spec) -> (Self, mpsc::Receiver<Input>) {
        let (to_program, input) = mpsc::channel(INPUTS);
        let stdin = if spec.stdin_open {
            Stdin::Open
        } else {
            Stdin::NeverOpen
        };
        let new = Self {
            to_program,
            stdin: Mutex::new(stdin),
            has_terminal: spec.terminal.is_some(),
        };
        (new, input)
    }

    /// Sends something, once the program has taken what came before. The end of stdin may come again.
    ///
    /// # Errors
    /// See [`NotSent`].
    pub async fn send(&self, input: Input) -> Result<(), NotSent> {
        {
            let mut stdin = self.stdin.lock().unwrap_or_else(PoisonError::into_inner);
            match (&input, *stdin) {
                (Input::Data(_), Stdin::NeverOpen) => return Err(NotSent::StdinNotOpen),
                (Input::Data(_), Stdin::Closed) => return Err(NotSent::StdinClosed),
                (Input::Close, Stdin::Open) => *stdin = Stdin::Closed,
                (Input::Resize(_), _) if !self.has_terminal => return Err(NotSent::NoTerminal),
                _ => {}
            }
        }
        let sent = self.to_program.send(input).await;
        sent.map_err(|_| NotSent::Ended)
    }

    /// Resolves once the program has ended.
    pub async fn closed(&self) {
        self.to_program.closed().await;
    }
}
