//! Starts: which are under way, how long they take, and when the next may begin.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Number,
    backoff::{self, Jitter},
};

struct Start {
    since: Instant,
    // How many rounds had failed when it began.
    round: u32,
}

/// Whether a start is wanted that nobody waits for.
#[derive(Clone, Copy)]
enum Wanted {
    No,
    /// It may begin then.
    From(Instant),
    Now,
}

pub(super) struct Starts {
    under_way: BTreeMap<Number, Start>,
    limit: usize,
    delay: Duration,
    wanted: Wanted,
    jitter: Jitter,
    typical: Duration,
    // A round is what was started before its failure was known: when the API server is away, all
    // that was under way fails at once, and that is one reason to wait longer, not many.
    failed_rounds: u32,
    retry_at: Option<Instant>,
    failed: u32,
    reason: Option<Arc<str>>,
}

impl Starts {
    pub(super) fn new(limit: u32, delay: Duration, jitter: Jitter) -> Self {
        Self {
            under_way: BTreeMap::new(),
            limit: limit.max(1) as usize,
            delay,
            wanted: Wanted::No,
            jitter,
            typical: Duration::from_secs(1),
            failed_rounds: 0,
            retry_at: None,
            failed: 0,
            reason: None,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.under_way.len()
    }

    pub(super) fn may_begin(&self, now: Instant) -> bool {
        // While starts fail, one at a time finds out as well whether they succeed again.
        let limit = if self.failed_rounds > 0 {
            1
        } else {
            self.limit
        };
        self.under_way.len() < limit && self.retry_at.is_none_or(|at| at <= now)
    }

    /// Puts a start off that nobody waits for; `false` once it has been put off long enough. What
    /// is wanted meanwhile begins together with it: the delay is not begun anew.
    pub(super) fn put_off(&mut self, now: Instant) -> bool {
        let from = match self.wanted {
            Wanted::No => now + self.delay,
            Wanted::From(from) => from,
            Wanted::Now => now,
        };
        self.wanted = if now < from {
            Wanted::From(from)
        } else {
            Wanted::Now
        };
        now < from
    }

    /// No start is wanted.
    pub(super) fn enough(&mut self) {
        self.wanted = Wanted::No;
    }

    /// When a start may begin again, if that is not yet.
    pub(super) fn next_tick(&self) -> Option<Instant> {
        let wanted = match self.wanted {
            Wanted::From(from) => Some(from),
            Wanted::No | Wanted::Now => None,
        };
        self.retry_at.into_iter().chain(wanted).min()
    }

    /// Forgets a delay that is over, so that nobody is woken for it again.
    pub(super) fn tick(&mut self, now: Instant) {
        self.retry_at = self.retry_at.filter(|at| *at > now);
    }

    pub(super) fn begin(&mut self, number: Number, now: Instant) {
        self.retry_at = None;
        let start = Start {
            since: now,
            round: self.failed_rounds,
        };
        self.under_way.insert(number, start);
    }

    pub(super) fn succeeded(&mut self, number: Number, now: Instant) -> bool {
        let Some(start) = self.under_way.remove(&number) else {
            return false;
        };
        let took = now.saturating_duration_since(start.since);
        self.typical = (self.typical * 7 + took) / 8;
        self.failed_rounds = 0;
        self.retry_at = None;
        self.failed = 0;
        self.reason = None;
        true
    }

    pub(super) fn failed(&mut self, number: Number, reason: String, now: Instant) -> bool {
        let Some(start) = self.under_way.remove(&number) else {
            return false;
        };
        if start.round == self.failed_rounds {
            self.failed_rounds = self.failed_rounds.saturating_add(1);
            self.retry_at = Some(now + backoff::delay(self.failed_rounds, self.jitter));
        }
        self.failed = self.failed.saturating_add(1);
        self.reason = Some(reason.into());
        true
    }

    /// A sandbox that died so soon that its start might as well have failed: without this, one
    /// that always dies when it is up would be replaced as fast as the machine can.
    pub(super) fn died_young(&mut self, reason: String, now: Instant) {
        self.failed_rounds = self.failed_rounds.max(1);
        let until = now + backoff::delay(self.failed_rounds, self.jitter);
        self.retry_at = Some(self.retry_at.map_or(until, |at| at.max(until)));
        self.failed = self.failed.saturating_add(1);
        self.reason = Some(reason.into());
    }

    /// Gives up the newest start.
    pub(super) fn abandon(&mut self) -> Option<Number> {
        self.under_way.pop_last().map(|(number, _)| number)
    }

    /// The last failure and how many there were, if the last start failed.
    pub(super) fn failure(&self) -> Option<(&Arc<str>, u32)> {
        self.reason.as_ref().map(|reason| (reason, self.failed))
    }

    /// When a sandbox may be free for one who comes after `ahead` others.
    pub(super) fn estimate(&self, ahead: usize, max_sandboxes: u32) -> Duration {
        let side_by_side = self.limit.min(max_sandboxes.max(1) as usize);
        let rounds = u32::try_from(ahead / side_by_side + 1).unwrap_or(u32::MAX);
        let estimate = self.typical.saturating_mul(rounds);
        estimate.clamp(Duration::from_millis(100), Duration::from_secs(30))
    }
}
