//! How long a program takes through Sandpool, beside the floor (see `common/floor.rs`).
//!
//! Each sample is the first use of a fresh, warm sandbox that was idle before; samples of both
//! sides alternate, and so does which one goes first. SAMPLES and IDLE_MS shorten a run, ONLY=print
//! or ONLY=numpy halves it.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout
)]

mod common;

use std::time::Duration;

use common::{
    Nothing, Server,
    floor::Floor,
    median_and_p99, ms, print_latencies, print_latencies_head,
    sample::{execute, print_stages, stage},
    setting,
};

async fn compare(name: &str, preload: &[&str], source: &str) {
    let samples = setting("SAMPLES", 300);
    let idle = Duration::from_millis(setting("IDLE_MS", 300) as u64);
    let server = Server::start(&format!(
        "[pools.default]\nmin_idle = 1\nmax_sandboxes = 2\nlanguages.python = {{ preload = {preload:?} }}\n"
    ))
    .await;
    let mut client = server.client();
    let mut call = Nothing::of(&server);
    let (mut ours, mut floor, mut nothing) = (Vec::new(), Vec::new(), Vec::new());
    for sample in 0..samples {
        let like = server.sandboxes().pop().unwrap();
        let waiting = Floor::start(&like, &preload.join(" "), source);
        // They take turns in going first: the second one has been idle for longer.
        tokio::time::sleep(idle).await;
        if sample % 2 == 0 {
            ours.push(execute(&mut client, source).await);
            server.settled().await;
            tokio::time::sleep(idle).await;
            floor.push(waiting.run());
        } else {
            floor.push(waiting.run());
            tokio::time::sleep(idle).await;
            ours.push(execute(&mut client, source).await);
            server.settled().await;
        }
        tokio::time::sleep(idle).await;
        nothing.push(call.call().await);
    }

    println!("\n{name}, n = {samples} fresh sandboxes a side, idle for {idle:?} before\n");
    print_latencies_head();
    let row = |name: &str, ours: [Duration; 2], mut floor: Vec<Duration>| {
        print_latencies(name, ours, median_and_p99(&mut floor));
    };
    row(
        "request to first output",
        stage(&ours, |s| s.first_output),
        floor.iter().map(|s| s.first_output).collect(),
    );
    row(
        "request to Finished (floor: runsc exec has ended)",
        stage(&ours, |s| s.finished),
        floor.iter().map(|s| s.exited).collect(),
    );
    row(
        "the same (floor: end of output)",
        stage(&ours, |s| s.finished),
        floor.iter().map(|s| s.end_of_output).collect(),
    );
    print_stages(&ours);
    let [p50, p99] = median_and_p99(&mut nothing).map(ms);
    println!(
        "  a call of the same server's that does nothing, after the same idle time: {p50} {p99}"
    );
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    common::hold_client();
    let only = std::env::var("ONLY").unwrap_or_default();
    let numpy = "import numpy\nprint(numpy.arange(10).sum())\n";
    for (name, preload, source) in [
        ("print(1)", &[][..], "print(1)\n"),
        ("numpy, preloaded and used", &["numpy"], numpy),
    ] {
        if name.contains(&only) {
            compare(name, preload, source).await;
        }
    }
}
