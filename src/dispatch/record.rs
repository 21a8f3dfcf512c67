//! What is kept of an execution: its output for those who attach, and how it ended.
//!
//! A record has at most one reader, the last one that attached. While there is one, and for a while after it has
//! gone, output that it has not taken pauses the program; after that the program runs in the background, and the
//! newest of its output is kept.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use bytes::{Bytes, BytesMut};
use tokio::{
    sync::{Notify, mpsc},
    time::{Instant, sleep_until, timeout},
};

use super::{Timings, Update};
use crate::{
    backend::SandboxId,
    execution::{Outcome, Usage},
    sandbox::{Event, Events, Input, OutputChunk},
};

/// How long a program is paused for a reader who has gone, and may come again.
const PAUSED_FOR: Duration = Duration::from_secs(30);
/// What is kept besides for that reader, in bytes of a stream: he was told of it, and may not have had it when his
/// connection broke. As much as windows of gRPC clients hold.
const ON_ITS_WAY: usize = 4 << 20;
/// The most that a reader is told at a time.
const MOST_AT_ONCE: usize = 128 * 1024;
/// Pieces that are smaller than this are put together, as far as the order of the two streams allows.
const SMALL: usize = 4 * 1024;
/// Beyond so many pieces of a stream they are put together whatever the order.
const MAX_PIECES: usize = 2048;

/// One of the two output streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputStream {
    /// stdout.
    Stdout,
    /// stderr.
    Stderr,
}

const STREAMS: [OutputStream; 2] = [OutputStream::Stdout, OutputStream::Stderr];

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
    pub finished: Option<(Outcome, Usage, Timings)>,
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
    input: Mutex<Option<mpsc::Sender<Input>>>,
    state: Mutex<State>,
    changed: Notify,
}

struct State {
    sandbox: Option<SandboxId>,
    streams: [Kept; 2],
    /// The order of pieces of both streams.
    sequence: u64,
    last: Option<usize>,
    files: VecDeque<OutputChunk>,
    finished: Option<(Outcome, Usage, Timings)>,
    /// Which reader is the one, and how far it has each stream.
    reader: u64,
    read: Option<[u64; 2]>,
    /// How far the last one had got when it went.
    left_at: [u64; 2],
    /// Since when there is none.
    alone_since: Instant,
}

/// The newest bytes of a stream.
#[derive(Default)]
struct Kept {
    pieces: VecDeque<Piece>,
    bytes: usize,
    end: u64,
}

struct Piece {
    sequence: u64,
    offset: u64,
    data: BytesMut,
}

impl Kept {
    fn push(&mut self, sequence: u64, is_next: bool, data: &Bytes) {
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
    fn trim(&mut self, kept: usize, read: Option<u64>) {
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

    fn clear(&mut self) {
        self.pieces.clear();
        self.bytes = 0;
    }

    /// The first piece that reaches beyond `offset`.
    fn at(&self, offset: u64) -> Option<&Piece> {
        let index = self
            .pieces
            .partition_point(|piece| piece.offset + piece.data.len() as u64 <= offset);
        self.pieces.get(index)
    }
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
                sequence: 0,
                last: None,
                files: VecDeque::new(),
                finished: None,
                reader: 0,
                read: None,
                left_at: [0, 0],
                alone_since: Instant::now(),
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
    pub fn set_input(&self, input: mpsc::Sender<Input>) {
        *self.input.lock().unwrap_or_else(PoisonError::into_inner) = Some(input);
    }

    /// Where input goes; none once it has ended, or where input is its call's alone.
    #[must_use]
    pub fn input(&self) -> Option<mpsc::Sender<Input>> {
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
            finished: state.finished.clone(),
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

    /// Attaches to it: `offsets` of stdout and stderr are had already. Who has attached before is no longer
    /// told anything.
    #[must_use]
    pub fn attach(self: &Arc<Self>, offsets: [u64; 2]) -> Reader {
        let mut state = self.state();
        state.reader += 1;
        let offsets = [0, 1].map(|index| offsets[index].min(state.streams[index].end));
        state.read = Some(offsets);
        let number = state.reader;
        drop(state);
        self.changed.notify_waiters();
        Reader {
            record: self.clone(),
            number,
            started: false,
            finished: false,
        }
    }

    fn add(&self, event: Event) {
        let mut state = self.state();
        match event {
            Event::Started(sandbox) => state.sandbox = Some(sandbox),
            Event::Stdout(data) => state.push(0, &data),
            Event::Stderr(data) => state.push(1, &data),
            Event::File(chunk) => state.files.push_back(chunk),
        }
        let read = state.read;
        let may_come_again = read.is_some() || state.alone_since.elapsed() < PAUSED_FOR;
        let kept = self.kept + if may_come_again { ON_ITS_WAY } else { 0 };
        for (index, stream) in state.streams.iter_mut().enumerate() {
            stream.trim(kept, read.map(|read| read[index]));
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// The same of what its caller is told directly: it is kept as long as it is little.
    fn add_small(&self, event: &Event) {
        let mut state = self.state();
        match event {
            Event::Started(sandbox) => state.sandbox = Some(sandbox.clone()),
            Event::Stdout(data) => state.push_small(0, data, self.kept),
            Event::Stderr(data) => state.push_small(1, data, self.kept),
            // Its caller has them.
            Event::File(_) => {}
        }
    }

    fn finish(&self, outcome: Outcome, usage: Usage, timings: Timings) {
        self.state().finished = Some((outcome, usage, timings));
        *self.input.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.changed.notify_waiters();
    }

    /// Bytes of output that it holds.
    pub(super) fn held(&self) -> u64 {
        let state = self.state();
        let files = state.files.iter().map(|file| file.content.len());
        let streams = state.streams.iter().map(|stream| stream.bytes);
        files.chain(streams).sum::<usize>() as u64
    }

    /// Gives up its output.
    pub(super) fn forget_output(&self) {
        let mut state = self.state();
        state.streams.iter_mut().for_each(Kept::clear);
        state.files.clear();
        drop(state);
        self.changed.notify_waiters();
    }

    /// Until there is room for more output.
    async fn room(&self) {
        loop {
            let changed = self.changed.notified();
            let patience = {
                let state = self.state();
                if state.has_room(self.kept) {
                    return;
                }
                state.read.is_none().then(|| state.alone_since + PAUSED_FOR)
            };
            match patience {
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

    /// Until it has had no reader for as long as it may.
    async fn abandoned(&self, keep: Duration) {
        loop {
            let changed = self.changed.notified();
            let at = {
                let state = self.state();
                state.read.is_none().then(|| state.alone_since + keep)
            };
            match at {
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
}

impl State {
    fn push(&mut self, index: usize, data: &Bytes) {
        self.sequence += 1;
        let is_next = self.last.replace(index) == Some(index);
        self.streams[index].push(self.sequence, is_next, data);
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
        let Some(read) = self.read else {
            // Files are kept whole: their own limit bounds them.
            let mut streams = self.streams.iter().zip(self.left_at);
            return streams.all(|(stream, left_at)| stream.end - left_at < kept);
        };
        let files: usize = self.files.iter().map(|file| file.content.len()).sum();
        let mut streams = self.streams.iter().zip(read);
        (files as u64) < kept && streams.all(|(stream, read)| stream.end - read < kept)
    }
}

/// One who reads an execution. Dropped, it has gone away.
pub struct Reader {
    record: Arc<Record>,
    number: u64,
    started: bool,
    finished: bool,
}

impl Reader {
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
            match self.look()? {
                Some(told) => {
                    self.finished = matches!(told, Told::Update(Update::Finished(..)));
                    record.changed.notify_waiters();
                    return Some(told);
                }
                None => changed.await,
            }
        }
    }

    /// None: it is over. Some(None): nothing yet.
    #[allow(clippy::option_option)]
    fn look(&mut self) -> Option<Option<Told>> {
        let mut state = self.record.state();
        if state.reader != self.number || self.finished {
            return None;
        }
        let mut read = state.read?;
        if !self.started {
            let Some(sandbox) = state.sandbox.clone() else {
                // It may never start.
                return Some(self.end(&state));
            };
            self.started = true;
            return Some(Some(Told::Update(Update::Event(Event::Started(sandbox)))));
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
            let told = match stream.at(from) {
                Some(piece) if piece.offset <= from => {
                    // Within the piece, whose length is a usize.
                    let skip = (from - piece.offset) as usize;
                    let end = piece.data.len().min(skip + MOST_AT_ONCE);
                    let data = Bytes::copy_from_slice(&piece.data[skip..end]);
                    read[index] += data.len() as u64;
                    Told::Update(Update::Event(match STREAMS[index] {
                        OutputStream::Stdout => Event::Stdout(data),
                        OutputStream::Stderr => Event::Stderr(data),
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
            return Some(Some(told));
        }
        if let Some(file) = state.files.pop_front() {
            return Some(Some(Told::Update(Update::Event(Event::File(file)))));
        }
        Some(self.end(&state))
    }

    fn end(&self, state: &State) -> Option<Told> {
        let (outcome, usage, timings) = state.finished.clone()?;
        Some(Told::Update(Update::Finished(outcome, usage, timings)))
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

/// Where an execution's updates go.
pub enum Sink {
    /// To its caller, with whom it ends. What is little is kept, too.
    Caller(mpsc::Sender<Update>, Arc<Record>),
    /// To whoever attaches.
    Kept(Arc<Record>),
}

impl Events for Sink {
    async fn gone(&self) {
        match self {
            Self::Caller(updates, _) => updates.closed().await,
            Self::Kept(record) => record.abandoned(record.keep.unwrap_or_default()).await,
        }
    }

    async fn room(&self) {
        match self {
            Self::Caller(updates, _) => Events::room(updates).await,
            Self::Kept(record) => record.room().await,
        }
    }

    fn give(&self, event: Event) {
        match self {
            Self::Caller(updates, record) => {
                record.add_small(&event);
                updates.give(event);
            }
            Self::Kept(record) => record.add(event),
        }
    }
}

impl Sink {
    /// What is left, and then the end.
    pub(super) async fn finish(
        &self,
        rest: Vec<Event>,
        (outcome, usage, timings): (Outcome, Usage, Timings),
        patience: Duration,
    ) {
        match self {
            Self::Kept(record) => {
                rest.into_iter().for_each(|event| record.add(event));
                record.finish(outcome, usage, timings);
            }
            Self::Caller(updates, record) => {
                rest.iter().for_each(|event| record.add_small(event));
                record.finish(outcome.clone(), usage, timings);
                let last = Update::Finished(outcome, usage, timings);
                for update in rest.into_iter().map(Update::Event).chain([last]) {
                    match timeout(patience, updates.send(update)).await {
                        Ok(Ok(())) => {}
                        // It has gone, or takes nothing.
                        Ok(Err(_)) | Err(_) => return,
                    }
                }
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn record(kept: usize) -> (Arc<Record>, Sink) {
        let record = Record::new(NewRecord {
            execution_id: "e".into(),
            pool: "p".into(),
            labels: BTreeMap::new(),
            fingerprint: 1,
            keep: Some(Duration::from_secs(600)),
            kept,
        });
        let sink = Sink::Kept(record.clone());
        sink.give(Event::Started(SandboxId::new("p", "s", 1)));
        (record, sink)
    }

    fn stdout(data: &[u8]) -> Event {
        Event::Stdout(Bytes::copy_from_slice(data))
    }

    fn stderr(data: &[u8]) -> Event {
        Event::Stderr(Bytes::copy_from_slice(data))
    }

    /// What a reader is told, in short.
    async fn told(reader: &mut Reader) -> String {
        let text = |data: Bytes| String::from_utf8(data.to_vec()).unwrap();
        match reader.next().await {
            None => "over".into(),
            Some(Told::Gap {
                stream,
                offset,
                bytes,
            }) => format!("{stream:?} gap {offset}+{bytes}"),
            Some(Told::Update(Update::Event(event))) => match event {
                Event::Started(_) => "started".into(),
                Event::Stdout(data) => format!("out {}", text(data)),
                Event::Stderr(data) => format!("err {}", text(data)),
                Event::File(_) => "file".into(),
            },
            Some(Told::Update(Update::Finished(..))) => "finished".into(),
        }
    }

    async fn end(sink: &Sink) {
        let end = (Outcome::Exited(0), Usage::default(), Timings::default());
        sink.finish(Vec::new(), end, Duration::ZERO).await;
    }

    #[tokio::test]
    async fn a_reader_is_told_everything_in_order_and_the_end_once() {
        let (record, sink) = record(1000);
        for event in [stdout(b"a"), stdout(b"b"), stderr(b"c"), stdout(b"d")] {
            sink.give(event);
        }
        end(&sink).await;
        let mut reader = record.attach([0, 0]);
        for expected in ["started", "out ab", "err c", "out d", "finished", "over"] {
            assert_eq!(told(&mut reader).await, expected);
        }
        let mut again = record.attach([1, 1]);
        for expected in ["started", "out b", "out d", "finished", "over"] {
            assert_eq!(told(&mut again).await, expected);
        }
        assert_eq!(told(&mut reader).await, "over", "another one has attached");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_no_longer_kept_is_told() {
        let (record, sink) = record(10);
        tokio::time::advance(PAUSED_FOR).await;
        sink.give(stdout(&[b'a'; SMALL]));
        sink.give(stdout(b"last"));
        sink.give(stdout(&[b'b'; SMALL]));
        let mut reader = record.attach([1, 0]);
        let gap = format!("Stdout gap 1+{}", SMALL + 3);
        let last = format!("out {}", "b".repeat(SMALL));
        for expected in ["started", &gap, &last] {
            assert_eq!(told(&mut reader).await, expected);
        }
        record.forget_output();
        end(&sink).await;
        let mut late = record.attach([0, 0]);
        let gap = format!("Stdout gap 0+{}", 2 * SMALL + 4);
        for expected in ["started", &gap, "finished"] {
            assert_eq!(told(&mut late).await, expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn output_that_nobody_takes_pauses_the_program_for_a_while() {
        let (record, sink) = record(10);
        let reader = record.attach([0, 0]);
        sink.give(stdout(&[b'a'; 20]));
        let begun = Instant::now();
        let waited = timeout(Duration::from_secs(3600), sink.room()).await;
        assert!(waited.is_err(), "a reader who is there is waited for");
        drop(reader);
        sink.room().await;
        let since = begun.elapsed().as_secs() - 3600;
        assert_eq!(since, PAUSED_FOR.as_secs());
        sink.gone().await;
        assert_eq!(begun.elapsed().as_secs() - 3600, 600);
    }

    #[tokio::test]
    async fn single_bytes_do_not_cost_more_than_they_are() {
        let (record, sink) = record(1 << 20);
        for _ in 0..100_000 {
            sink.give(stdout(b"o"));
            sink.give(stderr(b"e"));
        }
        let state = record.state();
        for stream in &state.streams {
            assert_eq!((stream.bytes, stream.end), (100_000, 100_000));
            assert!(stream.pieces.len() <= MAX_PIECES);
        }
    }
}
