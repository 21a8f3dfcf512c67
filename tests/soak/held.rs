//! What the server holds, while there is work and when there is none.

use std::{
    collections::BTreeSet,
    fs,
    time::{Duration, Instant},
};

use tokio::time::sleep;

use crate::harness::*;

/// How often what can only be looked at is.
const EVERY: Duration = Duration::from_secs(1);
/// How long it takes until all sandboxes are there and all kinds of work have been done.
const WARM_UP: Duration = Duration::from_secs(50);
/// How much larger the server may be at the end of the same load, in KiB. Its allocator does not give everything
/// back, and of the output that is kept there is more at one time than at another: with 50 sandboxes that is 1 MiB.
/// A leak of 3 KiB for each piece of work is more than this after 5 minutes on two processors.
const MAX_GROWTH: u64 = 4 << 10;

/// Resident memory in KiB, looked at once a second.
pub(crate) struct Memory {
    time: Duration,
    samples: Vec<u64>,
}

/// Looks at the server's memory until then.
pub(crate) async fn memory_until(server: &Server, until: Instant) -> Memory {
    let time = until - Instant::now();
    let mut samples = Vec::new();
    while Instant::now() < until {
        samples.push(resident(server.pid()));
        sleep(EVERY).await;
    }
    Memory { time, samples }
}

fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let value = status.lines().find_map(|it| it.strip_prefix("VmRSS:"));
    let value = value.and_then(|it| it.trim().strip_suffix(" kB"));
    value.unwrap().trim().parse().unwrap()
}

impl Memory {
    /// Asserts that there is no more of it at the end of the load than once the server was warm.
    pub(crate) fn assert_flat(&self) {
        let sixth = self.samples.len() / 6;
        // The first third is the warm-up: all bounds of what the server remembers are reached in it.
        let warm = median(&self.samples[2 * sixth..=3 * sixth]);
        let end = median(&self.samples[5 * sixth..]);
        println!("resident memory: {warm} KiB when warm, {end} KiB at the end");
        if self.time / 3 < WARM_UP {
            println!("in so short a time the server does not get warm: no bound");
            return;
        }
        assert!(
            end <= warm + MAX_GROWTH,
            "more and more memory, in KiB, second by second: {:?}",
            self.samples
        );
    }
}

fn median(samples: &[u64]) -> u64 {
    let mut sorted = samples.to_vec();
    sorted.sort_unstable();
    sorted[sorted.len() / 2]
}

/// What a server holds that has nothing to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Held {
    descriptors: usize,
    threads: usize,
    tasks: usize,
    /// Those of gVisor's that name the server's directory.
    processes: usize,
    /// Those of sandboxes, each with runsc's own state, and what they share.
    directories: usize,
}

impl Held {
    pub(crate) async fn by(server: &Server) -> Self {
        let tasks = server.scrape().await.value("sandpool_tasks", &[]);
        let count = |directory| {
            let entries = fs::read_dir(format!("/proc/{}/{directory}", server.pid()));
            entries.unwrap().count()
        };
        let traces = server.traces();
        let processes = traces.iter().filter(|it| it.starts_with("process "));
        let named: BTreeSet<_> = processes.filter(|it| it.contains(" --root=")).collect();
        let directories = traces.iter().filter(|it| it.starts_with("directory "));
        Self {
            descriptors: count("fd"),
            threads: count("task"),
            // A small whole number.
            tasks: tasks as usize,
            processes: named.len(),
            directories: directories.count(),
        }
    }
}

/// Asserts that a server that has nothing to do is as it was before it had, and remembers nothing.
pub(crate) async fn assert_nothing_left(server: &Server, client: &Client, before: &Held) {
    let pool = client.wait_full("main").await;
    let idle = server.sandboxes("main");
    assert_eq!(idle.len(), pool.spec.unwrap().min_idle as usize);
    let all = v1::ListSandboxesRequest::default();
    let listed = client.sandboxes.clone().list_sandboxes(all).await;
    assert_eq!(listed.unwrap().into_inner().sandboxes, []);
    assert_gauges(&server.scrape().await, idle.len());

    let forgotten = async {
        while !client.list_executions("", "").await.is_empty() {
            sleep(EVERY).await;
        }
    };
    soon("the end of all listings", forgotten).await;
    // Threads that have nothing to do, and connections that were closed, end after some seconds.
    let as_before = async {
        loop {
            let held = Held::by(server).await;
            if held == *before {
                return;
            }
            println!("{held:?}, where there were {before:?}");
            sleep(EVERY).await;
        }
    };
    soon("as few of everything as before", as_before).await;
}

fn assert_gauges(scrape: &Scrape, idle: usize) {
    for (state, expected) in [
        ("starting", 0),
        ("idle", idle),
        ("leased", 0),
        ("recycling", 0),
    ] {
        let labels = [("pool", "main"), ("state", state)];
        let value = scrape.value("sandpool_sandboxes", &labels);
        assert_eq!(value, expected as f64, "{state}");
    }
    let queued = scrape.value("sandpool_queued_requests", &[("pool", "main")]);
    assert_eq!(queued, 0.0);
}
