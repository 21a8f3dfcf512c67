//! An execution's id runs once.

use tonic::Code;

use crate::harness::*;

#[tokio::test]
async fn an_id_that_the_client_chose_is_told_and_runs_once() {
    let (_server, client) = main_pool().await;
    let id = format!("my.Own_id-{}", std::process::id());
    let spec = bash("echo ready; cat > /dev/null").id(&id).stdin_open();
    let mut execution = spec.clone().start(&client).await;
    let so_far = execution.until_stdout("ready").await;
    assert_eq!(so_far.started.as_ref().unwrap().execution_id, id);

    let while_it_runs = spec.clone().refused(&client).await;
    assert_eq!(while_it_runs.code(), Code::AlreadyExists, "{while_it_runs}");
    assert!(while_it_runs.message().contains(&id), "{while_it_runs}");

    execution.close_stdin().await;
    execution.finish().await.exited(0);
    let afterwards = spec.clone().refused(&client).await;
    assert_eq!(afterwards.code(), Code::AlreadyExists, "{afterwards}");
    let by_run = spec
        .run_whole(&client, false)
        .await
        .err()
        .expect("Run refuses it, too");
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
