//! Calls a second, sandboxes recycled, beside plain loops that start and delete sandboxes.
//!
//! The loops: as many as Sandpool has starts in flight, each `runsc run --detach` of the same
//! bundle, agent and warm interpreter included, then `runsc delete --force`. SECONDS shortens a
//! run.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout
)]

mod common;

use std::{
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use common::{Server, python, setting};
use sandpool::{
    proto::{
        agent::{Language, PrepareRequest, agent_service_client::AgentServiceClient},
        v1::{RunRequest, finished::Outcome},
    },
    sandbox::Channel,
};

/// Starts in flight, on both sides.
const STARTING: usize = 2;

/// Runs callers for a while; calls a second.
async fn callers(server: &Server, callers: usize, time: Duration) -> f64 {
    server.settled().await;
    let calls = Arc::new(AtomicU64::new(0));
    let begun = Instant::now();
    let tasks: Vec<_> = (0..callers)
        .map(|_| {
            let (mut client, calls) = (server.client(), calls.clone());
            tokio::spawn(async move {
                while begun.elapsed() < time {
                    let request = RunRequest {
                        spec: Some(python("print(1)\n")),
                        ..RunRequest::default()
                    };
                    let answer = client.run(request).await.unwrap().into_inner();
                    assert_eq!(&answer.stdout[..], b"1\n");
                    let outcome = answer.finished.unwrap().outcome.unwrap();
                    assert!(matches!(outcome, Outcome::Exited(exited) if exited.code == 0));
                    calls.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    // The sandboxes that were idle before are warm again: what was used has been recycled.
    server.settled().await;
    calls.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64()
}

fn runsc(state: &Path) -> tokio::process::Command {
    let mut command = Command::new("runsc");
    command.arg("--root").arg(state).args([
        "--platform=systrap",
        "--network=none",
        "--overlay2=none",
        "--file-access-mounts=exclusive",
    ]);
    command.into()
}

/// One sandbox, started, warmed and deleted plainly.
async fn plain(like: &Path) {
    let id = format!("plain-{:08x}", rand::random::<u32>());
    let dir = std::env::temp_dir().join(&id);
    std::fs::create_dir(&dir).unwrap();
    let bundle = std::fs::read(like.join("config.json")).unwrap();
    let mut bundle: serde_json::Value = serde_json::from_slice(&bundle).unwrap();
    bundle["linux"]["cgroupsPath"] = serde_json::json!(format!("/sandpool-plain/{id}"));
    std::fs::write(dir.join("config.json"), bundle.to_string()).unwrap();
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    let theirs = OwnedFd::from(theirs);
    let started = runsc(&dir.join("state"))
        .args(["run", "--detach", "--bundle"])
        .arg(&dir)
        .arg(&id)
        .stdin(Stdio::from(theirs.try_clone().unwrap()))
        .stdout(Stdio::from(theirs))
        .status()
        .await
        .unwrap();
    assert!(started.success());
    let stream = tokio::net::UnixStream::from_std(ours).unwrap();
    let channel = Channel::connect(Box::pin(stream)).await.unwrap();
    let origin = tonic::codegen::http::Uri::from_static("http://agent");
    let prepared = AgentServiceClient::with_origin(channel, origin)
        .prepare(PrepareRequest {
            languages: vec![Language {
                name: "python".into(),
                spares: 1,
                interpreter: "/usr/bin/python3".into(),
                ..Language::default()
            }],
            ..PrepareRequest::default()
        })
        .await
        .unwrap()
        .into_inner();
    assert!(prepared.failures.is_empty());
    let deleted = runsc(&dir.join("state"))
        .args(["delete", "--force", &id])
        .status()
        .await
        .unwrap();
    assert!(deleted.success());
    std::fs::remove_dir_all(&dir).unwrap();
}

async fn plain_loops(like: &Path, time: Duration) -> f64 {
    let begun = Instant::now();
    let done = AtomicU64::new(0);
    let one = || async {
        while begun.elapsed() < time {
            plain(like).await;
            done.fetch_add(1, Ordering::Relaxed);
        }
    };
    const { assert!(STARTING == 2) };
    tokio::join!(one(), one());
    done.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64()
}

#[tokio::main]
async fn main() {
    let time = Duration::from_secs(setting("SECONDS", 30) as u64);
    let server = Server::start(&format!(
        "[pools.default]\nmin_idle = 4\nmax_sandboxes = 16\nmax_starting = {STARTING}\nmax_queued = 128\nmax_queued_per_caller = 128\nlanguages.python = {{}}\n[pools.default.limits.default]\nqueue_timeout = \"2m\"\n"
    ))
    .await;
    let like = server.sandboxes().pop().unwrap();
    // A copy: the sandbox itself is used up by the first call.
    let copy = tempfile::tempdir().unwrap();
    std::fs::copy(like.join("config.json"), copy.path().join("config.json")).unwrap();

    println!("\ncalls a second over {time:?}, every sandbox new, {STARTING} starts in flight\n");
    println!("| callers | Sandpool | plain run + delete | ratio |");
    println!("|---|---|---|---|");
    for n in [1, 8, 64] {
        let plain = plain_loops(copy.path(), time).await;
        let ours = callers(&server, n, time).await;
        println!("| {n} | {ours:.2} | {plain:.2} | {:.2} |", ours / plain);
    }
}
