//! The idle sandboxes, and which of them are too old.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::{
    Number,
    backoff::Jitter,
    connected::{Change, Connected},
};

/// How long one that is too old may wait for its replacement. Past that it goes anyway: a lease
/// that it got now could be cut by the sandbox's own last deadline, ten minutes after.
const GRACE: Duration = Duration::from_secs(5 * 60);

/// A greater age is for ever, and would not fit a clock.
const FOR_EVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

pub(super) struct Warm<S> {
    pub(super) sandbox: S,
    pub(super) since: Instant,
    expires: Instant,
    expired: bool,
}

pub(super) struct Idle<S> {
    max_age: Duration,
    jitter: Jitter,
    is_connected: fn(&S) -> bool,
    // Handed out from the front, the oldest first: under traffic hardly one then gets too old, and each
    // has had the most time to settle (imports paged in, a network probe denied). Being used
    // recently makes none of them faster, since none was used. Numbers count up, so they are in
    // order of age, and one that dies leaves from the middle.
    warm: BTreeMap<Number, Warm<S>>,
    connected: Connected,
    /// Of connections; taken by whoever sees to them.
    pub(super) changes: Vec<Change>,
    expired: usize,
    // Not after the first moment at which one of them expires or has overstayed.
    next_look: Option<Instant>,
}

impl<S> Idle<S> {
    pub(super) fn new(
        connected: usize,
        max_age: Duration,
        jitter: Jitter,
        is_connected: fn(&S) -> bool,
    ) -> Self {
        Self {
            max_age: max_age.min(FOR_EVER),
            jitter,
            is_connected,
            warm: BTreeMap::new(),
            connected: Connected::new(connected),
            changes: Vec::new(),
            expired: 0,
            next_look: None,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.warm.len()
    }

    /// How many of them are too old and wait for a replacement.
    pub(super) fn expired(&self) -> usize {
        self.expired
    }

    /// When to [`Idle::look`] again.
    pub(super) fn next_look(&self) -> Option<Instant> {
        self.next_look
    }

    pub(super) fn push(&mut self, number: Number, sandbox: S, now: Instant) {
        // Up to a tenth early, so that a pool that was filled at once is not replaced at once.
        let age = self
            .max_age
            .mul_f64(1.0 - 0.1 * (self.jitter)().clamp(0.0, 1.0));
        let expires = now + age;
        self.look_by(expires);
        let warm = Warm {
            sandbox,
            since: now,
            expires,
            expired: false,
        };
        self.warm.insert(number, warm);
        self.changes.extend(self.connected.add(number));
    }

    /// Takes the one to lease: the oldest that is connected. One whose connection was cut comes last: it may
    /// be on a node that is lost, and would keep its caller waiting in vain.
    pub(super) fn pop_next(&mut self) -> Option<(Number, Warm<S>)> {
        let is_connected = |number| {
            let warm = self.warm.get(&number);
            warm.is_some_and(|warm| (self.is_connected)(&warm.sandbox))
        };
        let number = self.connected.next(is_connected)?;
        self.remove(number).map(|warm| (number, warm))
    }

    pub(super) fn pop_oldest(&mut self) -> Option<(Number, Warm<S>)> {
        let number = *self.warm.first_key_value()?.0;
        self.remove(number).map(|warm| (number, warm))
    }

    /// Takes one that is too old.
    pub(super) fn pop_expired(&mut self) -> Option<(Number, Warm<S>)> {
        if self.expired == 0 {
            return None;
        }
        let number = *self.warm.iter().find(|(_, warm)| warm.expired)?.0;
        self.remove(number).map(|warm| (number, warm))
    }

    pub(super) fn remove(&mut self, number: Number) -> Option<Warm<S>> {
        let warm = self.warm.remove(&number)?;
        self.changes.extend(self.connected.remove(number));
        self.expired -= usize::from(warm.expired);
        Some(warm)
    }

    /// Marks those that are too old, and takes those that have been for too long.
    pub(super) fn look(&mut self, now: Instant) -> Vec<(Number, Warm<S>)> {
        if self.next_look.is_none_or(|at| at > now) {
            return Vec::new();
        }
        self.next_look = None;
        let mut next_look = None::<Instant>;
        let mut overdue = Vec::new();
        for (number, warm) in &mut self.warm {
            if !warm.expired && warm.expires <= now {
                warm.expired = true;
                self.expired += 1;
            }
            let due = if warm.expired {
                warm.expires + GRACE
            } else {
                warm.expires
            };
            if due <= now {
                overdue.push(*number);
            } else {
                next_look = Some(next_look.map_or(due, |at| at.min(due)));
            }
        }
        self.next_look = next_look;
        overdue
            .into_iter()
            .filter_map(|number| Some((number, self.remove(number)?)))
            .collect()
    }

    fn look_by(&mut self, at: Instant) {
        self.next_look = Some(self.next_look.map_or(at, |earlier| earlier.min(at)));
    }
}
