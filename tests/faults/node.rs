//! A node is lost with all that is on it. That needs one to spare: `make cluster NODES=2`.

use crate::{
    cluster,
    harness::*,
    pods::{partial, was_lost},
};
use v1::sandbox_lost::Cause;

const LOST: &str = "node2";

/// Some idle on each node, and room for those that cannot be deleted until the node is back.
const POOLS: &str = r#"
[pools.main]
min_idle = 4
max_sandboxes = 24
limits.default = { timeout = "5m", queue_timeout = "80s" }
languages.python.interpreter = "/usr/bin/python3"
languages.bash = {}
"#;

#[tokio::test]
async fn a_lost_node_costs_what_ran_there_and_nothing_else() {
    if !cluster::has(LOST) {
        println!("only on a cluster of two nodes");
        return;
    }
    let server = Server::with(POOLS).start();
    let client = server.client().await;
    let (mut here, mut there) = (Vec::new(), Vec::new());
    while here.is_empty() || there.is_empty() {
        assert!(here.len() + there.len() < 8, "all are on the same node");
        let (execution, id) = partial(&client).await;
        let on_lost = cluster::node(&id) == LOST;
        if on_lost { &mut there } else { &mut here }.push(execution);
    }

    let lost = cluster::lose(LOST);
    for _ in 0..8 {
        let done = python("print('next')").run(&client).await;
        done.printed("next\n");
    }
    for execution in there {
        let done = execution.finish().await;
        was_lost(&done, Cause::InfrastructureEvent, "its node is not ready");
    }
    for execution in here {
        execution.signal(9).await;
        execution.finish().await.signaled(9, "SIGKILL");
    }
    let refilled = |pool: &v1::Pool| pool.counts.as_ref().unwrap().idle == 4;
    client.wait_for("main", "others instead", refilled).await;

    drop(lost);
    cluster::settled(&client).await;
}
