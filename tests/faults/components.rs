//! A component of the cluster's stops while programs run, and comes back.

use std::time::Duration;

use crate::{
    POOLS, cluster,
    harness::*,
    pods::{LOST_NODE, partial, was_lost},
    traffic::Traffic,
};
use v1::sandbox_lost::Cause;

/// It takes longer than it takes to stop a component.
const TRAFFIC: Traffic = Traffic {
    output: 8 << 20,
    input: 8 << 20,
    piece: 64 << 10,
    pause: Duration::from_millis(40),
};

/// Runs two programs that stream both ways; in their midst the component is killed, and started again
/// once each connection was cut. Nothing may be missing, and the server must go on as before.
async fn killed_it_costs_no_byte(component: &str) {
    let server = Server::with(POOLS).start();
    let client = server.client().await;
    let flows = [TRAFFIC.start(&client).await, TRAFFIC.start(&client).await];
    cluster::component("kill", component);
    for flow in &flows {
        cluster::cut(&server, &flow.sandbox).await;
    }
    cluster::component("start", component);
    for flow in flows {
        flow.whole().await;
    }
    cluster::settled(&client).await;
}

#[tokio::test]
async fn an_api_server_that_is_killed_and_comes_back_costs_no_byte() {
    killed_it_costs_no_byte("kube-apiserver").await;
}

#[tokio::test]
async fn a_kubelet_that_is_killed_and_comes_back_costs_no_byte() {
    killed_it_costs_no_byte("kubelet").await;
}

#[tokio::test]
async fn a_containerd_that_is_killed_and_comes_back_costs_no_byte() {
    killed_it_costs_no_byte("containerd").await;
}

/// As when the node is lost: after 20 s here, the cluster takes its pods for not ready.
#[tokio::test]
async fn a_kubelet_that_stays_away_is_an_event_of_the_infrastructure() {
    let server = Server::with(POOLS).start();
    let client = server.client().await;
    let (execution, _) = partial(&client).await;
    let kubelet = cluster::freeze("kubelet");
    let done = execution.finish().await;
    was_lost(&done, Cause::InfrastructureEvent, &LOST_NODE);
    drop(kubelet);
    cluster::settled(&client).await;
}

/// While nothing runs: idle sandboxes are reached again.
#[tokio::test]
async fn an_api_server_that_restarts_leaves_the_pool_full() {
    let server = Server::with(POOLS).start();
    let client = server.client().await;
    let idle = server.sandboxes("main");
    cluster::component("kill", "kube-apiserver");
    cluster::component("start", "kube-apiserver");
    let done = bash("echo next").run(&client).await.printed("next\n");
    assert!(idle.contains(&done.sandbox().to_owned()), "it was not lost");
    cluster::settled(&client).await;
}
