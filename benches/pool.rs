//! How many leases a second the pool itself can give, over sandboxes that cost nothing: each is
//! leased, released, deleted and replaced.

#![allow(clippy::expect_used, clippy::print_stdout)]

use std::{
    env,
    sync::Arc,
    time::{Duration, Instant},
};

use sandpool::{
    backend::SandboxId,
    pool::{Pool, PoolSettings, Provision, Provisioned},
};
use tokio::sync::watch;

struct Nothing;

impl Provision for Nothing {
    type Sandbox = ();

    async fn start(&self, _: &SandboxId) -> Result<Provisioned<()>, String> {
        Ok(Provisioned {
            sandbox: (),
            gone: Box::pin(std::future::pending()),
            connected: watch::Sender::new(true),
        })
    }

    async fn delete(&self, _: &SandboxId) -> Result<(), String> {
        Ok(())
    }
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("the benchmark needs a runtime");
    // `cargo test --benches` only asks whether it runs at all.
    let (length, rounds) = if env::args().any(|arg| arg == "--bench") {
        (Duration::from_secs(3), 3)
    } else {
        (Duration::from_millis(50), 1)
    };
    for (leasers, min_idle) in [(1, 64), (8, 64), (64, 64), (64, 1024)] {
        for _ in 0..rounds {
            let (cycles, took) = runtime.block_on(measure(leasers, min_idle, length));
            let rate = f64::from(cycles) / took.as_secs_f64();
            println!("{leasers:4} leasers, {min_idle:5} idle: {rate:9.0} leases and recycles/s");
        }
    }
}

async fn measure(leasers: u32, min_idle: u32, length: Duration) -> (u32, Duration) {
    let settings = PoolSettings {
        name: "bench".into(),
        min_idle,
        max_sandboxes: min_idle * 2,
        max_queued: leasers,
        max_queued_per_caller: Some(leasers),
        max_starting: min_idle,
        start_delay: Duration::ZERO,
        connected_idle: 500,
        max_idle_age: Duration::from_secs(3600),
    };
    let pool = Pool::spawn(settings, Arc::new(Nothing), "b");
    pool.warm().await;
    let begin = Instant::now();
    let tasks: Vec<_> = (0..leasers)
        .map(|_| {
            let pool = Arc::clone(&pool);
            tokio::spawn(async move {
                let mut cycles = 0;
                while begin.elapsed() < length {
                    let lease = pool.lease("caller", length * 2).await;
                    drop(lease.expect("nobody waits that long"));
                    cycles += 1;
                    // A request would wait here for its sandbox, and others run meanwhile.
                    tokio::task::yield_now().await;
                }
                cycles
            })
        })
        .collect();
    let mut cycles = 0;
    for task in tasks {
        cycles += task.await.expect("a leaser panicked");
    }
    let took = begin.elapsed();
    // Every cycle counted has been deleted, too, when this ends.
    pool.shutdown().await;
    (cycles, took)
}
