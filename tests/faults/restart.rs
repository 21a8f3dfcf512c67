//! Sandpool itself is killed, or taken for dead, and another server takes its place.

use crate::{
    POOLS, cluster,
    harness::{
        cluster::{NAMESPACE, kubectl},
        *,
    },
    pods::one_of_each,
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
