//! What is read when somebody looks: how many sandboxes there are, and when the cluster was last
//! heard of.

use std::{fmt, sync::Arc};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Unit,
};
use tokio::runtime::Handle;

use crate::{
    backend::kubernetes::Cluster,
    dispatch::Dispatcher,
    pool::{PoolHealth, PoolStatus},
};

type Count = fn(&PoolStatus) -> u32;

/// The states of sandboxes.
const STATES: [(&str, Count); 4] = [
    ("starting", |pool| pool.starting),
    ("idle", |pool| pool.idle),
    ("leased", |pool| pool.leased),
    ("recycling", |pool| pool.recycling),
];

/// What else there is one number of for each pool: its name, its help, and the number.
const OF_POOLS: [(&str, &str, Count); 4] = [
    (
        "queued_requests",
        "Requests that wait for a sandbox.",
        |pool| pool.queued,
    ),
    (
        "pool_min_idle",
        "How many sandboxes are to be idle.",
        |pool| pool.min_idle,
    ),
    (
        "pool_max_sandboxes",
        "How many sandboxes there may be in all.",
        |pool| pool.max_sandboxes,
    ),
    (
        "pool_ready",
        "1 if the pool has been warm, its last start succeeded and it is not drained, else 0.",
        |pool| u32::from(pool.health == PoolHealth::Ready),
    ),
];

/// Reads the pools, and the cluster if the sandboxes are in one.
pub(super) struct Gauges {
    pub(super) dispatcher: Arc<Dispatcher>,
    pub(super) cluster: Option<Arc<Cluster>>,
}

impl fmt::Debug for Gauges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Gauges")
    }
}

impl Collector for Gauges {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        // Each pool is looked at once, so that its numbers fit together.
        let pools: Vec<(&str, PoolStatus)> = self
            .dispatcher
            .pools()
            .map(|(name, pool)| (name.as_str(), pool.status()))
            .collect();
        encode_pools(&pools, &mut encoder)?;
        // Whoever asks is answered by a task.
        if let Ok(runtime) = Handle::try_current() {
            let help = "Tasks of the server: of calls, connections, executions and sandboxes.";
            let gauge = encoder.encode_descriptor("tasks", help, None, MetricType::Gauge)?;
            let tasks = runtime.metrics().num_alive_tasks();
            ConstGauge::new(u32::try_from(tasks).unwrap_or(u32::MAX)).encode(gauge)?;
        }
        match &self.cluster {
            Some(cluster) => encode_cluster(cluster, &mut encoder),
            None => Ok(()),
        }
    }
}

fn encode_pools(pools: &[(&str, PoolStatus)], encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let help = "Sandboxes, by state.";
    let mut sandboxes = encoder.encode_descriptor("sandboxes", help, None, MetricType::Gauge)?;
    for (pool, status) in pools {
        for (state, count) in STATES {
            let labels = [("pool", *pool), ("state", state)];
            let gauge = ConstGauge::new(count(status));
            gauge.encode(sandboxes.encode_family(&labels)?)?;
        }
    }
    for (name, help, count) in OF_POOLS {
        let mut gauges = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (pool, status) in pools {
            let labels = [("pool", *pool)];
            let gauge = ConstGauge::new(count(status));
            gauge.encode(gauges.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

fn encode_cluster(cluster: &Cluster, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let contact = cluster.contact();
    for (name, help, age) in [
        (
            "kubernetes_lease_age",
            "Since the server's Lease was last renewed.",
            contact.lease_renewed,
        ),
        (
            "kubernetes_watch_age",
            "Since the watch of the pods last told anything or was opened again, as it is every minute.",
            contact.pods_heard,
        ),
    ] {
        let unit = Some(&Unit::Seconds);
        let gauge = encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?;
        ConstGauge::new(age.as_secs_f64()).encode(gauge)?;
    }
    let interruptions = encoder.encode_descriptor(
        "kubernetes_watch_interruptions",
        "How often the watch of the pods was interrupted, attempts to open it again included.",
        None,
        MetricType::Counter,
    )?;
    ConstCounter::new(contact.watch_interruptions).encode(interruptions)
}
