//! An execution's id runs once.

use tonic::Code;

use crate::harness::*;

#[tokio::test]
async fn an_id_that_the_client_chose_is_told_and_runs_once() {
    let (_server, client) = main_pool().await;
    let id = format!("my.Own_id-{}", std::process::id());
    let spec = bash("echo ready; cat").id(&id).stdin_open();
    let mut execution = spec.clone().start(&client).await;
    let so_far = execution.until_stdout("ready").await;
    assert_eq!(so_far.started.as_ref().unwrap().execution_id, id);

    let other = spec.clone().label("other", "spec").refused(&client).await;
    assert_eq!(other.code(), Code::AlreadyExists, "{other}");
    assert!(other.message().contains(&id), "{other}");
    // The same again attaches to it, and takes part in nothing but its output.
    let mut again = spec.clone().start(&client).await;
    again.until_stdout("ready").await;
    execution.send("more\n").await;
    again.until_stdout("more").await;

    execution.close_stdin().await;
    execution.finish().await.exited(0);
    assert_eq!(again.finish().await.exited(0).out(), "ready\nmore\n");
    let afterwards = spec.clone().run(&client).await.exited(0);
    assert_eq!(afterwards.out(), "ready\nmore\n");
    let other = bash("echo other").id(&id);
    let refused = other.clone().refused(&client).await;
    assert_eq!(refused.code(), Code::AlreadyExists, "{refused}");
    let by_run = other.run_whole(&client, false).await.err();
    let by_run = by_run.expect("Run refuses it, too");
    assert_eq!(by_run.code(), Code::AlreadyExists, "{by_run}");
}

#[tokio::test]
async fn ids_that_are_made_up_differ() {
    let (_server, client) = main_pool().await;
    let [a, b] = [
        bash("true").run(&client).await,
        bash("true").run(&client).await,
    ];
    assert_ne!(
        a.started.unwrap().execution_id,
        b.started.unwrap().execution_id
    );
}
