//! The newest displays of a context's cell, by their numbers.

use std::collections::VecDeque;

use crate::execution::Display;

struct Kept {
    /// Its place among all that is kept.
    sequence: u64,
    /// Bytes of those before it.
    offset: u64,
    display: Display,
}

/// The newest displays, of which the first has number 0.
#[derive(Default)]
pub(super) struct KeptDisplays {
    kept: VecDeque<Kept>,
    pub(super) bytes: usize,
    /// Bytes of all that there have been.
    bytes_end: u64,
    /// How many there have been.
    pub(super) end: u64,
}

impl KeptDisplays {
    /// `sequence`: its place among all that is kept.
    pub(super) fn push(&mut self, sequence: u64, display: Display) {
        let size = display.size();
        self.kept.push_back(Kept {
            sequence,
            offset: self.bytes_end,
            display,
        });
        self.bytes += size;
        self.bytes_end += size as u64;
        self.end += 1;
    }

    /// The number of the oldest that is kept.
    pub(super) fn begin(&self) -> u64 {
        self.end - self.kept.len() as u64
    }

    /// The first that is kept whose number is not below that, and its place among all that is kept.
    pub(super) fn at(&self, number: u64) -> Option<(u64, &Display)> {
        let kept = self.from(number)?;
        Some((kept.sequence, &kept.display))
    }

    fn from(&self, number: u64) -> Option<&Kept> {
        let index = number.saturating_sub(self.begin());
        self.kept.get(usize::try_from(index).ok()?)
    }

    /// Bytes of those whose numbers are not below that.
    pub(super) fn bytes_from(&self, number: u64) -> u64 {
        self.from(number)
            .map_or(0, |first| self.bytes_end - first.offset)
    }

    /// Bytes of all that there have been, kept or not.
    pub(super) const fn bytes_so_far(&self) -> u64 {
        self.bytes_end
    }

    /// Drops the oldest, so that no less than so many bytes are kept, nor what is not read yet.
    pub(super) fn trim(&mut self, kept: usize, read: Option<u64>) {
        while let Some(first) = self.kept.front()
            && self.bytes - first.display.size() >= kept
            && read.is_none_or(|read| read > self.begin())
        {
            self.bytes -= first.display.size();
            self.kept.pop_front();
        }
    }

    pub(super) fn clear(&mut self) {
        self.kept.clear();
        self.bytes = 0;
    }
}
