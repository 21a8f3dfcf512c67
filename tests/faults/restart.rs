//! Sandpool itself is killed, and another server takes its place.

use crate::{POOLS, cluster, harness::*, pods::one_of_each};

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
