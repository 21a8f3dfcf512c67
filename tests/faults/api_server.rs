//! The API server is away for a while, in which many programs run, or none.

use std::time::Duration;

use tonic::{Code, Status};

use crate::{POOLS, cluster, harness::*, traffic::Traffic};

const MANY: usize = 20;
const POOL: &str = r#"
[pools.main]
min_idle = 20
max_sandboxes = 20
volumes = { workspace = "1MiB", tmp = "1MiB", home = "1MiB" }
limits.default = { timeout = "5m", queue_timeout = "80s", memory = "64MiB" }
limits.max = { timeout = "10m", memory = "64MiB" }
languages.python.interpreter = "/usr/bin/python3"
"#;

/// How long it is away.
const AWAY: Duration = Duration::from_secs(20);
/// 30 s of it.
const TRAFFIC: Traffic = Traffic {
    output: 600 << 10,
    input: 600 << 10,
    piece: 4 << 10,
    pause: Duration::from_millis(200),
};

/// Its connections are reset, and new ones are refused.
async fn killed(client: Client) {
    cluster::component("kill", "kube-apiserver");
    let _killed = Killed;
    tokio::time::sleep(AWAY).await;
    leases_nothing(&python("print('never')").refused(&client).await);
}

/// It is started again once this is dropped.
struct Killed;

impl Drop for Killed {
    fn drop(&mut self) {
        cluster::component("start", "kube-apiserver");
    }
}

/// Its connections stay, new ones are made, and nobody answers.
async fn frozen(client: Client) {
    let _frozen = cluster::freeze("kube-apiserver");
    tokio::time::sleep(AWAY).await;
    leases_nothing(&python("print('never')").refused(&client).await);
}

/// A server that could not renew its Lease uses no sandbox: it may soon be taken for dead.
fn leases_nothing(status: &Status) {
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    assert!(status.message().contains("lost touch"), "{status}");
}

async fn many() -> (Server, Client) {
    let server = Server::with(POOL)
        // However busy the machine is once the API server is back.
        .env("SANDPOOL_BACKEND__REATTACH_TIMEOUT", "2m".into())
        .start_cold();
    let client = server.client().await;
    client.wait_full("main").await;
    (server, client)
}

async fn costs_no_byte(away: impl AsyncFnOnce(Client)) {
    let (server, client) = many().await;
    let mut flows = Vec::new();
    for _ in 0..MANY {
        flows.push(TRAFFIC.start(&client).await);
    }
    // Over a connection of its own: in the other one waits the input of all of them.
    away(server.client().await).await;
    for flow in flows {
        flow.whole().await;
    }
    cluster::settled(&client).await;
}

#[tokio::test]
async fn twenty_programs_miss_no_byte_of_an_api_server_that_is_killed_for_20_s() {
    costs_no_byte(killed).await;
}

#[tokio::test]
async fn twenty_programs_miss_no_byte_of_an_api_server_that_is_frozen_for_20_s() {
    costs_no_byte(frozen).await;
}

/// A program that waits for a word. A server that could not renew its Lease takes none until it has.
async fn started(client: &Client) -> Execution {
    let spec = python("print(input())").stdin_open();
    soon("a renewed Lease", async {
        loop {
            match spec.clone().try_start(client).await {
                Ok(execution) => return execution,
                Err(status) => assert_eq!(status.code(), Code::Unavailable, "{status}"),
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    })
    .await
}

async fn costs_no_sandbox(away: impl AsyncFnOnce(Client)) {
    let (server, client) = many().await;
    let idle = server.sandboxes("main");
    let neighbour = Server::with(POOLS).start();
    let idle_there = neighbour.sandboxes("main");
    away(client.clone()).await;
    let mut used = Vec::new();
    for _ in 0..MANY {
        let mut execution = started(&client).await;
        used.push((execution.started().await, execution));
    }
    for (id, execution) in used {
        assert!(idle.contains(&id), "{id} is a new one");
        execution.send("there\n").await;
        execution.finish().await.printed("there\n");
    }
    // Neither has taken the other one for dead.
    let mut execution = started(&neighbour.client().await).await;
    let used = execution.started().await;
    assert!(idle_there.contains(&used), "{used} is a new one");
    execution.send("there, too\n").await;
    execution.finish().await.printed("there, too\n");
    // While the node has twenty pods to delete and to start, a server's end would leave some of its own.
    client.wait_full("main").await;
    drop(neighbour);
    cluster::settled(&client).await;
}

#[tokio::test]
async fn an_api_server_that_is_killed_for_20_s_costs_no_idle_sandbox() {
    costs_no_sandbox(killed).await;
}

#[tokio::test]
async fn an_api_server_that_is_frozen_for_20_s_costs_no_idle_sandbox() {
    costs_no_sandbox(frozen).await;
}
