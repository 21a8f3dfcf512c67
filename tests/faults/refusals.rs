//! The cluster refuses the pods. The pool says why, and fills once it may.

use serde_json::json;

use crate::{
    POOLS, cluster,
    harness::{
        cluster::{apply, kubectl},
        *,
    },
};

async fn refused_with(server: &Server, words: &str) -> Client {
    let client = server.client().await;
    client.wait_refused("main", words).await;
    client
}

#[tokio::test]
async fn a_quota_that_is_used_up_is_told_and_waited_out() {
    let server = Server::with(POOLS);
    cluster::set_quota(Some(0));
    let server = server.start_cold();
    let client = refused_with(&server, "exceeded quota").await;
    cluster::set_quota(None);
    cluster::settled(&client).await;
}

#[tokio::test]
async fn a_quota_that_is_used_up_while_programs_run_costs_them_nothing() {
    let server = Server::with(POOLS).start();
    let client = server.client().await;
    cluster::set_quota(Some(2));
    let mut executions = Vec::new();
    for _ in 0..2 {
        let mut execution = python("print(input())").stdin_open().start(&client).await;
        execution.started().await;
        executions.push(execution);
    }
    // Those that take their places are refused.
    client.wait_refused("main", "exceeded quota").await;
    for execution in executions {
        execution.send("still there\n").await;
        execution.finish().await.printed("still there\n");
    }
    cluster::set_quota(None);
    cluster::settled(&client).await;
}

/// One that was made, until this is dropped.
struct RuntimeClass(&'static str);

impl Drop for RuntimeClass {
    fn drop(&mut self) {
        kubectl(&["delete", "runtimeclass", self.0]).unwrap();
    }
}

#[tokio::test]
async fn an_image_that_is_not_there_is_told_and_waited_for() {
    let server = Server::with(POOLS)
        .env(
            "SANDPOOL_POOLS__MAIN__POD__IMAGE",
            "localhost/nothing:1".into(),
        )
        .start_cold();
    let client = refused_with(&server, "localhost/nothing:1").await;
    let _image = cluster::tag("localhost/languages:1", "localhost/nothing:1");
    cluster::settled(&client).await;
    // While the image is still there.
    drop(server);
}

#[tokio::test]
async fn a_runtime_class_that_is_not_there_is_told_and_waited_for() {
    let server = Server::with(POOLS)
        .env("SANDPOOL_POOLS__MAIN__POD__RUNTIME_CLASS", "nothing".into())
        .start_cold();
    let client = refused_with(&server, "\"nothing\" not found").await;
    apply(&json!({
        "apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "nothing"},
        "handler": "runsc",
    }));
    let _class = RuntimeClass("nothing");
    cluster::settled(&client).await;
    // While the class is still there.
    drop(server);
}

/// Where a cloud's nodes find their credentials. That nobody listens there is an answer, too.
#[tokio::test]
async fn a_sandbox_that_reaches_the_metadata_address_is_never_used() {
    let _metadata = cluster::on_node("169.254.169.254/32");
    let class = "SANDPOOL_POOLS__MAIN__POD__RUNTIME_CLASS";
    let server = Server::with(POOLS).env(class, "gvisor-host-network".into());
    let server = server.start_cold();
    refused_with(&server, "169.254.169.254:80").await;
}
