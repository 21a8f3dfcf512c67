//! The watch of the pods is interrupted. What happened to them meanwhile is noticed all the same, also of
//! a pod that starts, about which nothing but the watch tells.

use crate::{
    POOLS, cluster,
    harness::*,
    pods::{one_of_each, was_lost},
    proxied::Proxied,
    proxy::{Fate, Fault, Way},
};
use v1::sandbox_lost::Cause;

async fn proxied() -> Proxied {
    // However busy the machine is.
    let patient = ("SANDPOOL_BACKEND__REATTACH_TIMEOUT", "2m".into());
    Proxied::start(Server::with(POOLS).env(patient.0, patient.1)).await
}

/// Cuts the server off while `pods` are deleted and the API server restarts: then that has no events of
/// before in its memory, and whoever asks for them is told that they have expired (410).
async fn expire(it: &Proxied, pods: &[&str]) {
    it.proxy.every(Some(Fate {
        way: Way::Input,
        bytes: 0,
        fault: Fault::Reset,
    }));
    it.proxy.all(Fault::Reset);
    for pod in pods {
        cluster::delete(pod);
        cluster::wait_gone(pod);
    }
    cluster::component("kill", "kube-apiserver");
    cluster::component("start", "kube-apiserver");
    cluster::wait_api_server().await;
}

async fn has_expired(it: &Proxied) {
    let expired = |line: &str| {
        line.contains("the watch of the pods was interrupted")
            && line.contains("too old resource version")
    };
    it.server.logged("an expired watch", expired).await;
}

#[tokio::test]
async fn pods_that_vanish_before_a_watch_expires_are_noticed() {
    let it = proxied().await;
    let of_it = one_of_each(&it.server, &it.client).await;
    expire(&it, &[&of_it.used, &of_it.idle, &of_it.starting]).await;
    it.proxy.every(None);
    has_expired(&it).await;
    let done = of_it.execution.finish().await;
    was_lost(&done, Cause::InfrastructureEvent, &["deleted"]);
    drop(of_it.scheduler);
    cluster::settled(&it.client).await;
}

/// The new list begins to come, and nobody says anything more.
#[tokio::test]
async fn a_list_that_stalls_is_begun_anew() {
    let it = proxied().await;
    let of_it = one_of_each(&it.server, &it.client).await;
    expire(&it, &[&of_it.starting]).await;
    // TLS takes half of it, two pods more than that.
    it.proxy.every(Some(Fate {
        way: Way::Output,
        bytes: 5000,
        fault: Fault::Stall,
    }));
    has_expired(&it).await;
    let stalled = |line: &str| line.contains("the list of the pods stalled");
    it.server.logged("a stalled list", stalled).await;
    it.proxy.every(None);
    drop(of_it.scheduler);
    // The stalled list has cost the program nothing.
    assert_eq!(it.client.counts("main").await.leased, 1);
    cluster::delete(&of_it.used);
    let done = of_it.execution.finish().await;
    was_lost(&done, Cause::InfrastructureEvent, &["deleted"]);
    cluster::settled(&it.client).await;
}

/// Nobody closes it, and nobody says anything more.
#[tokio::test]
async fn pods_that_vanish_while_everything_stalls_are_noticed() {
    let it = proxied().await;
    let of_it = one_of_each(&it.server, &it.client).await;
    it.proxy.all(Fault::Stall);
    for pod in [&of_it.used, &of_it.idle, &of_it.starting] {
        cluster::delete(pod);
    }
    let done = of_it.execution.finish().await;
    was_lost(&done, Cause::InfrastructureEvent, &["deleted"]);
    drop(of_it.scheduler);
    cluster::settled(&it.client).await;
}
