//! The end of an execution, as its caller is told.

use std::time::Duration;

use crate::execution::{CodeError, Outcome, Usage};

/// How an execution ended.
#[derive(Clone)]
pub struct Finished {
    /// Exactly one.
    pub outcome: Outcome,
    /// As far as it is known.
    pub usage: Usage,
    /// How far it came, and when.
    pub timings: Timings,
    /// What a cell did not catch.
    pub error: Option<CodeError>,
    /// Whether the end is that of the cell's context.
    pub context_ended: bool,
    /// How many cells its context had run with it; 0 for what is no cell.
    pub execution_count: u64,
}

impl Finished {
    /// The same with no more of an exception than its name.
    pub(super) fn in_short(&self) -> Self {
        Self {
            error: self.error.as_ref().map(CodeError::named),
            ..self.clone()
        }
    }
}

#[cfg(test)]
impl Finished {
    /// An end that says nothing else.
    pub(crate) fn exited(code: i32) -> Box<Self> {
        Box::new(Self {
            outcome: Outcome::Exited(code),
            usage: Usage::default(),
            timings: Timings::default(),
            error: None,
            context_ended: false,
            execution_count: 0,
        })
    }
}

/// When the stages were reached, counted from the request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timings {
    /// The pool was asked.
    pub queued: Duration,
    /// It gave a sandbox.
    pub leased: Duration,
    /// The program was confirmed to exist.
    pub started: Option<Duration>,
    /// Its first output was there.
    pub first_output: Option<Duration>,
    /// It had ended.
    pub finished: Duration,
    /// Whether an interpreter that had waited took it.
    pub warm: bool,
}
