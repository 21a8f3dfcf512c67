//! What is kept of an execution: its output for those who attach, and how it ended.
//!
//! A record has at most one reader, the last one that attached. While there is one, and for a while after it has
//! gone, output that it has not taken pauses the program; after that the program runs in the background, and the
//! newest of its output is kept.
//!
//! - `kept`: the newest of a stream; `displays`, `files`: the same of what cells show, and of output files
//! - `reader`: who reads it; `sink`: where what is kept comes from; `input`: what may be sent to its program

mod displays;
mod files;
mod input;
mod kept;
mod reader;
mod sink;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use self::{displays::KeptDisplays, files::KeptFiles, kept::Kept};
pub use self::{
    input::{NotSent, ProgramInput},
    reader::{Reader, Told},
    sink::Sink,
};
use super::Finished;
use crate::{
    backend::SandboxId,
    execution::{CodeError, Display},
    sandbox::Event,
};

/// How long a program is paused for a reader who has gone, and may come again.
const PAUSED_FOR: Duration = Duration::from_secs(30);
/// What is kept besides for that reader, in bytes of a stream: he was told of it, and may not have had it when his
/// connection broke. As much as windows of gRPC clients hold.
const ON_ITS_WAY: usize = 4 << 20;

/// What an execution gives while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputStream {
    /// stdout.
    Stdout,
    /// stderr.
    Stderr,
    /// What a cell shows, counted one by one.
    Displays,
    /// Output files, counted one by one.
    Files,
}

const STREAMS: [OutputStream; 2] = [OutputStream::Stdout, OutputStream::Stderr];
/// Where displays stand in a reader's position, after the two streams.
const DISPLAYS: usize = 2;

/// What is known of an execution besides its output.
pub struct Summary {
    /// Its id.
    pub execution_id: String,
    /// Its pool.
    pub pool: String,
    /// As its caller gave them.
    pub labels: BTreeMap<String, String>,
    /// Where it runs or ran, once it has started.
    pub sandbox: Option<SandboxId>,
    /// When it was asked for.
    pub created_at: SystemTime,
    /// How much of stdout and stderr there has been.
    pub output: [u64; 2],
    /// How it ended, if it has.
    pub finished: Option<Box<Finished>>,
}

/// One execution's record.
pub struct Record {
    execution_id: String,
    pool: String,
    labels: BTreeMap<String, String>,
    created_at: SystemTime,
    /// Tells two specs of one id apart.
    fingerprint: u64,
    /// How long the program goes on without a reader; none: it ends with its caller's call.
    keep: Option<Duration>,
    /// Bytes of each stream that are kept.
    kept: usize,
    input: Mutex<Option<Arc<ProgramInput>>>,
    state: Mutex<State>,
    changed: Notify,
}

struct State {
    sandbox: Option<SandboxId>,
    streams: [Kept; 2],
    displays: KeptDisplays,
    /// The order of displays and of pieces of both streams.
    sequence: u64,
    last: Option<usize>,
    files: KeptFiles,
    finished: Option<Box<Finished>>,
    /// Which reader is the one, and how far it has each stream and the displays.
    reader: u64,
    read: Option<[u64; 3]>,
    /// How far that reader has the output files.
    files_read: files::Position,
    /// How far the last one had got when it went.
    left_at: [u64; 3],
    /// Since when there is none.
    alone_since: Instant,
    /// It was never run, and never will be.
    given_up: bool,
}

/// What a new record is of.
pub(super) struct NewRecord {
    pub(super) execution_id: String,
    pub(super) pool: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) fingerprint: u64,
    pub(super) keep: Option<Duration>,
    pub(super) kept: usize,
}

impl Record {
    pub(super) fn new(new: NewRecord) -> Arc<Self> {
        let NewRecord {
            execution_id,
            pool,
            labels,
            fingerprint,
            keep,
            kept,
        } = new;
        Arc::new(Self {
            execution_id,
            pool,
            labels,
            created_at: SystemTime::now(),
            fingerprint,
            keep,
            kept,
            input: Mutex::default(),
            state: Mutex::new(State {
                sandbox: None,
                streams: Default::default(),
                displays: KeptDisplays::default(),
                sequence: 0,
                last: None,
                files: KeptFiles::default(),
                files_read: (0, 0),
                finished: None,
                reader: 0,
                read: None,
                left_at: [0; 3],
                alone_since: Instant::now(),
                given_up: false,
            }),
            changed: Notify::new(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether that is the spec that it is of.
    pub(super) const fn is_of(&self, fingerprint: u64) -> bool {
        self.fingerprint == fingerprint
    }

    /// Whether the program goes on without its caller.
    pub(super) const fn outlives_its_call(&self) -> bool {
        self.keep.is_some()
    }

    /// Where input goes from now on, until the end.
    pub fn set_input(&self, input: Arc<ProgramInput>) {
        *self.input.lock().unwrap_or_else(PoisonError::into_inner) = Some(input);
    }

    /// Where input goes; none once it has ended, or where input is its call's alone.
    #[must_use]
    pub fn input(&self) -> Option<Arc<ProgramInput>> {
        let input = self.input.lock().unwrap_or_else(PoisonError::into_inner);
        input.clone()
    }

    /// Its id.
    #[must_use]
    pub fn execution_id(&self) -> &str {
        &self.execution_id
    }

    /// Its pool.
    #[must_use]
    pub fn pool(&self) -> &str {
        &self.pool
    }

    /// What is known of it.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let state = self.state();
        Summary {
            execution_id: self.execution_id.clone(),
            pool: self.pool.clone(),
            labels: self.labels.clone(),
            sandbox: state.sandbox.clone(),
            created_at: self.created_at,
            output: [state.streams[0].end, state.streams[1].end],
            finished: state.finished.as_ref().map(|end| Box::new(end.in_short())),
        }
    }

    /// Whether it runs in that sandbox, or did.
    #[must_use]
    pub fn is_in(&self, sandbox: &str) -> bool {
        let state = self.state();
        state
            .sandbox
            .as_ref()
            .is_some_and(|it| it.to_string() == sandbox)
    }

    /// Attaches to it: so many bytes of stdout and stderr, so many displays and so many output files are had
    /// already. Who has attached before is no longer told anything.
    #[must_use]
    pub fn attach(self: &Arc<Self>, offsets: [u64; 3], files: u64) -> Reader {
        let mut state = self.state();
        state.reader += 1;
        let [stdout, stderr] = &state.streams;
        let ends = [stdout.end, stderr.end, state.displays.end];
        state.read = Some([0, 1, 2].map(|index| offsets[index].min(ends[index])));
        state.files_read = (files, 0);
        let number = state.reader;
        drop(state);
        self.changed.notify_waiters();
        Reader::new(self.clone(), number)
    }

    fn add(&self, event: Event) {
        let mut state = self.state();
        match event {
            Event::Started(sandbox) => state.sandbox = Some(sandbox),
            Event::Stdout(data) => state.push(0, &data),
            Event::Stderr(data) => state.push(1, &data),
            Event::File(chunk) => state.files.push(chunk),
            Event::Display(display) => state.push_display(display),
        }
        let read = state.read;
        let may_come_again = read.is_some() || state.alone_since.elapsed() < PAUSED_FOR;
        let kept = self.kept + if may_come_again { ON_ITS_WAY } else { 0 };
        for (index, stream) in state.streams.iter_mut().enumerate() {
            stream.trim(kept, read.map(|read| read[index]));
        }
        state.displays.trim(kept, read.map(|read| read[DISPLAYS]));
        if read.is_some() {
            let had = state.files_read;
            state.files.trim(kept, had);
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// The same of what its caller is told directly: it is kept as long as it is little, or the newest of it while
    /// somebody has attached.
    fn add_small(&self, event: &Event) {
        let mut state = self.state();
        let is_read = state.read.is_some();
        match event {
            Event::Started(sandbox) => state.sandbox = Some(sandbox.clone()),
            Event::Stdout(data) if is_read => state.push(0, data),
            Event::Stderr(data) if is_read => state.push(1, data),
            Event::Stdout(data) => state.push_small(0, data, self.kept),
            Event::Stderr(data) => state.push_small(1, data, self.kept),
            Event::Display(display) => {
                state.push_display(display.clone());
                // Once there is more, nothing is kept of it.
                if !is_read && state.displays.bytes_so_far() > self.kept as u64 {
                    state.displays.clear();
                }
            }
            // Its caller has them.
            Event::File(chunk) => state.files.pass_over(chunk),
        }
        if is_read {
            for stream in &mut state.streams {
                stream.trim(self.kept, None);
            }
            state.displays.trim(self.kept, None);
            drop(state);
            self.changed.notify_waiters();
        }
    }

    fn finish(&self, finished: Box<Finished>) {
        self.state().finished = Some(finished);
        *self.input.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.changed.notify_waiters();
    }

    /// It is never run: who has attached is told no more.
    pub(super) fn give_up(&self) {
        let mut state = self.state();
        state.given_up = true;
        state.reader += 1;
        state.read = None;
        drop(state);
        self.changed.notify_waiters();
    }

    /// Whether it was never run, and never will be.
    #[must_use]
    pub fn is_given_up(&self) -> bool {
        self.state().given_up
    }

    /// Bytes of output that it holds.
    pub(super) fn held(&self) -> u64 {
        let state = self.state();
        let streams = state.streams.iter().map(|stream| stream.bytes);
        let error = state.finished.as_ref().and_then(|end| end.error.as_ref());
        let error = error.map_or(0, CodeError::size);
        streams
            .chain([state.displays.bytes, state.files.bytes, error])
            .sum::<usize>() as u64
    }

    /// Gives up its output.
    pub(super) fn forget_output(&self) {
        let mut state = self.state();
        state.streams.iter_mut().for_each(Kept::clear);
        state.displays.clear();
        state.files.clear();
        if let Some(end) = &mut state.finished {
            **end = end.in_short();
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// Until `done` says so, or there has been no reader for so long.
    async fn until(&self, alone_for: Duration, done: impl Fn(&State) -> bool) {
        loop {
            // Created before the look, so that nothing is missed.
            let changed = self.changed.notified();
            let over_at = {
                let state = self.state();
                if done(&state) {
                    return;
                }
                state.read.is_none().then(|| state.alone_since + alone_for)
            };
            match over_at {
                None => changed.await,
                Some(at) if at <= Instant::now() => return,
                Some(at) => {
                    tokio::select! {
                        () = changed => {}
                        () = sleep_until(at) => {}
                    }
                }
            }
        }
    }

    /// Until there is room for more output.
    async fn room(&self) {
        self.until(PAUSED_FOR, |state| state.has_room(self.kept))
            .await;
    }

    /// Until it has had no reader for as long as it may.
    async fn abandoned(&self) {
        self.until(self.keep.unwrap_or_default(), |_| false).await;
    }
}

impl State {
    fn push(&mut self, index: usize, data: &Bytes) {
        self.sequence += 1;
        let is_next = self.last.replace(index) == Some(index);
        self.streams[index].push(self.sequence, is_next, data);
    }

    fn push_display(&mut self, display: Display) {
        self.sequence += 1;
        self.last = None;
        self.displays.push(self.sequence, display);
    }

    fn push_small(&mut self, index: usize, data: &Bytes, kept: usize) {
        let stream = &mut self.streams[index];
        if stream.end as usize + data.len() > kept {
            stream.clear();
            stream.end += data.len() as u64;
        } else {
            self.push(index, data);
        }
    }

    /// Whether what is not read yet is less than what is kept.
    fn has_room(&self, kept: usize) -> bool {
        let kept = kept as u64;
        let files = match self.read {
            Some(_) => self.files.bytes_from(self.files_read),
            // They are kept whole.
            None => 0,
        };
        let read = self.read.unwrap_or(self.left_at);
        let displays = self.displays.bytes_from(read[DISPLAYS]);
        let mut streams = self.streams.iter().zip(read);
        (files as u64) < kept
            && displays < kept
            && streams.all(|(stream, read)| stream.end - read < kept)
    }
}
