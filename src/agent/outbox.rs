//! An output stream's bytes from the moment they are read until the server has them.

use std::collections::VecDeque;

use bytes::{Buf, Bytes};

/// What one message carries at most.
const MESSAGE: usize = 256 * 1024;

/// The bytes `[received, end)` of a stream, of which those before `sent` are on their way.
/// Never longer than the credit that the server gave.
#[derive(Default)]
pub(super) struct Outbox {
    received: u64,
    pieces: VecDeque<Bytes>,
    end: u64,
    sent: u64,
    /// Where `sent` is: in which piece, and where that one begins.
    next: usize,
    next_begin: u64,
    limit: u64,
}

impl Outbox {
    /// How many bytes may be added.
    pub(super) fn room(&self) -> usize {
        usize::try_from(self.limit.saturating_sub(self.end)).unwrap_or(usize::MAX)
    }

    /// How many bytes the stream has had so far.
    pub(super) const fn end(&self) -> u64 {
        self.end
    }

    /// Adds bytes, at least one; the caller keeps to [`Self::room`].
    pub(super) fn push(&mut self, piece: Bytes) {
        self.end += piece.len() as u64;
        self.pieces.push_back(piece);
    }

    /// The server has everything before `received` and lets the stream go on until `limit`.
    pub(super) fn credit(&mut self, received: u64, limit: u64) {
        // What was not sent cannot have been received.
        let received = received.clamp(self.received, self.sent);
        self.limit = self.limit.max(limit);
        while let Some(piece) = self.pieces.front_mut() {
            // No more than the length of a piece, which is a usize.
            let newly = (received - self.received).min(piece.len() as u64) as usize;
            let whole = newly == piece.len();
            piece.advance(newly);
            self.received += newly as u64;
            if !whole {
                break;
            }
            self.pieces.pop_front();
            self.next -= usize::from(self.next > 0);
        }
        self.next_begin = self.next_begin.max(self.received);
    }

    /// A new connection: what the old one had under way is sent again.
    pub(super) fn rewind(&mut self, received: u64, limit: u64) {
        self.credit(received, limit);
        self.sent = self.received;
        self.next = 0;
        self.next_begin = self.received;
    }

    /// The next piece to send and its offset.
    pub(super) fn next(&mut self) -> Option<(u64, Bytes)> {
        let piece = self.pieces.get(self.next)?;
        let offset = self.sent;
        // Within the piece, whose length is a usize.
        let begin = (offset - self.next_begin) as usize;
        let end = piece.len().min(begin + MESSAGE);
        let message = piece.slice(begin..end);
        self.sent += message.len() as u64;
        if end == piece.len() {
            self.next += 1;
            self.next_begin = self.sent;
        }
        Some((offset, message))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Whatever is pushed, cut and credited: the reader that keeps each byte at its offset gets
    /// the stream, whole and once.
    #[derive(Clone, Debug)]
    enum Event {
        Push(usize),
        Send,
        Credit(u64),
        Cut,
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            (1..200_000_usize).prop_map(Event::Push),
            Just(Event::Send),
            (1..300_000_u64).prop_map(Event::Credit),
            Just(Event::Cut),
        ]
    }

    proptest! {
        #[test]
        fn no_byte_is_lost_or_doubled(events in proptest::collection::vec(event(), 1..200)) {
            let mut outbox = Outbox::default();
            let mut written = Vec::new();
            let mut got: Vec<u8> = Vec::new();
            let mut limit = 0;
            for event in events.into_iter().chain([Event::Cut]).chain((0..100).map(|_| Event::Send)) {
                match event {
                    Event::Push(n) => {
                        let n = n.min(outbox.room());
                        let bytes: Vec<u8> = (written.len()..written.len() + n).map(|i| (i % 251) as u8).collect();
                        if n > 0 {
                            written.extend_from_slice(&bytes);
                            outbox.push(bytes.into());
                        }
                    }
                    Event::Send => if let Some((offset, piece)) = outbox.next() {
                        prop_assert_eq!(offset, got.len() as u64);
                        got.extend_from_slice(&piece);
                    },
                    Event::Credit(more) => {
                        limit = (got.len() as u64 + more).max(limit);
                        outbox.credit(got.len() as u64, limit);
                    }
                    Event::Cut => outbox.rewind(got.len() as u64, limit),
                }
                prop_assert!(outbox.end() <= limit);
            }
            while let Some((offset, piece)) = outbox.next() {
                prop_assert_eq!(offset, got.len() as u64);
                got.extend_from_slice(&piece);
            }
            prop_assert_eq!(got, written);
        }
    }
}
