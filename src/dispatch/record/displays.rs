//! The newest displays of a context's cell, by their numbers.

use std::collections::VecDeque;

use crate::execution::Display;

/// The newest displays, of which the first has number 0.
#[derive(Default)]
pub(super) struct KeptDisplays {
    kept: VecDeque<(u64, Display)>,
    pub(super) bytes: usize,
    /// How many there have been.
    pub(super) end: u64,
}

impl KeptDisplays {
    /// `sequence`: its place among all that is kept.
    pub(super) fn push(&mut self, sequence: u64, display: Display) {
        self.bytes += display.size();
        self.end += 1;
        self.kept.push_back((sequence, display));
    }

    /// The number of the oldest that is kept.
    pub(super) fn begin(&self) -> u64 {
        self.end - self.kept.len() as u64
    }

    /// The first that is kept whose number is not below that, and its place among all that is kept.
    pub(super) fn at(&self, number: u64) -> Option<&(u64, Display)> {
        let index = number.saturating_sub(self.begin());
        self.kept.get(usize::try_from(index).ok()?)
    }

    /// Bytes of those whose numbers are not below that.
    pub(super) fn bytes_from(&self, number: u64) -> usize {
        let skipped = number.saturating_sub(self.begin());
        let skipped = usize::try_from(skipped).unwrap_or(usize::MAX);
        let kept = self.kept.iter().skip(skipped);
        kept.map(|(_, display)| display.size()).sum()
    }

    /// Drops the oldest, so that no less than so many bytes are kept, nor what is not read yet.
    pub(super) fn trim(&mut self, kept: usize, read: Option<u64>) {
        while let Some((_, first)) = self.kept.front()
            && self.bytes - first.size() >= kept
            && read.is_none_or(|read| read > self.begin())
        {
            self.bytes -= first.size();
            self.kept.pop_front();
        }
    }

    pub(super) fn clear(&mut self) {
        self.kept.clear();
        self.bytes = 0;
    }
}
