//! One who reads an execution.

use std::{mem::replace, sync::Arc, task::Poll};

use bytes::Bytes;
use tokio::time::Instant;

use super::{DISPLAYS, OutputStream, Record, STREAMS, State, files::Next};
use crate::{dispatch::Update, sandbox::Event};

/// The most that a reader is told at a time.
const MOST_AT_ONCE: usize = 128 * 1024;

/// What a reader is told.
pub enum Told {
    /// From the program, or its end.
    Update(Update),
    /// Output that is no longer kept.
    Gap {
        /// Of which stream.
        stream: OutputStream,
        /// Where it begins.
        offset: u64,
        /// How long it is.
        bytes: u64,
    },
}

/// One who reads an execution. Dropped, it has gone away.
pub struct Reader {
    record: Arc<Record>,
    number: u64,
    started: bool,
    finished: bool,
}

impl Reader {
    /// The one of that number.
    pub(super) const fn new(record: Arc<Record>, number: u64) -> Self {
        Self {
            record,
            number,
            started: false,
            finished: false,
        }
    }

    /// What it reads.
    #[must_use]
    pub const fn record(&self) -> &Arc<Record> {
        &self.record
    }

    /// What comes next; none after the end, or once someone else has attached.
    pub async fn next(&mut self) -> Option<Told> {
        loop {
            // Created before the look, so that nothing is missed.
            let record = self.record.clone();
            let changed = record.changed.notified();
            match self.look() {
                Poll::Ready(told) => {
                    self.finished = matches!(told, Some(Told::Update(Update::Finished(..))) | None);
                    record.changed.notify_waiters();
                    return told;
                }
                Poll::Pending => changed.await,
            }
        }
    }

    /// What there is now; none: it is over.
    fn look(&mut self) -> Poll<Option<Told>> {
        let mut state = self.record.state();
        let Some(mut read) = state
            .read
            .filter(|_| state.reader == self.number && !self.finished)
        else {
            return Poll::Ready(None);
        };
        if !self.started {
            let Some(sandbox) = state.sandbox.clone() else {
                // It may never start.
                return end(&state);
            };
            self.started = true;
            return ready(Update::Event(Event::Started(sandbox)));
        }
        if let Some(told) = state.next_display(read) {
            return Poll::Ready(Some(told));
        }
        let next = [0, 1].map(|index| {
            let piece = state.streams[index].at(read[index]);
            piece.map_or(u64::MAX, |piece| piece.sequence)
        });
        let first = usize::from(next[1] < next[0]);
        for index in [first, 1 - first] {
            let stream = &state.streams[index];
            if read[index] >= stream.end {
                continue;
            }
            let from = read[index];
            let piece = stream.at(from);
            if piece.is_none() && state.finished.is_none() {
                // A gap that grows is told once, when it is known where it ends.
                continue;
            }
            let told = match piece {
                Some(piece) if piece.offset <= from => {
                    // Within the piece, whose length is a usize.
                    let skip = (from - piece.offset) as usize;
                    let end = piece.data.len().min(skip + MOST_AT_ONCE);
                    let data = Bytes::copy_from_slice(&piece.data[skip..end]);
                    read[index] += data.len() as u64;
                    Told::Update(Update::Event(if index == 0 {
                        Event::Stdout(data)
                    } else {
                        Event::Stderr(data)
                    }))
                }
                piece => {
                    read[index] = piece.map_or(stream.end, |piece| piece.offset);
                    Told::Gap {
                        stream: STREAMS[index],
                        offset: from,
                        bytes: read[index] - from,
                    }
                }
            };
            state.read = Some(read);
            return Poll::Ready(Some(told));
        }
        if let Some((next, after)) = state.files.next(state.files_read) {
            let (from, _) = replace(&mut state.files_read, after);
            return Poll::Ready(Some(match next {
                Next::Piece(chunk) => Told::Update(Update::Event(Event::File(chunk))),
                Next::Missing(files) => Told::Gap {
                    stream: OutputStream::Files,
                    offset: from,
                    bytes: files,
                },
            }));
        }
        end(&state)
    }
}

impl State {
    /// The next display, where it comes before whatever else a reader has not read yet.
    fn next_display(&mut self, mut read: [u64; 3]) -> Option<Told> {
        let displays = &self.displays;
        let from = read[DISPLAYS];
        if from >= displays.end {
            return None;
        }
        let told = if from < displays.begin() {
            if displays.begin() == displays.end && self.finished.is_none() {
                return None;
            }
            read[DISPLAYS] = displays.begin();
            Told::Gap {
                stream: OutputStream::Displays,
                offset: from,
                bytes: displays.begin() - from,
            }
        } else {
            let (sequence, display) = displays.at(from)?;
            let is_first = [0, 1].iter().all(|index| {
                let stream = &self.streams[*index];
                let piece = stream.at(read[*index]);
                piece.is_none_or(|piece| piece.sequence > sequence)
            });
            if !is_first {
                return None;
            }
            read[DISPLAYS] += 1;
            Told::Update(Update::Event(Event::Display(display.clone())))
        };
        self.read = Some(read);
        Some(told)
    }
}

fn ready(update: Update) -> Poll<Option<Told>> {
    Poll::Ready(Some(Told::Update(update)))
}

fn end(state: &State) -> Poll<Option<Told>> {
    match state.finished.clone() {
        Some(finished) => ready(Update::Finished(finished)),
        None => Poll::Pending,
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut state = self.record.state();
        if state.reader == self.number {
            state.left_at = state.read.take().unwrap_or_default();
            state.alone_since = Instant::now();
            drop(state);
            self.record.changed.notify_waiters();
        }
    }
}
