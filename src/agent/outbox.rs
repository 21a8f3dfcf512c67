//! An output stream's bytes from the moment they are read until the server has them.

use bytes::{Buf, Bytes, BytesMut};

/// What one message carries at most.
pub(super) const CHUNK: usize = 64 * 1024;

/// The bytes `[received, end)` of a stream, of which those before `sent` are on their way.
/// Never longer than the credit that the server gave.
#[derive(Default)]
pub(super) struct Outbox {
    received: u64,
    bytes: BytesMut,
    sent: usize,
    limit: u64,
}

impl Outbox {
    /// How many bytes may be added.
    pub(super) fn room(&self) -> usize {
        usize::try_from(self.limit.saturating_sub(self.end())).unwrap_or(usize::MAX)
    }

    /// How many bytes the stream has had so far.
    pub(super) fn end(&self) -> u64 {
        self.received + self.bytes.len() as u64
    }

    /// Adds bytes; the caller keeps to [`Self::room`].
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The server has everything before `received` and lets the stream go on until `limit`.
    pub(super) fn credit(&mut self, received: u64, limit: u64) {
        let newly = received.clamp(self.received, self.received + self.sent as u64) - self.received;
        // No more than `sent`, which is a usize.
        let newly = newly as usize;
        self.bytes.advance(newly);
        self.sent -= newly;
        self.received += newly as u64;
        self.limit = self.limit.max(limit);
        if self.bytes.is_empty() {
            // Gives the buffer back: an idle stream holds no memory.
            self.bytes = BytesMut::new();
        }
    }

    /// A new connection: what the old one had under way is sent again.
    pub(super) fn rewind(&mut self, received: u64, limit: u64) {
        self.credit(received, limit);
        self.sent = 0;
    }

    /// The next piece to send and its offset.
    pub(super) fn next(&mut self) -> Option<(u64, Bytes)> {
        let rest = &self.bytes[self.sent..];
        if rest.is_empty() {
            return None;
        }
        let piece = Bytes::copy_from_slice(&rest[..rest.len().min(CHUNK)]);
        let offset = self.received + self.sent as u64;
        self.sent += piece.len();
        Some((offset, piece))
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
                        outbox.push(&bytes);
                        written.extend(bytes);
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
