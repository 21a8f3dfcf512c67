//! The watch on the memory of executions that share a sandbox: which of them has too much.
//!
//! gVisor tells cheaply what all of them use together ([`MemoryWatch`]). Only when that is more than
//! one of them may use, and now and then for their peaks, their processes are asked one by one.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::oneshot,
    time::{Instant, sleep},
};

use super::{
    marks::{Mark, memory_by_mark},
    memory::{MemoryWatch, Overrun, pause_before},
};

/// How often the processes are asked at least, and how much of the time that may take at most: one part
/// in so many. Unless there is no time: when all together have too much, they are asked at each look.
const ASK_EVERY: Duration = Duration::from_millis(100);
const SHARE_OF_TIME: u32 = 10;

/// The executions that are watched.
pub(super) struct Shares {
    memory: Arc<MemoryWatch>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    watched: HashMap<Mark, Watched>,
    /// Whether a task looks.
    looking: bool,
    /// When one was ended since all had too much: what it had is free a little later.
    ended_at: Option<Instant>,
}

struct Watched {
    limit: u64,
    all_limit: u64,
    /// What its main process had before it was the program.
    before: u64,
    peak: u64,
    passed: Option<oneshot::Sender<Overrun>>,
}

/// One execution under watch, until this is dropped.
pub(super) struct Share {
    shares: Arc<Shares>,
    mark: Mark,
    passed: oneshot::Receiver<Overrun>,
}

impl Shares {
    pub(super) fn new(memory: Arc<MemoryWatch>) -> Arc<Self> {
        Arc::new(Self {
            memory,
            state: Mutex::default(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Watches a program from now on, which has just started with `before` bytes. `limit`: bytes more
    /// for it and all that it starts; `all_limit`: for all executions together, beyond which the one
    /// ends that has the most.
    pub(super) fn watch(
        self: &Arc<Self>,
        mark: Mark,
        before: u64,
        limit: u64,
        all_limit: u64,
    ) -> Share {
        let (sender, passed) = oneshot::channel();
        let mut state = self.state();
        let watched = Watched {
            limit,
            all_limit,
            before,
            peak: 0,
            passed: Some(sender),
        };
        state.watched.insert(mark, watched);
        if !std::mem::replace(&mut state.looking, true) {
            // Ends with the last one.
            tokio::spawn(self.clone().look());
        }
        Share {
            shares: self.clone(),
            mark,
            passed,
        }
    }

    /// The most that one under watch was seen to have, in bytes.
    pub(super) fn peak(&self, mark: Mark) -> u64 {
        self.state().watched.get(&mark).map_or(0, |it| it.peak)
    }

    async fn look(self: Arc<Self>) {
        let mut asked_at = Instant::now();
        let mut ask_again_in = ASK_EVERY;
        let mut pause = Duration::ZERO;
        loop {
            sleep(pause).await;
            let Some((all, least, all_limit)) = self.all_and_limits() else {
                return;
            };
            pause = pause_before(least.min(all_limit).saturating_sub(all), ASK_EVERY);
            let waited = asked_at.elapsed();
            if all > all_limit || waited >= ask_again_in {
                asked_at = Instant::now();
                self.ask(all);
                ask_again_in = asked_at.elapsed() * SHARE_OF_TIME;
                if all <= least {
                    ask_again_in = ask_again_in.max(ASK_EVERY);
                }
            }
        }
    }

    /// What all use, the smallest limit of one, and the limit of all; none, and nobody looks any more,
    /// when nobody is watched.
    fn all_and_limits(&self) -> Option<(u64, u64, u64)> {
        let mut state = self.state();
        let least = state.watched.values().map(|it| it.limit).min();
        let all_limit = state.watched.values().map(|it| it.all_limit).min();
        state.looking = least.is_some();
        Some((
            self.memory.more_than_before().unwrap_or(0),
            least?,
            all_limit?,
        ))
    }

    /// Asks all processes, and tells the executions that have too much.
    fn ask(&self, all: u64) {
        let memory = memory_by_mark();
        let State {
            watched, ended_at, ..
        } = &mut *self.state();
        let mut most: Option<(u64, Mark)> = None;
        let mut one_ends = false;
        for (mark, it) in watched.iter_mut() {
            let memory = memory.get(mark).copied().unwrap_or(0);
            // Shared pages count for each process, so that the sum may be more than there is.
            let memory = memory.saturating_sub(it.before).min(all);
            it.peak = it.peak.max(memory);
            if memory > it.limit {
                it.pass(it.limit);
            }
            // One at a time: what it has is free once it has ended.
            one_ends |= it.passed.is_none();
            if all > it.all_limit && most.is_none_or(|(most, _)| memory > most) {
                most = Some((memory, *mark));
            }
        }
        if one_ends || ended_at.is_some_and(|at| at.elapsed() < ASK_EVERY) {
            return;
        }
        if let Some(it) = most.and_then(|(_, mark)| watched.get_mut(&mark)) {
            it.pass(it.all_limit);
            *ended_at = Some(Instant::now());
        }
    }
}

impl Watched {
    fn pass(&mut self, limit: u64) {
        if let Some(passed) = self.passed.take() {
            // It may just have ended.
            let _ = passed.send(Overrun::Memory(limit));
        }
    }
}

impl Share {
    /// Returns once it has too much, or all have and it the most.
    pub(super) async fn overrun(&mut self) -> Overrun {
        match (&mut self.passed).await {
            Ok(overrun) => overrun,
            // It was told already.
            Err(_) => std::future::pending().await,
        }
    }

    /// The most that it was seen to have, in bytes.
    pub(super) fn peak(&self) -> u64 {
        self.shares.peak(self.mark)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.shares.state().watched.remove(&self.mark);
    }
}
