//! Sandboxes being deleted, and when to try again with those that would not go.

use std::{
    collections::{BTreeSet, HashMap},
    time::Instant,
};

use super::{
    Number,
    backoff::{self, Jitter},
};

pub(super) struct Recycling {
    jitter: Jitter,
    // How often deleting it failed.
    failures: HashMap<Number, u32>,
    retries: BTreeSet<(Instant, Number)>,
}

impl Recycling {
    pub(super) fn new(jitter: Jitter) -> Self {
        Self {
            jitter,
            failures: HashMap::new(),
            retries: BTreeSet::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.failures.len()
    }

    pub(super) fn begin(&mut self, number: Number) {
        self.failures.insert(number, 0);
    }

    pub(super) fn done(&mut self, number: Number) {
        self.failures.remove(&number);
    }

    pub(super) fn failed(&mut self, number: Number, now: Instant) {
        let Some(failures) = self.failures.get_mut(&number) else {
            return;
        };
        *failures = failures.saturating_add(1);
        self.retries
            .insert((now + backoff::delay(*failures, self.jitter), number));
    }

    pub(super) fn next_retry(&self) -> Option<Instant> {
        self.retries.first().map(|(at, _)| *at)
    }

    /// Takes one whose next attempt is due.
    pub(super) fn due(&mut self, now: Instant) -> Option<Number> {
        self.retries.first().filter(|(at, _)| *at <= now)?;
        self.retries.pop_first().map(|(_, number)| number)
    }
}
