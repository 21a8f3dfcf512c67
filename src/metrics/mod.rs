//! What is counted while the server runs, for Prometheus.
//!
//! - [`Metrics`]: all of it, by name; `labels.rs`: what the numbers are told apart by
//! - `pool.rs`: one pool's part, for whoever sees something happen
//!
//! An event costs an atomic addition or a short lock, and no allocation. What is read only when
//! somebody looks, such as how many sandboxes are idle, is in `serve/monitor/gauges.rs`.

mod labels;
mod pool;
#[cfg(test)]
mod tests;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::{Registry, Unit},
};

use self::labels::{OfCause, OfOutcome, OfPool, OfReason};
pub use self::{
    labels::RefusalReason,
    pool::{Asking, Attempts, PoolMetrics},
};

/// What all names begin with.
const PREFIX: &str = "sandpool";
/// Upper bounds in seconds: a warm sandbox answers within milliseconds, a queue may take minutes.
const WAITS: [f64; 18] = [
    0.001, 0.0015, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0,
    15.0, 60.0, 300.0,
];
/// Upper bounds in seconds: a machine starts a sandbox in less than one, and a cluster that has to
/// add a node takes minutes.
const STARTS: [f64; 14] = [
    0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0, 300.0,
];

type Counters<L> = Family<L, Counter>;
type Histograms = Family<OfPool, Histogram, fn() -> Histogram>;

/// What is counted of all pools.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    executions: Counters<OfOutcome>,
    lost: Counters<OfCause>,
    refused: Counters<OfReason>,
    queue_wait: Histograms,
    lease: Histograms,
    first_output: Histograms,
    starts: Counters<OfPool>,
    start_failures: Counters<OfPool>,
    start_time: Histograms,
    deletes: Counters<OfPool>,
    delete_failures: Counters<OfPool>,
    reattaches: Counters<OfPool>,
    reattach_failures: Counters<OfPool>,
}

impl Default for Metrics {
    /// Nothing has been counted yet, and there is no pool.
    fn default() -> Self {
        let mut registry = Registry::with_prefix(PREFIX);
        let of = &mut registry;
        Self {
            executions: counters(of, "executions", "Executions that ended, by outcome"),
            lost: counters(
                of,
                "sandboxes_lost",
                "Executions that ended as sandbox_lost, by cause",
            ),
            refused: counters(
                of,
                "requests_refused",
                "Valid requests that got no sandbox, by reason",
            ),
            queue_wait: waits(
                of,
                "queue_wait",
                "How long requests that got a sandbox waited for it",
            ),
            lease: waits(
                of,
                "request_to_lease",
                "From a request's arrival until it had its sandbox",
            ),
            first_output: waits(
                of,
                "request_to_first_output",
                "From a request's arrival until its program's first output was there",
            ),
            starts: counters(of, "sandbox_starts", "Starts of sandboxes that began"),
            start_failures: counters(
                of,
                "sandbox_start_failures",
                "Starts of sandboxes that failed",
            ),
            start_time: histograms(
                of,
                "sandbox_start",
                "From the start of a sandbox until it was warm",
                || Histogram::new(STARTS),
            ),
            deletes: counters(
                of,
                "sandbox_deletes",
                "Deletions of sandboxes that began, further attempts included",
            ),
            delete_failures: counters(
                of,
                "sandbox_delete_failures",
                "Deletions of sandboxes that failed and are tried again",
            ),
            reattaches: counters(of, "reattaches", "Attempts to connect to a sandbox again"),
            reattach_failures: counters(
                of,
                "reattach_failures",
                "Attempts to reach a sandbox again that failed",
            ),
            registry,
        }
    }
}

impl Metrics {
    /// The part of one pool.
    #[must_use]
    pub fn pool(&self, name: &str) -> PoolMetrics {
        PoolMetrics::new(self, name)
    }

    /// What is shown, and goes on counting.
    #[must_use]
    pub fn into_registry(self) -> Registry {
        self.registry
    }
}

fn counters<L>(registry: &mut Registry, name: &str, help: &str) -> Counters<L>
where
    L: EncodeLabelSet + std::hash::Hash + Eq + Clone + std::fmt::Debug + Send + Sync + 'static,
{
    let counters = Counters::default();
    registry.register(name, help, counters.clone());
    counters
}

fn waits(registry: &mut Registry, name: &str, help: &str) -> Histograms {
    histograms(registry, name, help, || Histogram::new(WAITS))
}

fn histograms(
    registry: &mut Registry,
    name: &str,
    help: &str,
    one: fn() -> Histogram,
) -> Histograms {
    let histograms = Histograms::new_with_constructor(one);
    registry.register_with_unit(name, help, Unit::Seconds, histograms.clone());
    histograms
}
