//! Throughput of stdout beside `runsc exec` to a pipe, and what a second stream sees meanwhile.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout
)]

mod common;

use common::{
    Server, floor,
    loud::{loud, loud_beside_stderr, print_delays, through_sandpool},
    rates::{print_rates, read_from},
    setting,
};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let megabytes = setting("MEGABYTES", 1000);
    // No more sandboxes than one, so that its successor does not start meanwhile: the other side
    // has none.
    let server = Server::start(
        "[pools.default]\nmin_idle = 1\nmax_sandboxes = 1\ncpus = 2.0\nlanguages.python = {}\n[pools.default.limits.max]\noutput = \"4GiB\"\n",
    )
    .await;
    let copy = tempfile::tempdir().unwrap();
    let like = server.sandboxes().pop().unwrap();
    std::fs::copy(like.join("config.json"), copy.path().join("config.json")).unwrap();

    let mut client = server.client();
    let rounds = setting("ROUNDS", 9);
    let (mut ours_rates, mut plain_rates) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let sandbox = floor::Sleeper::start(copy.path());
        let exec = sandbox.exec(&["/usr/bin/python3", "-c", &loud(megabytes)]);
        plain_rates.push(read_from(exec, megabytes * 1_000_000));
        drop(sandbox);
        let (rate, _) = through_sandpool(&mut client, &loud(megabytes), megabytes).await;
        ours_rates.push(rate);
        server.settled().await;
    }
    println!("\nstdout of {megabytes} MB, MB/s, {rounds} rounds, alternating\n");
    print_rates(&mut [
        ("Sandpool", ours_rates),
        ("runsc exec to a pipe", plain_rates),
    ]);
    let source = loud_beside_stderr(megabytes);
    let (rate, delays) = through_sandpool(&mut client, &source, megabytes).await;
    print_delays(
        &format!("the same program ({rate:.0} MB/s on stdout)"),
        delays,
    );
}
