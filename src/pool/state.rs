//! Which sandbox is in which state, and what is to be done about it.
//!
//! A state machine without await, clock or lock: the time is passed in, and what is to be done
//! comes out, as [`Work`] for whoever starts and deletes and as [`Answer`]s for whoever waits.
//!
//! ```text
//!            start            lease             release
//!    (none) ------> starting ------> idle ---> leased ---> recycling ---> (gone)
//!                       |              |          |            ^
//!                       +--fails-------+--dies----+--dies------+
//! ```
//!
//! A sandbox is in exactly one of the maps of [`State`], and only ever moves to the right: what
//! was leased, failed or died is deleted, never leased again.

mod backoff;
mod connected;
mod idle;
mod recycling;
mod starts;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

pub(super) use self::backoff::Jitter;
use self::{
    connected::Change,
    idle::{Idle, Warm},
    recycling::Recycling,
    starts::Starts,
};
use super::{
    error::{LeaseError, ResizeError},
    queue::{Full, Queue, Ticket},
    status::{PoolHealth, PoolSettings, PoolStatus},
};

/// An idle sandbox that dies before this age has hardly started.
const PROVEN: Duration = Duration::from_secs(10);

/// The number in a sandbox's id. Never used twice, so what comes late for one that is gone finds
/// nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Number(pub(super) u64);

/// What is to be done with a sandbox.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Work<S> {
    /// Start it; answer with [`State::started`] or [`State::start_failed`].
    Start(Number),
    /// Stop starting it; answer the same way, when nothing of the start runs any more.
    Abandon(Number),
    /// Open its connection again: it is one of those that are leased next.
    Connect(Number),
    /// Close its connection: others are leased before it.
    Disconnect(Number),
    /// Drop the sandbox and delete it; answer with [`State::deleted`] or [`State::delete_failed`].
    Recycle(Number, Option<S>),
}

/// What one in the queue is told, once.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer<S> {
    Grant(Ticket, Number, S),
    Refuse(Ticket, LeaseError),
}

/// What one who asks for a sandbox is told at once.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Asked<S> {
    Granted(Number, S),
    Queued(Ticket),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Mode {
    Open,
    Drained,
    ShuttingDown,
}

pub(super) struct State<S> {
    mode: Mode,
    min_idle: u32,
    max_sandboxes: u32,
    max_queued: Limit,
    max_queued_per_caller: Limit,
    next_number: u64,
    warmed: bool,
    queue: Queue,
    starts: Starts,
    // Starts that are to stop and have not yet.
    abandoned: BTreeSet<Number>,
    idle: Idle<S>,
    leased: HashSet<Number>,
    recycling: Recycling,
    /// Why nothing may be leased, if so.
    refusal: Option<String>,
    /// What is to be done; taken by whoever does it.
    pub(super) work: Vec<Work<S>>,
    /// What is to be said; taken by whoever caused it.
    pub(super) answers: Vec<Answer<S>>,
}

struct Limit {
    limit: u32,
    key: Arc<str>,
}

impl<S> State<S> {
    /// The first starts are in `work` already.
    pub(super) fn new(
        settings: &PoolSettings,
        jitter: Jitter,
        is_connected: fn(&S) -> bool,
        now: Instant,
    ) -> Self {
        let limit = |limit, key| Limit {
            limit,
            key: format!("pools.{}.{key}", settings.name).into(),
        };
        let caller_limit = settings.caller_limit();
        let mut state = Self {
            mode: Mode::Open,
            min_idle: settings.min_idle,
            max_sandboxes: settings.max_sandboxes,
            max_queued: limit(settings.max_queued, "max_queued"),
            max_queued_per_caller: limit(caller_limit, "max_queued_per_caller"),
            next_number: 0,
            warmed: false,
            queue: Queue::new(settings.max_queued, caller_limit),
            starts: Starts::new(settings.max_starting, settings.start_delay, jitter),
            abandoned: BTreeSet::new(),
            idle: Idle::new(
                settings.connected_idle as usize,
                settings.max_idle_age,
                jitter,
                is_connected,
            ),
            leased: HashSet::new(),
            recycling: Recycling::new(jitter),
            refusal: None,
            work: Vec::new(),
            answers: Vec::new(),
        };
        state.settle(now);
        state
    }

    /// Asks for a sandbox: one that is idle, or a place in the queue.
    pub(super) fn lease(&mut self, caller: &str, now: Instant) -> Result<Asked<S>, LeaseError> {
        match self.mode {
            Mode::Open => {}
            Mode::Drained => return Err(LeaseError::Drained),
            Mode::ShuttingDown => return Err(LeaseError::ShuttingDown),
        }
        // Nobody is passed over: whoever waits has already been given what was idle.
        let asked = match self.idle.pop_next() {
            Some((number, warm)) => {
                self.leased.insert(number);
                Asked::Granted(number, warm.sandbox)
            }
            None => Asked::Queued(
                self.queue
                    .push(caller, now)
                    .map_err(|full| self.refusal(full))?,
            ),
        };
        self.settle(now);
        Ok(asked)
    }

    fn refusal(&self, full: Full) -> LeaseError {
        let retry_after = self.starts.estimate(self.queue.len(), self.max_sandboxes);
        match full {
            Full::Queue => LeaseError::QueueFull {
                limit: self.max_queued.limit,
                key: Arc::clone(&self.max_queued.key),
                retry_after,
            },
            Full::Caller => LeaseError::CallerQueueFull {
                limit: self.max_queued_per_caller.limit,
                key: Arc::clone(&self.max_queued_per_caller.key),
                retry_after,
            },
        }
    }

    /// One in the queue went away. Nothing happens if it has been answered.
    pub(super) fn cancelled(&mut self, ticket: Ticket) {
        self.queue.remove(ticket);
    }

    /// The time of one in the queue is over. `None` if it has been answered: then that holds.
    pub(super) fn expired(&mut self, ticket: Ticket, now: Instant) -> Option<LeaseError> {
        let since = self.queue.remove(ticket)?;
        Some(LeaseError::QueueTimeout {
            waited: now.saturating_duration_since(since),
        })
    }

    /// A lease ended.
    pub(super) fn released(&mut self, number: Number, now: Instant) {
        if self.leased.remove(&number) {
            self.recycle(number, None);
            self.settle(now);
        }
    }

    /// A start succeeded.
    pub(super) fn started(&mut self, number: Number, sandbox: S, now: Instant) {
        if let Some(reason) = self.refusal.clone()
            && self.starts.failed(number, reason, now)
        {
            self.recycle(number, Some(sandbox));
        } else if self.starts.succeeded(number, now) {
            self.idle.push(number, sandbox, now);
        } else if self.abandoned.remove(&number) {
            self.recycle(number, Some(sandbox));
        }
        self.settle(now);
    }

    /// A start failed, or stopped because it was abandoned.
    pub(super) fn start_failed(&mut self, number: Number, reason: String, now: Instant) {
        // What it left behind has to be deleted, too.
        if self.starts.failed(number, reason, now) || self.abandoned.remove(&number) {
            self.recycle(number, None);
        }
        self.settle(now);
    }

    /// A sandbox died. One that is being started or deleted says so by failing or by being gone.
    pub(super) fn died(&mut self, number: Number, reason: String, now: Instant) {
        if let Some(warm) = self.idle.remove(number) {
            if now.saturating_duration_since(warm.since) < PROVEN {
                self.starts.died_young(reason, now);
            }
            self.recycle(number, Some(warm.sandbox));
        } else if self.leased.remove(&number) {
            // Its holder finds out from the sandbox; the room it takes is free for another.
            self.recycle(number, None);
        }
        self.settle(now);
    }

    /// Nothing may be leased, for that reason: what is idle is deleted, and what gets ready counts as
    /// failed. `None`: it may again.
    pub(super) fn refuse(&mut self, refusal: Option<String>, now: Instant) {
        self.refusal = refusal;
        if let Some(reason) = self.refusal.clone() {
            while let Some((number, warm)) = self.idle.pop_oldest() {
                self.recycle(number, Some(warm.sandbox));
            }
            self.starts.died_young(reason, now);
        }
        self.settle(now);
    }

    /// A sandbox is deleted.
    pub(super) fn deleted(&mut self, number: Number, now: Instant) {
        self.recycling.done(number);
        self.settle(now);
    }

    /// A sandbox may still be there; it is deleted again later.
    pub(super) fn delete_failed(&mut self, number: Number, now: Instant) {
        self.recycling.failed(number, now);
    }

    /// Changes the size until the server restarts. What is too many is deleted, except leases.
    pub(super) fn resize(
        &mut self,
        min_idle: Option<u32>,
        max_sandboxes: Option<u32>,
        now: Instant,
    ) -> Result<(), ResizeError> {
        if self.mode != Mode::Open {
            return Err(ResizeError::Drained);
        }
        let min_idle = min_idle.unwrap_or(self.min_idle);
        let max_sandboxes = max_sandboxes.unwrap_or(self.max_sandboxes);
        if max_sandboxes == 0 {
            return Err(ResizeError::NoSandboxes);
        }
        if min_idle > max_sandboxes {
            return Err(ResizeError::MinIdleAboveMax {
                min_idle,
                max_sandboxes,
            });
        }
        (self.min_idle, self.max_sandboxes) = (min_idle, max_sandboxes);
        while self.has_surplus() && self.shed() {}
        self.settle(now);
        Ok(())
    }

    fn has_surplus(&self) -> bool {
        let ready_or_soon = self.idle.len() + self.starts.len();
        ready_or_soon > self.min_idle as usize + self.queue.len()
            || ready_or_soon + self.leased.len() > self.max_sandboxes as usize
    }

    /// Lets go of one that nobody uses: one that is not warm yet rather than one that is.
    fn shed(&mut self) -> bool {
        if let Some(number) = self.starts.abandon() {
            self.abandoned.insert(number);
            self.work.push(Work::Abandon(number));
        } else if let Some((number, warm)) = self.idle.pop_oldest() {
            self.recycle(number, Some(warm.sandbox));
        } else {
            return false;
        }
        true
    }

    /// Leases nothing more and deletes what is idle. Leases end by themselves.
    pub(super) fn drain(&mut self) {
        self.close(Mode::Drained, &LeaseError::Drained);
    }

    /// The same, for the end of the server.
    pub(super) fn shut_down(&mut self) {
        self.close(Mode::ShuttingDown, &LeaseError::ShuttingDown);
    }

    fn close(&mut self, mode: Mode, error: &LeaseError) {
        self.mode = self.mode.max(mode);
        self.warmed = true;
        while let Some(ticket) = self.queue.pop() {
            self.answers.push(Answer::Refuse(ticket, error.clone()));
        }
        while self.shed() {}
    }

    /// When to [`State::tick`] next.
    pub(super) fn next_tick(&self) -> Option<Instant> {
        let start = self.starts.next_tick().filter(|_| self.mode == Mode::Open);
        [start, self.idle.next_look(), self.recycling.next_retry()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Time has passed.
    pub(super) fn tick(&mut self, now: Instant) {
        self.starts.tick(now);
        while let Some(number) = self.recycling.due(now) {
            self.work.push(Work::Recycle(number, None));
        }
        for (number, warm) in self.idle.look(now) {
            self.recycle(number, Some(warm.sandbox));
        }
        self.settle(now);
    }

    /// Whether the pool is shutting down and nothing of it is left.
    pub(super) fn is_over(&self) -> bool {
        self.mode == Mode::ShuttingDown && self.total() == 0
    }

    pub(super) fn status(&self) -> PoolStatus {
        let health = match (self.mode, self.starts.failure()) {
            (Mode::Drained | Mode::ShuttingDown, _) => PoolHealth::Drained,
            (Mode::Open, Some((reason, failed_starts))) => PoolHealth::Unhealthy {
                reason: Arc::clone(reason),
                failed_starts,
            },
            (Mode::Open, None) if self.warmed => PoolHealth::Ready,
            (Mode::Open, None) => PoolHealth::Warming,
        };
        PoolStatus {
            starting: count(self.starts.len()),
            idle: count(self.idle.len()),
            leased: count(self.leased.len()),
            recycling: count(self.recycling.len() + self.abandoned.len()),
            queued: count(self.queue.len()),
            min_idle: self.min_idle,
            max_sandboxes: self.max_sandboxes,
            warmed: self.warmed,
            health,
        }
    }

    fn total(&self) -> usize {
        let used_or_usable = self.starts.len() + self.idle.len() + self.leased.len();
        used_or_usable + self.recycling.len() + self.abandoned.len()
    }

    fn recycle(&mut self, number: Number, sandbox: Option<S>) {
        self.recycling.begin(number);
        self.work.push(Work::Recycle(number, sandbox));
    }

    /// Restores what always holds: nobody waits while something is idle, and what is missing is
    /// being started.
    fn settle(&mut self, now: Instant) {
        if self.mode != Mode::Open {
            return;
        }
        while self.queue.len() > 0
            && let Some((number, Warm { sandbox, .. })) = self.idle.pop_next()
        {
            self.leased.insert(number);
            if let Some(ticket) = self.queue.pop() {
                self.answers.push(Answer::Grant(ticket, number, sandbox));
            }
        }
        self.warmed |= self.idle.len() + self.leased.len() >= self.min_idle as usize;
        self.retire();
        self.fill(now);
        let changes = self.idle.changes.drain(..);
        self.work.extend(changes.map(|change| match change {
            Change::Connect(number) => Work::Connect(number),
            Change::Disconnect(number) => Work::Disconnect(number),
        }));
    }

    /// Replaces what is too old: the replacement first, then the old one, as long as there is
    /// room for both; else one after the other, and never the last.
    fn retire(&mut self) {
        while self.idle.expired() > 0 {
            let replaced = self.idle.len() > self.min_idle as usize;
            let no_room = self.total() >= self.max_sandboxes as usize && self.idle.len() > 1;
            let swapping = self.starts.len() + self.recycling.len() + self.abandoned.len() > 0;
            if !replaced && (!no_room || swapping) {
                return;
            }
            let Some((number, warm)) = self.idle.pop_expired() else {
                return;
            };
            self.recycle(number, Some(warm.sandbox));
        }
    }

    fn fill(&mut self, now: Instant) {
        let wanted = self.min_idle as usize + self.queue.len() + self.idle.expired();
        let is_short = |state: &Self| {
            state.idle.len() + state.starts.len() < wanted
                && state.total() < state.max_sandboxes as usize
        };
        if !is_short(self) {
            self.starts.enough();
            return;
        }
        let is_waited_for = self.queue.len() > 0 || !self.warmed;
        if self.starts.put_off(now) && !is_waited_for {
            return;
        }
        while is_short(self) && self.starts.may_begin(now) {
            let number = Number(self.next_number);
            self.next_number += 1;
            self.starts.begin(number, now);
            self.work.push(Work::Start(number));
        }
    }
}

/// No pool is larger than `max_sandboxes`, a u32.
fn count(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}
