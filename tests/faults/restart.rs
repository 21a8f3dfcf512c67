//! Sandpool itself is killed, or taken for dead, and another server takes its place.

use std::time::Duration;

use crate::{
    POOLS, cluster,
    harness::{
        cluster::{NAMESPACE, kubectl},
        *,
    },
    pods::{one_of_each, partial},
};

#[tokio::test]
async fn the_next_server_deletes_pods_that_were_used_idle_and_starting() {
    let killed = Server::with(POOLS).start();
    let of_killed = one_of_each(&killed, &killed.client().await).await;
    killed.kill();
    of_killed.execution.fails().await;
    drop(of_killed.scheduler);
    assert_eq!(killed.traces().len(), 3);

    let next = Server::with(POOLS).start();
    killed.buried().await;
    cluster::settled(&next.client().await).await;
}

/// Killed between its first step and the second.
#[tokio::test]
async fn the_next_server_deletes_the_lease_of_one_that_had_no_pod_yet() {
    cluster::set_quota(Some(0));
    let killed = Server::with(POOLS).start_cold();
    let client = killed.client().await;
    client.wait_refused("main", "exceeded quota").await;
    killed.kill();
    assert_eq!(killed.traces(), Vec::<String>::new());
    cluster::set_quota(None);

    let next = Server::with(POOLS).start();
    killed.buried().await;
    cluster::settled(&next.client().await).await;
}

#[tokio::test]
async fn the_next_server_sees_a_deletion_to_its_end_that_had_only_begun() {
    let killed = Server::with(POOLS).start();
    let client = killed.client().await;
    let (execution, used) = partial(&client).await;
    let held = cluster::hold(&used);
    execution.signal(9).await;
    execution.finish().await;
    let pod = format!("pod/{used}");
    let begun = "--for=jsonpath={.metadata.deletionTimestamp}";
    let wait = [
        "--namespace",
        NAMESPACE,
        "wait",
        &pod,
        begun,
        "--timeout=90s",
    ];
    kubectl(&wait).unwrap();
    killed.kill();
    assert!(killed.traces().contains(&used));

    let next = Server::with(POOLS).start();
    soon("an end of the others", async {
        while killed.traces() != [used.clone()] {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    })
    .await;
    drop(held);
    killed.buried().await;
    cluster::settled(&next.client().await).await;
}

/// As it finds it once another server has taken it for dead.
#[tokio::test]
async fn a_server_whose_lease_is_gone_ends_and_leaves_no_pod() {
    let server = Server::with(POOLS).start();
    let lease = format!("sandpool-{}", server.name);
    kubectl(&["--namespace", NAMESPACE, "delete", "lease", &lease]).unwrap();
    let status = server.wait();
    assert!(!status.success(), "{status}");
    let log = server.log();
    assert!(log.contains("took this one for dead"), "{log}");
    assert_eq!(server.traces(), Vec::<String>::new());
    // Its drop must not expect a clean end.
    server.kill();
}
