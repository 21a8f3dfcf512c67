//! A pod is taken away while a program runs in it.

use crate::{POOLS, cluster, harness::*};
use v1::{finished::Outcome, sandbox_lost::Cause};

async fn lost_by(what: impl FnOnce(&str), reason: &str) {
    let server = Server::with(POOLS).start();
    let client = server.client().await;
    let mut execution = bash("echo partial; sleep 1000").start(&client).await;
    let id = execution.started().await;
    execution.until_stdout("partial\n").await;
    what(&id);
    let done = execution.finish().await;
    let Outcome::SandboxLost(lost) = done.outcome() else {
        panic!("{}", done.describe());
    };
    assert_eq!(lost.cause(), Cause::InfrastructureEvent, "{}", lost.reason);
    assert!(lost.reason.contains(reason), "{}", lost.reason);
    assert_eq!(done.out(), "partial\n");
    client.wait_full("main").await;
    bash("echo next").run(&client).await.printed("next\n");
}

#[tokio::test]
async fn a_pod_deleted_by_another_is_an_event_of_the_infrastructure() {
    lost_by(cluster::delete, "deleted").await;
}

#[tokio::test]
async fn an_eviction_is_an_event_of_the_infrastructure() {
    lost_by(cluster::evict, "Evict").await;
}
