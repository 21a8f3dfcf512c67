//! A node is lost with all that is on it. That needs one to spare: `make cluster NODES=2`.

use std::env;

use crate::{
    cluster,
    harness::*,
    pods::{LOST_NODE, partial, was_lost},
};
use v1::sandbox_lost::Cause;

const LOST: &str = "node2";

/// With room for those that cannot be deleted until the node is back.
const POOLS: &str = r#"
[pools.main]
min_idle = 4
max_sandboxes = 24
limits.default = { timeout = "5m", queue_timeout = "80s" }
languages.python.interpreter = "/usr/bin/python3"
languages.bash = {}
"#;

fn is_refilled(pool: &v1::Pool) -> bool {
    pool.counts.as_ref().unwrap().idle == 4
}

/// Uses so many of the idle sandboxes, the oldest ones, once all are there, and waits for others.
async fn replace(client: &Client, count: usize) {
    for _ in 0..count {
        client.wait_for("main", "all idle", is_refilled).await;
        python("print('used')").run(client).await.printed("used\n");
    }
    client.wait_for("main", "all idle", is_refilled).await;
}

#[tokio::test]
async fn a_lost_node_costs_what_ran_there_and_nothing_else() {
    if !cluster::has(LOST) {
        assert!(env::var("ONLY").is_err(), "run `make cluster NODES=2`");
        println!("only on a cluster of two nodes");
        return;
    }
    let to_first = cluster::cordon(LOST);
    let server = Server::with(POOLS).start();
    let client = server.client().await;
    let (here, id) = partial(&client).await;
    assert_ne!(cluster::node(&id), LOST);
    drop(to_first);
    let to_lost = cluster::cordon("node1");
    replace(&client, 4).await;
    let (there, id) = partial(&client).await;
    assert_eq!(cluster::node(&id), LOST);
    drop(to_lost);
    // A request tries three sandboxes, and nobody knows yet whose node is lost: at most one of them is there.
    let to_first = cluster::cordon(LOST);
    replace(&client, 3).await;
    drop(to_first);

    let lost = cluster::lose(LOST);
    for _ in 0..8 {
        let done = python("print('next')").run(&client).await;
        done.printed("next\n");
    }
    let done = there.finish().await;
    was_lost(&done, Cause::InfrastructureEvent, &LOST_NODE);
    here.signal(9).await;
    here.finish().await.signaled(9, "SIGKILL");
    client.wait_for("main", "others instead", is_refilled).await;

    drop(lost);
    cluster::settled(&client).await;
}
