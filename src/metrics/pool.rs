//! What is counted of one pool.

use std::{sync::Arc, time::Duration};

use prometheus_client::metrics::{counter::Counter, histogram::Histogram};

use super::{Counters, Metrics, OfCause, OfOutcome, OfPool, OfReason, RefusalReason};
use crate::execution::{LostCause, Outcome};

/// What is counted of one pool.
#[derive(Debug)]
pub struct PoolMetrics {
    name: Arc<str>,
    executions: Counters<OfOutcome>,
    lost: Counters<OfCause>,
    refused: Counters<OfReason>,
    queue_wait: Histogram,
    lease: Histogram,
    first_output: Histogram,
    start_time: Histogram,
    /// Its sandboxes' starts.
    pub starts: Attempts,
    /// Its sandboxes' deletions.
    pub deletes: Attempts,
    /// Connections to its sandboxes that are made again after a cut.
    pub reattaches: Attempts,
}

/// What is tried, and may fail. Clones count together; one by itself is shown nowhere.
#[derive(Clone, Debug, Default)]
pub struct Attempts {
    begun: Counter,
    failed: Counter,
}

impl Attempts {
    /// One begins.
    pub fn begin(&self) {
        self.begun.inc();
    }

    /// One that began has failed. One that is given up has not.
    pub fn fail(&self) {
        self.failed.inc();
    }
}

impl PoolMetrics {
    pub(super) fn new(metrics: &Metrics, name: &str) -> Self {
        let name: Arc<str> = name.into();
        let pool = OfPool { pool: name.clone() };
        let attempts = |begun: &Counters<OfPool>, failed: &Counters<OfPool>| Attempts {
            begun: begun.get_or_create_owned(&pool),
            failed: failed.get_or_create_owned(&pool),
        };
        let made = Self {
            executions: metrics.executions.clone(),
            lost: metrics.lost.clone(),
            refused: metrics.refused.clone(),
            queue_wait: metrics.queue_wait.get_or_create_owned(&pool),
            lease: metrics.lease.get_or_create_owned(&pool),
            first_output: metrics.first_output.get_or_create_owned(&pool),
            start_time: metrics.start_time.get_or_create_owned(&pool),
            starts: attempts(&metrics.starts, &metrics.start_failures),
            deletes: attempts(&metrics.deletes, &metrics.delete_failures),
            reattaches: attempts(&metrics.reattaches, &metrics.reattach_failures),
            name,
        };
        made.show_all();
        made
    }

    /// Shows as 0 what has not happened yet: a rate sees only a number that changes.
    fn show_all(&self) {
        for outcome in Outcome::NAMES {
            self.executions
                .get_or_create_owned(&self.of_outcome(outcome));
        }
        for cause in LostCause::ALL {
            self.lost.get_or_create_owned(&self.of_cause(cause));
        }
        for reason in RefusalReason::ALL {
            self.refused.get_or_create_owned(&self.of_reason(reason));
        }
    }

    /// A request asks for a sandbox.
    #[must_use]
    pub const fn ask(&self) -> Asking<'_> {
        Asking {
            metrics: self,
            answered: false,
        }
    }

    /// A sandbox is warm, so long after its start began.
    pub fn warm(&self, after: Duration) {
        self.start_time.observe(after.as_secs_f64());
    }

    /// A program has ended. `first_output`: how long after the request its first output was there.
    pub fn end(&self, outcome: &Outcome, first_output: Option<Duration>) {
        let of = self.of_outcome(outcome.name());
        self.executions.get_or_create(&of).inc();
        if let Outcome::Lost(cause, _) = outcome {
            self.lost.get_or_create(&self.of_cause(*cause)).inc();
        }
        if let Some(first_output) = first_output {
            self.first_output.observe(first_output.as_secs_f64());
        }
    }

    fn of_outcome(&self, outcome: &'static str) -> OfOutcome {
        let pool = self.name.clone();
        OfOutcome { pool, outcome }
    }

    fn of_cause(&self, cause: LostCause) -> OfCause {
        let (pool, cause) = (self.name.clone(), cause.name());
        OfCause { pool, cause }
    }

    fn of_reason(&self, reason: RefusalReason) -> OfReason {
        let (pool, reason) = (self.name.clone(), reason.name());
        OfReason { pool, reason }
    }
}

/// A request that asks for a sandbox. Dropped without an answer, its caller has gone.
#[derive(Debug)]
pub struct Asking<'a> {
    metrics: &'a PoolMetrics,
    answered: bool,
}

impl Asking<'_> {
    /// It has one, so long after it asked the pool, and after it arrived.
    pub fn granted(mut self, after_asking: Duration, after_arrival: Duration) {
        self.answered = true;
        self.metrics.queue_wait.observe(after_asking.as_secs_f64());
        self.metrics.lease.observe(after_arrival.as_secs_f64());
    }

    /// It gets none.
    pub fn refused(mut self, reason: RefusalReason) {
        self.answered = true;
        self.count(reason);
    }

    fn count(&self, reason: RefusalReason) {
        let of = self.metrics.of_reason(reason);
        self.metrics.refused.get_or_create(&of).inc();
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        if !self.answered {
            self.count(RefusalReason::CallerGone);
        }
    }
}
