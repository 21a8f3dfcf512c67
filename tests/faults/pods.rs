//! A pod is taken away while a program runs in it.

use std::time::Duration;

use crate::{POOLS, cluster, harness::*};
use v1::{finished::Outcome, sandbox_lost::Cause};

/// A program that has said something, and its sandbox.
pub async fn partial(client: &Client) -> (Execution, String) {
    let mut execution = bash("echo partial; sleep 1000").start(client).await;
    let id = execution.started().await;
    execution.until_stdout("partial\n").await;
    (execution, id)
}

/// One sandbox in use, one that is idle and one that starts.
pub struct OneOfEach {
    pub execution: Execution,
    pub used: String,
    pub idle: String,
    pub starting: String,
    /// So that the start does not end.
    pub scheduler: cluster::Frozen,
}

/// Of a server with [`POOLS`].
pub async fn one_of_each(server: &Server, client: &Client) -> OneOfEach {
    let scheduler = cluster::freeze("kube-scheduler");
    let before = server.sandboxes("main");
    let (execution, used) = partial(client).await;
    let starting = soon("a pod that starts", async {
        loop {
            let new = server
                .sandboxes("main")
                .into_iter()
                .find(|id| !before.contains(id));
            match new {
                Some(new) => return new,
                None => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    })
    .await;
    let idle = before.into_iter().find(|id| *id != used).unwrap();
    OneOfEach {
        execution,
        used,
        idle,
        starting,
        scheduler,
    }
}

/// Of a lost node the cluster says that it is not ready and, as long after as a program is given up, that
/// its taint has its pods deleted. Whichever comes first is the reason.
pub const LOST_NODE: [&str; 2] = ["its node is not ready", "NoExecute taint"];

/// Asserts how a program of [`partial`] ended: for a reason with one of these words.
pub fn was_lost(done: &Done, cause: Cause, reasons: &[&str]) {
    let Outcome::SandboxLost(lost) = done.outcome() else {
        panic!("{}", done.describe());
    };
    assert_eq!(lost.cause(), cause, "{}", lost.reason);
    let is_told = reasons.iter().any(|words| lost.reason.contains(words));
    assert!(is_told, "{}", lost.reason);
    assert_eq!(done.out(), "partial\n");
}

async fn lost_by(what: impl FnOnce(&str), cause: Cause, reason: &str) {
    let server = Server::with(POOLS).start();
    let client = server.client().await;
    let (execution, id) = partial(&client).await;
    what(&id);
    was_lost(&execution.finish().await, cause, &[reason]);
    cluster::settled(&client).await;
}

#[tokio::test]
async fn a_pod_deleted_by_another_is_an_event_of_the_infrastructure() {
    lost_by(cluster::delete, Cause::InfrastructureEvent, "deleted").await;
}

#[tokio::test]
async fn an_eviction_is_an_event_of_the_infrastructure() {
    lost_by(cluster::evict, Cause::InfrastructureEvent, "Evict").await;
}

/// Nothing says who killed it: it may have been the program.
#[tokio::test]
async fn a_container_that_its_runtime_kills_is_lost_with_its_exit_code() {
    lost_by(cluster::kill_container, Cause::Unknown, "137").await;
}

#[tokio::test]
async fn a_whole_pod_that_its_runtime_kills_is_lost_with_its_exit_code() {
    lost_by(cluster::kill_pod, Cause::Unknown, "137").await;
}
