//! The cluster refuses the pods. The pool says why, and fills once it may.

use crate::{POOLS, cluster, harness::*};

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
    client.wait_full("main").await;
    bash("echo next").run(&client).await.printed("next\n");
}

#[tokio::test]
async fn an_image_that_is_not_there_is_told() {
    let server = Server::with(POOLS)
        .env(
            "SANDPOOL_POOLS__MAIN__POD__IMAGE",
            "localhost/nothing:1".into(),
        )
        .start_cold();
    refused_with(&server, "localhost/nothing:1").await;
}

#[tokio::test]
async fn a_runtime_class_that_is_not_there_is_told() {
    let server = Server::with(POOLS)
        .env("SANDPOOL_POOLS__MAIN__POD__RUNTIME_CLASS", "nothing".into())
        .start_cold();
    refused_with(&server, "\"nothing\" not found").await;
}
