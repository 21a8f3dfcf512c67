//! Which idle sandboxes keep their connection: those that are leased next.

use std::collections::BTreeSet;

use super::Number;

/// What is to become of a sandbox's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Connect(Number),
    Disconnect(Number),
}

/// The idle sandboxes in two parts, of which the first are the older ones.
pub(super) struct Connected {
    limit: usize,
    connected: BTreeSet<Number>,
    disconnected: BTreeSet<Number>,
}

impl Connected {
    /// `limit`: how many keep a connection.
    pub(super) const fn new(limit: usize) -> Self {
        Self {
            limit,
            connected: BTreeSet::new(),
            disconnected: BTreeSet::new(),
        }
    }

    /// One more, which has a connection.
    pub(super) fn add(&mut self, number: Number) -> Option<Change> {
        self.connected.insert(number);
        if self.connected.len() <= self.limit {
            return None;
        }
        let last = self.connected.pop_last()?;
        self.disconnected.insert(last);
        Some(Change::Disconnect(last))
    }

    /// The one to lease: the first that `is_connected` says so of, or else one that needs not be, or else
    /// one whose connection was cut.
    pub(super) fn next(&self, is_connected: impl Fn(Number) -> bool) -> Option<Number> {
        let mut kept = self.connected.iter();
        let connected = kept.find(|number| is_connected(**number));
        connected
            .or_else(|| self.disconnected.first())
            .or_else(|| self.connected.first())
            .copied()
    }

    /// One less.
    pub(super) fn remove(&mut self, number: Number) -> Option<Change> {
        if !self.connected.remove(&number) {
            self.disconnected.remove(&number);
            return None;
        }
        let next = self.disconnected.pop_first()?;
        self.connected.insert(next);
        Some(Change::Connect(next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_are_leased_next_are_connected_in_whatever_order_they_come() {
        let [first, second, third, fourth] = [1, 2, 3, 4].map(Number);
        let mut connected = Connected::new(2);
        assert_eq!(connected.add(fourth), None);
        assert_eq!(connected.add(first), None);
        assert_eq!(connected.add(third), Some(Change::Disconnect(fourth)));
        assert_eq!(connected.add(second), Some(Change::Disconnect(third)));
        // 1 and 2 are connected.
        assert_eq!(connected.remove(fourth), None);
        assert_eq!(connected.remove(second), Some(Change::Connect(third)));
        assert_eq!(connected.remove(first), None);
        assert_eq!(connected.remove(third), None);
        assert_eq!(connected.add(fourth), None);
    }

    #[test]
    fn one_whose_connection_was_cut_is_leased_last() {
        let [first, second, third, fourth] = [1, 2, 3, 4].map(Number);
        let mut connected = Connected::new(2);
        assert_eq!(connected.next(|_| true), None);
        for number in [first, second, third, fourth] {
            connected.add(number);
        }
        assert_eq!(connected.next(|_| true), Some(first));
        assert_eq!(connected.next(|number| number != first), Some(second));
        assert_eq!(connected.next(|_| false), Some(third));
        connected.remove(third);
        connected.remove(fourth);
        assert_eq!(connected.next(|_| false), Some(first));
    }

    #[test]
    fn none_is_where_none_shall_be() {
        let mut connected = Connected::new(0);
        let only = Number(7);
        assert_eq!(connected.add(only), Some(Change::Disconnect(only)));
        assert_eq!(connected.remove(only), None);
    }
}
