//! Who waits for a sandbox: first come, first served, bounded in all and for each caller.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Instant,
};

/// A place in the queue. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Ticket(u64);

/// Which limit keeps a request out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    Queue,
    Caller,
}

struct Waiting {
    caller: Arc<str>,
    since: Instant,
}

pub(super) struct Queue {
    limit: u32,
    caller_limit: u32,
    next: u64,
    // Tickets count up, so the map's order is the order of arrival, and one that gives up leaves
    // without a trace that somebody would have to clear away later.
    waiting: BTreeMap<Ticket, Waiting>,
    // Only callers that wait, so it is no longer than the queue.
    callers: HashMap<Arc<str>, u32>,
}

impl Queue {
    pub(super) fn new(limit: u32, caller_limit: u32) -> Self {
        Self {
            limit,
            caller_limit,
            next: 0,
            waiting: BTreeMap::new(),
            callers: HashMap::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn push(&mut self, caller: &str, now: Instant) -> Result<Ticket, Full> {
        // The caller's own limit first: a caller above it is not helped by a longer queue.
        let known = self.callers.get_key_value(caller);
        if known.map_or(0, |(_, count)| *count) >= self.caller_limit {
            return Err(Full::Caller);
        }
        if self.waiting.len() >= self.limit as usize {
            return Err(Full::Queue);
        }
        let caller = known.map_or_else(|| Arc::from(caller), |(name, _)| Arc::clone(name));
        *self.callers.entry(Arc::clone(&caller)).or_insert(0) += 1;
        let ticket = Ticket(self.next);
        self.next += 1;
        self.waiting.insert(ticket, Waiting { caller, since: now });
        Ok(ticket)
    }

    /// Takes the one that waits longest.
    pub(super) fn pop(&mut self) -> Option<Ticket> {
        let (ticket, waiting) = self.waiting.pop_first()?;
        self.forget(&waiting.caller);
        Some(ticket)
    }

    /// Takes one out; gives since when it waited, if it still did.
    pub(super) fn remove(&mut self, ticket: Ticket) -> Option<Instant> {
        let waiting = self.waiting.remove(&ticket)?;
        self.forget(&waiting.caller);
        Some(waiting.since)
    }

    fn forget(&mut self, caller: &str) {
        if let Some(count) = self.callers.get_mut(caller) {
            *count -= 1;
            if *count == 0 {
                self.callers.remove(caller);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn one_caller_leaves_room_for_others() {
        let now = Instant::now();
        let mut queue = Queue::new(3, 2);
        assert!(queue.push("greedy", now).is_ok());
        assert!(queue.push("greedy", now).is_ok());
        assert_eq!(queue.push("greedy", now), Err(Full::Caller));
        assert!(queue.push("modest", now).is_ok());
        assert_eq!(queue.push("late", now), Err(Full::Queue));
    }

    #[test]
    fn whoever_leaves_makes_room_and_keeps_the_order() {
        let now = Instant::now();
        let mut queue = Queue::new(3, 3);
        let [first, second, third] = [(); 3].map(|()| queue.push("a", now).unwrap());
        assert_eq!(queue.remove(second), Some(now));
        assert_eq!(queue.remove(second), None);
        let fourth = queue.push("a", now).unwrap();
        let order: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(order, [first, third, fourth]);
        assert!(queue.callers.is_empty());
    }
}
