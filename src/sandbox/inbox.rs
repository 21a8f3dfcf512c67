//! An output stream on its way from the agent to the client.

use std::{collections::VecDeque, io};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::{io::AsyncReadExt, net::unix::pipe};

use crate::proto::agent::Credit;

/// What the agent may have under way at first, and at most.
const FIRST_WINDOW: u64 = 256 * 1024;
const MAX_WINDOW: u64 = 4 << 20;
/// What one message to the client carries at most.
const PIECE: usize = 1 << 20;
/// The smallest buffer that a pipe is read into, a page, and the largest. A few of the largest fit a
/// processor's second cache together: with 1 MiB, server and client both waited for memory.
const LEAST_BUFFER: usize = 4 * 1024;
const LARGEST_BUFFER: usize = 128 * 1024;
/// Where in memory one begins, at a multiple of this. The kernel copies by `rep movsb`, which takes
/// up to four times as long on some processors where it does not write to a multiple of 32.
const ALIGNMENT: usize = 64;
/// So many buffers of a loud stream are used again, as many as can be on their way to the client.
/// Fresh memory would cost a page fault for each 4 KiB, a tenth of what the server does for such a
/// stream.
const KEPT_BUFFERS: usize = 8;
/// The smallest buffer that is.
const WORTH_KEEPING: usize = LARGEST_BUFFER / 4;

/// Bytes that came from the agent and were not yet taken by the client: never more than the
/// window, whatever the agent does.
pub(super) struct Inbox {
    bytes: BytesMut,
    /// Bytes that the agent need not keep.
    received: u64,
    delivered: u64,
    limit: u64,
    window: u64,
    /// How large the next buffer for a pipe shall be.
    buffer: usize,
    /// The ends of buffers of which the client has yet to take the beginning.
    kept: VecDeque<BytesMut>,
}

/// The agent did not keep to the protocol.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum Violation {
    #[error("output at offset {got} where {expected} was expected")]
    Offset { got: u64, expected: u64 },
    #[error("output beyond the credit of {limit}")]
    Credit { limit: u64 },
    #[error("an acknowledgement of what was never sent")]
    Acknowledgement,
    #[error("a message without content, or of an unknown stream")]
    Message,
    #[error("output or an end of a program that was not started")]
    NotStarted,
}

impl Inbox {
    pub(super) fn new() -> Self {
        Self {
            bytes: BytesMut::new(),
            received: 0,
            delivered: 0,
            limit: FIRST_WINDOW,
            window: FIRST_WINDOW,
            buffer: LEAST_BUFFER,
            kept: VecDeque::new(),
        }
    }

    /// What the agent may forget, and how far it may go.
    pub(super) const fn credit(&self, stream: i32) -> Credit {
        Credit {
            stream,
            received: self.received,
            limit: self.limit,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Takes bytes from the agent. They are copied: a small piece must not keep the large buffer
    /// alive that it came in.
    pub(super) fn push(&mut self, offset: u64, data: &[u8]) -> Result<(), Violation> {
        if offset != self.received {
            return Err(Violation::Offset {
                got: offset,
                expected: self.received,
            });
        }
        if data.len() as u64 > self.room() {
            return Err(Violation::Credit { limit: self.limit });
        }
        self.add(data);
        Ok(())
    }

    /// How many bytes may be added.
    pub(super) const fn room(&self) -> u64 {
        self.limit - self.received
    }

    /// Adds bytes; the caller keeps to [`Self::room`].
    pub(super) fn add(&mut self, data: &[u8]) {
        self.bytes.extend_from_slice(data);
        self.received += data.len() as u64;
    }

    /// Whether a pipe is to be read on: not while much is waiting that would have to be moved to
    /// a larger buffer first.
    pub(super) fn takes_more(&self) -> bool {
        self.room() > 0 && self.bytes.len() < LARGEST_BUFFER
    }

    /// Adds what a pipe gives, at least one byte unless it is at its end: how many.
    pub(super) async fn read_from(&mut self, pipe: &mut pipe::Receiver) -> io::Result<u64> {
        if self.spare() == 0 {
            self.make_room();
        }
        let spare = self.spare();
        // At most what is spare, which is a usize.
        let most = self.room().min(spare as u64) as usize;
        let read = pipe.read_buf(&mut (&mut self.bytes).limit(most)).await?;
        self.received += read as u64;
        // What is quiet costs little, and what is loud goes in few messages.
        if read == spare {
            self.buffer = (self.buffer * 2).min(LARGEST_BUFFER);
        } else if read < self.buffer / 8 {
            self.buffer = (self.buffer / 2).max(LEAST_BUFFER);
        }
        Ok(read as u64)
    }

    /// How much a pipe may be asked for: whole pages, as it has them, so that the next read begins
    /// with one, too.
    fn spare(&self) -> usize {
        let spare = self.bytes.capacity() - self.bytes.len();
        spare - spare % LEAST_BUFFER
    }

    fn make_room(&mut self) {
        let needed = self.buffer + ALIGNMENT;
        if !self.bytes.is_empty() {
            self.bytes.reserve(needed);
            return;
        }
        // Of those that the client has taken all of, the last used is the likeliest to be in cache.
        let mut kept = self.kept.iter_mut();
        let free = kept.rposition(|kept| kept.try_reclaim(needed));
        if let Some(free) = free.and_then(|free| self.kept.remove(free)) {
            self.bytes = free;
        } else if self.kept.len() == KEPT_BUFFERS {
            self.kept.pop_front();
        }
        self.bytes.reserve(needed);
        let begin = self.bytes.spare_capacity_mut().as_ptr();
        let skipped = begin.align_offset(ALIGNMENT);
        self.bytes.put_bytes(0, skipped);
        self.bytes.advance(skipped);
    }

    /// Drops the last `bytes` of what waits, and of what will never be sent to anyone.
    pub(super) fn drop_last(&mut self, bytes: u64) {
        let keep = self.bytes.len() as u64 - bytes.min(self.bytes.len() as u64);
        // At most the buffer's own length.
        self.bytes.truncate(keep as usize);
        self.delivered = self.received - keep;
    }

    /// How much the client has taken.
    pub(super) const fn delivered(&self) -> u64 {
        self.delivered
    }

    /// The next piece for the client, who has taken it with this.
    pub(super) fn pop(&mut self) -> Option<Bytes> {
        self.pop_until(u64::MAX)
    }

    /// The same, of what comes before an offset.
    pub(super) fn pop_until(&mut self, offset: u64) -> Option<Bytes> {
        let most = offset.saturating_sub(self.delivered);
        let most = usize::try_from(most).unwrap_or(usize::MAX).min(PIECE);
        let length = self.bytes.len().min(most);
        if length == 0 {
            return None;
        }
        let piece = self.bytes.split_to(length).freeze();
        self.delivered += piece.len() as u64;
        if self.bytes.is_empty() {
            let rest = std::mem::take(&mut self.bytes);
            if self.buffer < WORTH_KEEPING {
                self.kept.clear();
            } else if self.kept.len() < KEPT_BUFFERS {
                self.kept.push_back(rest);
            }
        }
        Some(piece)
    }

    /// Whether the agent should hear of more credit: once half of the window is used up. The
    /// window grows while the client takes everything at once.
    pub(super) fn extend(&mut self) -> bool {
        if self.limit - self.delivered > self.window / 2 {
            return false;
        }
        if self.bytes.is_empty() {
            self.window = (self.window * 2).min(MAX_WINDOW);
        }
        self.limit = self.delivered + self.window;
        true
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::HashSet,
        io::{PipeWriter, Write},
    };

    use super::*;

    #[test]
    fn an_agent_that_skips_or_repeats_bytes_is_found_out() {
        let mut inbox = Inbox::new();
        inbox.push(0, b"abc").unwrap();
        assert_eq!(
            inbox.push(2, b"c"),
            Err(Violation::Offset {
                got: 2,
                expected: 3
            })
        );
        assert!(inbox.push(4, b"e").is_err());
    }

    #[test]
    fn an_agent_that_sends_more_than_its_credit_is_found_out() {
        let mut inbox = Inbox::new();
        let window = vec![0; FIRST_WINDOW as usize];
        inbox.push(0, &window).unwrap();
        assert_eq!(
            inbox.push(FIRST_WINDOW, b"x"),
            Err(Violation::Credit {
                limit: FIRST_WINDOW
            })
        );
    }

    /// What one read of a full pipe gives the client.
    async fn read(inbox: &mut Inbox, pipe: &mut pipe::Receiver, from: &mut PipeWriter) -> Bytes {
        let read = inbox.read_from(pipe).await.unwrap();
        from.write_all(&vec![1; usize::try_from(read).unwrap()])
            .unwrap();
        let piece = inbox.pop().unwrap();
        inbox.extend();
        piece
    }

    #[tokio::test]
    async fn a_loud_streams_buffers_are_aligned_and_used_again_once_the_client_has_them() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        rustix::pipe::fcntl_setpipe_size(&writer, PIECE).unwrap();
        writer.write_all(&vec![1; PIECE]).unwrap();
        let mut pipe = pipe::Receiver::from_owned_fd(reader.into()).unwrap();
        let mut inbox = Inbox::new();
        while inbox.buffer < LARGEST_BUFFER || inbox.window < MAX_WINDOW {
            read(&mut inbox, &mut pipe, &mut writer).await;
        }
        let mut at = HashSet::new();
        let mut held = VecDeque::new();
        for _ in 0..20 {
            let piece = read(&mut inbox, &mut pipe, &mut writer).await;
            assert_eq!(piece.len(), LARGEST_BUFFER);
            assert_eq!(piece.as_ptr().align_offset(ALIGNMENT), 0);
            at.insert(piece.as_ptr());
            held.push_back(piece);
            if held.len() > 3 {
                held.pop_front();
            }
        }
        assert!(at.len() <= KEPT_BUFFERS, "{}", at.len());
    }

    #[test]
    fn the_window_grows_only_while_the_client_takes_everything() {
        let mut inbox = Inbox::new();
        let half = vec![0; FIRST_WINDOW as usize / 2];
        inbox.push(0, &half).unwrap();
        assert!(!inbox.extend());
        while inbox.pop().is_some() {}
        assert!(inbox.extend());
        let credit = inbox.credit(1);
        assert_eq!(credit.received, half.len() as u64);
        assert_eq!(credit.limit, credit.received + 2 * FIRST_WINDOW);
        assert!(!inbox.extend());
    }
}
