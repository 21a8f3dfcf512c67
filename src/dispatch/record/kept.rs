//! The newest bytes of an output stream, at their offsets.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// Pieces that are smaller than this are put together, as far as the order of the two streams allows.
pub(super) const SMALL: usize = 4 * 1024;
/// Beyond so many pieces of a stream they are put together whatever the order.
pub(super) const MAX_PIECES: usize = 2048;

/// The newest bytes of a stream.
#[derive(Default)]
pub(super) struct Kept {
    pub(super) pieces: VecDeque<Piece>,
    pub(super) bytes: usize,
    pub(super) end: u64,
}

pub(super) struct Piece {
    pub(super) sequence: u64,
    pub(super) offset: u64,
    pub(super) data: BytesMut,
}

impl Kept {
    pub(super) fn push(&mut self, sequence: u64, is_next: bool, data: &Bytes) {
        let many = self.pieces.len() >= MAX_PIECES;
        match self.pieces.back_mut() {
            Some(last) if many || (is_next && last.data.len() + data.len() <= SMALL) => {
                last.data.extend_from_slice(data);
            }
            _ => self.pieces.push_back(Piece {
                sequence,
                offset: self.end,
                data: BytesMut::from(&data[..]),
            }),
        }
        self.bytes += data.len();
        self.end += data.len() as u64;
    }

    /// Drops the oldest pieces, so that no less than so many bytes are kept, nor what is not read yet.
    pub(super) fn trim(&mut self, kept: usize, read: Option<u64>) {
        while let Some(first) = self.pieces.front()
            && self.bytes - first.data.len() >= kept
        {
            let end = first.offset + first.data.len() as u64;
            if read.is_some_and(|read| read < end) {
                return;
            }
            self.bytes -= first.data.len();
            self.pieces.pop_front();
        }
    }

    pub(super) fn clear(&mut self) {
        self.pieces.clear();
        self.bytes = 0;
    }

    /// The first piece that reaches beyond `offset`.
    pub(super) fn at(&self, offset: u64) -> Option<&Piece> {
        let index = self
            .pieces
            .partition_point(|piece| piece.offset + piece.data.len() as u64 <= offset);
        self.pieces.get(index)
    }
}
