//! Many sandboxes that live on, and all that can be done in them, for minutes: nobody reads what is another's, and
//! nothing is left of it.
//!
//! - `work`: what is done, a function for each kind of it
//! - `held`: what the server holds of memory, descriptors, threads and sandboxes
//!
//! `make soak` runs it, on the local backend. SOAK_SECONDS (300) says for how long, SOAK_SANDBOXES (50) how many
//! sandboxes there are at once.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    dead_code,
    missing_docs,
    unreachable_pub,
    unused_imports,
    unused_macros
)]

#[path = "../common/agent.rs"]
mod agent;
#[path = "../e2e/harness/mod.rs"]
mod harness;

mod held;
mod work;

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tonic::Code;
use v1::finished::Outcome;

use crate::{
    harness::{named::Named, *},
    held::Held,
};

/// A pool of small sandboxes. What is known of ended executions is bounded so closely that the bounds are reached
/// while the server warms up, and forgotten so soon that the test can wait for it.
fn pool(sandboxes: usize) -> String {
    let idle = 2;
    let most = sandboxes + idle;
    format!(
        "[executions]\n\
         remembered = 2000\n\
         remember_for = \"20s\"\n\
         kept_output = \"64KiB\"\n\
         kept_output_total = \"32MiB\"\n\
         [pools.main]\n\
         min_idle = {idle}\n\
         max_sandboxes = {most}\n\
         max_queued = {most}\n\
         max_queued_per_caller = {most}\n\
         named.max_per_caller = {sandboxes}\n\
         volumes = {{ workspace = \"16MiB\", tmp = \"4MiB\", home = \"4MiB\" }}\n\
         limits.default = {{ memory = \"128MiB\", queue_timeout = \"80s\" }}\n\
         limits.max.memory = \"128MiB\"\n\
         languages.python.interpreter = \"/usr/bin/python3\"\n\
         languages.bash = {{}}\n"
    )
}

fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

#[tokio::test]
async fn nothing_is_mixed_up_and_nothing_is_left() {
    only_local!("the server's memory and descriptors are looked at");
    let time = Duration::from_secs(setting("SOAK_SECONDS", 300) as u64);
    let sandboxes = setting("SOAK_SANDBOXES", 50);
    // The tests' usual log would be gigabytes, and is what the server would be busy with.
    let quiet = Server::with(&pool(sandboxes)).env("SANDPOOL_LOG__LEVEL", "info".into());
    let server = quiet.start();
    let control = server.client().await;
    control.wait_full("main").await;
    let before = Held::by(&server).await;

    let begun = Instant::now();
    let until = begun + time;
    let keepers = (0..sandboxes).map(|number| keep_using(&server, number, until));
    let (_, memory) = tokio::join!(join_all(keepers), held::memory_until(&server, until));
    let starts = server.scrape().await;
    let starts = starts.value("sandpool_sandbox_starts_total", &[("pool", "main")]);
    println!(
        "{} pieces of work and {starts} sandboxes within {:?}",
        work::count(),
        begun.elapsed()
    );
    memory.assert_flat();
    held::assert_nothing_left(&server, &control, &before).await;
}

/// Creates a sandbox, does everything in it, deletes it, and again, until the time is over.
async fn keep_using(server: &Server, number: usize, until: Instant) {
    while Instant::now() < until {
        let client = server.client().await;
        let label = ("keeper".to_owned(), number.to_string());
        let create = |request: &mut v1::CreateSandboxRequest| {
            request.pool = "main".into();
            request.labels.extend([label]);
        };
        let named = client.named_with(create).await;
        // Each begins with another kind of work, so that all of them go on at once.
        work::all_kinds(&client, &named, number, until).await;
        delete_in_use(&client, named).await;
    }
}

/// Deletes a sandbox in which a program runs.
async fn delete_in_use(client: &Client, named: Named) {
    let id = named.id.clone();
    let running = ready(bash("echo ready; cat").within(&id), client).await;
    named.delete().await;
    let done = running.finish().await;
    assert!(
        matches!(done.outcome(), Outcome::Cancelled(it) if it.reason.contains("deleted by its caller")),
        "{}",
        done.describe()
    );
    let status = client.get_named(&id).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound, "{status}");
}
