//! The newest output files, by their numbers.

use std::collections::VecDeque;

use crate::sandbox::OutputChunk;

/// How far a reader has them: the number of a file, and how many bytes of it.
pub(super) type Position = (u64, u64);

/// What a reader is told next.
pub(super) enum Next {
    /// A piece.
    Piece(OutputChunk),
    /// So many files that are no longer kept whole.
    Missing(u64),
}

/// The newest output files, of which the first has number 0. Those that no reader has had are kept whole: their own
/// limit bounds them.
#[derive(Default)]
pub(super) struct KeptFiles {
    kept: VecDeque<(Position, OutputChunk)>,
    pub(super) bytes: usize,
    /// After all that there has been.
    end: Position,
}

impl KeptFiles {
    pub(super) fn push(&mut self, chunk: OutputChunk) {
        // A piece that takes a reader no further would be told for ever.
        if chunk.content.is_empty() && !chunk.last {
            return;
        }
        let position = self.end;
        self.pass_over(&chunk);
        self.bytes += chunk.content.len();
        self.kept.push_back((position, chunk));
    }

    /// Counts what is not kept.
    pub(super) fn pass_over(&mut self, chunk: &OutputChunk) {
        self.end = after(self.end, chunk);
    }

    pub(super) fn clear(&mut self) {
        self.kept.clear();
        self.bytes = 0;
    }

    /// Gives up the oldest that the reader has had, beyond so many bytes.
    pub(super) fn trim(&mut self, most: usize, read: Position) {
        while self.bytes > most
            && let Some((position, chunk)) = self.kept.front()
            && *position < read
        {
            self.bytes -= chunk.content.len();
            self.kept.pop_front();
        }
    }

    /// Bytes that the reader has not had.
    pub(super) fn bytes_from(&self, read: Position) -> usize {
        let ahead = self.kept.iter().rev();
        ahead
            .take_while(|(position, _)| *position >= read)
            .map(|(_, chunk)| chunk.content.len())
            .sum()
    }

    /// What comes at that position, and the position after it.
    pub(super) fn next(&self, read: Position) -> Option<(Next, Position)> {
        let index = self.kept.partition_point(|(at, _)| *at < read);
        if let Some((at, chunk)) = self.kept.get(index)
            && *at == read
        {
            return Some((Next::Piece(chunk.clone()), after(*at, chunk)));
        }
        if read >= self.end {
            return None;
        }
        let mut ahead = self.kept.range(index..);
        let whole = ahead.find(|((_, offset), _)| *offset == 0);
        // One that is not whole now will not be later.
        let next = whole.map_or(self.end.0 + u64::from(self.end.1 > 0), |((file, _), _)| {
            *file
        });
        (next > read.0).then(|| (Next::Missing(next - read.0), (next, 0)))
    }
}

const fn after((file, offset): Position, chunk: &OutputChunk) -> Position {
    if chunk.last {
        (file + 1, 0)
    } else {
        (file, offset + chunk.content.len() as u64)
    }
}
