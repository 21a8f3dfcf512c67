//! Throughput of stdout beside `runsc exec` to a pipe, and what a second stream sees meanwhile.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout
)]

mod common;

use std::{
    io::Read,
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use common::{Server, floor, ms, python, quantile, setting};
use sandpool::proto::v1::{self, ExecuteRequest, execute_request, execute_response::Event};

/// Writes this many MB in blocks of 64 KiB.
fn loud(megabytes: usize) -> String {
    format!(
        "import os\nb = b'x' * 65536\nn = {megabytes} * 1000000\nwhile n > 0: n -= os.write(1, b[:min(n, 65536)])\n"
    )
}

/// Writes a time to stderr every 10 ms while a thread is loud on stdout.
fn loud_beside_stderr(megabytes: usize) -> String {
    format!(
        "import threading, time, sys\ndef tick():\n while True:\n  sys.stderr.write(f'{{time.time_ns()}}\\n'); time.sleep(.01)\nthreading.Thread(target=tick, daemon=True).start()\n{}",
        loud(megabytes)
    )
}

async fn ours(server: &Server, source: &str, megabytes: usize) -> (f64, Vec<Duration>) {
    let mut spec = python(source);
    spec.limits = Some(v1::Limits {
        output_bytes: 4 << 30,
        timeout: Some(prost_types::Duration {
            seconds: 300,
            nanos: 0,
        }),
        ..v1::Limits::default()
    });
    let request = ExecuteRequest {
        event: Some(execute_request::Event::Start(spec)),
    };
    let mut client = server.client();
    let mut answers = client
        .execute(tokio_stream::once(request))
        .await
        .unwrap()
        .into_inner();
    let (mut bytes, mut begun, mut delays, mut line) = (0, None, Vec::new(), Vec::new());
    while let Some(answer) = answers.message().await.unwrap() {
        match answer.event.unwrap() {
            Event::Stdout(data) => {
                begun.get_or_insert_with(Instant::now);
                bytes += data.len();
            }
            Event::Stderr(data) => {
                let now = std::time::SystemTime::now()
                    .duration_since(std::time::UNIX_EPOCH)
                    .unwrap();
                line.extend_from_slice(&data);
                while let Some(end) = line.iter().position(|byte| *byte == b'\n') {
                    let text: Vec<u8> = line.drain(..=end).collect();
                    let sent: u64 = String::from_utf8(text).unwrap().trim().parse().unwrap();
                    delays.push(now.saturating_sub(Duration::from_nanos(sent)));
                }
            }
            _ => {}
        }
    }
    assert_eq!(bytes, megabytes * 1_000_000);
    (
        megabytes as f64 / begun.unwrap().elapsed().as_secs_f64(),
        delays,
    )
}

fn plain(like: &Path, megabytes: usize) -> f64 {
    let sandbox = floor::Sleeper::start(like);
    let mut exec = sandbox
        .exec(&["/usr/bin/python3", "-c", &loud(megabytes)])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = exec.stdout.take().unwrap();
    let mut buffer = vec![0; 1 << 16];
    let mut bytes = stdout.read(&mut buffer).unwrap();
    let begun = Instant::now();
    loop {
        match stdout.read(&mut buffer).unwrap() {
            0 => break,
            n => bytes += n,
        }
    }
    let rate = megabytes as f64 / begun.elapsed().as_secs_f64();
    assert_eq!(bytes, megabytes * 1_000_000);
    exec.wait().unwrap();
    rate
}

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

    let rounds = setting("ROUNDS", 9);
    let (mut ours_rates, mut plain_rates) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        plain_rates.push(plain(copy.path(), megabytes));
        let (rate, _) = ours(&server, &loud(megabytes), megabytes).await;
        ours_rates.push(rate);
        server.settled().await;
    }
    println!("\nstdout of {megabytes} MB, MB/s, {rounds} rounds, alternating\n");
    println!("| | lowest | median | highest |\n|---|---|---|---|");
    let mut medians = Vec::new();
    for (name, rates) in [
        ("Sandpool", &mut ours_rates),
        ("runsc exec to a pipe", &mut plain_rates),
    ] {
        rates.sort_by(f64::total_cmp);
        let median = rates[rates.len() / 2];
        println!(
            "| {name} | {:.0} | {median:.0} | {:.0} |",
            rates[0],
            rates[rates.len() - 1]
        );
        medians.push(median);
    }
    println!("\nratio of the medians: {:.2}", medians[0] / medians[1]);
    let (rate, mut delays) = ours(&server, &loud_beside_stderr(megabytes), megabytes).await;
    println!(
        "\nstderr of the same program meanwhile ({rate:.0} MB/s on stdout), from write to client, n = {}: p50 {} ms, p99 {} ms",
        delays.len(),
        ms(quantile(&mut delays, 0.5)),
        ms(quantile(&mut delays, 0.99))
    );
}
