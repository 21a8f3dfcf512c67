//! Clients that go away or stop listening. Each time the pool is full again afterwards.

use std::time::Duration;

use tokio::task::JoinSet;

use crate::harness::*;

#[tokio::test]
async fn a_call_that_is_dropped_is_cancelled_and_its_sandbox_deleted() {
    let (server, client) = main_pool().await;
    let watched = exclusive(&client).await;
    let mut execution = bash("echo ready; sleep 1000")
        .pool(watched.name)
        .start(&client)
        .await;
    let id = execution.started().await;
    execution.until_stdout("ready").await;
    drop(execution);
    client.wait_full(watched.name).await;
    assert!(!server.sandbox(&id).exists());
    assert_eq!(outcome_in_log(&server, &id).await, "cancelled");
}

#[tokio::test]
async fn a_connection_that_closes_or_resets_cancels_what_runs_over_it() {
    let (server, client) = main_pool().await;
    let watched = exclusive(&client).await;
    for source in [
        "echo ready; sleep 1000",
        "echo ready; yes",
        "echo ready; yes >&2",
        "echo ready; cat",
    ] {
        for reset in [false, true] {
            let proxy = Proxy::before(server.address).await;
            let other = server.client_at(proxy.address).await;
            let mut execution = bash(source)
                .pool(watched.name)
                .stdin_open()
                .start(&other)
                .await;
            let id = execution.started().await;
            execution.until_stdout("ready").await;
            if reset {
                proxy.reset().await;
                let (_, status) = execution.fails().await;
                assert_ne!(status.code(), tonic::Code::Ok);
            } else {
                drop(proxy);
            }
            client.wait_full(watched.name).await;
            assert!(!server.sandbox(&id).exists(), "{source}");
        }
    }
}

#[tokio::test]
async fn a_silent_client_is_given_up() {
    let (server, client) = main_pool().await;
    let watched = exclusive(&client).await;
    let proxy = Proxy::before(server.address).await;
    let other = server.client_at(proxy.address).await;
    let mut execution = bash("echo ready; sleep 1000")
        .pool(watched.name)
        .timeout(PATIENCE * 2)
        .start(&other)
        .await;
    let id = execution.started().await;
    execution.until_stdout("ready").await;
    proxy.silence().await;
    // Keepalive asks after 15 s, and gives up 10 s later.
    client.wait_full(watched.name).await;
    assert!(!server.sandbox(&id).exists(), "it is still there");
    assert_eq!(outcome_in_log(&server, &id).await, "cancelled");
}

#[tokio::test]
async fn a_client_that_never_reads_gets_its_timeout_and_what_fitted() {
    let (server, client) = main_pool().await;
    let watched = exclusive(&client).await;
    let other = server.client_with_window(65_535).await;
    let timeout = Duration::from_secs(2);
    let spec = bash("yes & yes >&2").pool(watched.name).timeout(timeout);
    let execution = spec
        .limits(|limits| limits.output_bytes = 1 << 30)
        .start(&other)
        .await;
    // Not a message is read until the sandbox has been replaced.
    client.wait_full(watched.name).await;
    let done = execution.finish().await.timed_out();
    assert!(!done.stdout.is_empty() || !done.stderr.is_empty());
}

#[tokio::test]
async fn a_slow_reader_slows_only_its_own_program() {
    let (server, client) = main_pool().await;
    let slow = server.client_with_window(65_535).await;
    let spec = bash("yes").limits(|limits| limits.output_bytes = 1 << 30);
    let mut unread = spec.start(&slow).await;
    unread.started().await;
    // Meanwhile others run, over the same connection, too.
    bash("echo quick").run(&client).await.printed("quick\n");
    bash("echo same connection")
        .run(&slow)
        .await
        .printed("same connection\n");
    unread.signal(9).await;
    let done = unread.finish().await;
    assert!(done.stdout.len() < 1 << 29, "it was held back");
}

#[tokio::test]
async fn programs_that_do_not_read_their_stdin_hold_back_no_other_call_of_their_connection() {
    let (_server, client) = main_pool().await;
    let mut feeds = JoinSet::new();
    let mut deaf = Vec::new();
    for _ in 0..2 {
        // Longer than the other program is waited for.
        let spec = bash("sleep infinity").timeout(PATIENCE * 3);
        let mut execution = spec.stdin_open().start(&client).await;
        execution.started().await;
        let input = execution.take_input();
        feeds.spawn(async move {
            for _ in 0..64 {
                input.send(vec![b'x'; 1 << 20]).await;
            }
        });
        deaf.push(execution);
    }
    // So much that it shares the connection with them until their stdin stands still.
    let reader = bash("wc -c").stdin_open().start(&client).await;
    for _ in 0..16 {
        soon("room for stdin", reader.send(vec![b'x'; 1 << 20])).await;
    }
    reader.close_stdin().await;
    reader.finish().await.printed("16777216\n");
}

/// What the log says of the end of a sandbox's execution.
async fn outcome_in_log(server: &Server, sandbox: &str) -> String {
    let told = |line: &str| line.contains("execution ended") && names(line, sandbox);
    let wanted = |line: &str| told(&without_colours(line));
    server.logged("the execution's end", wanted).await;
    let log = without_colours(&server.log());
    let line = log.lines().find(|line| told(line)).unwrap();
    let outcome = line.split("outcome").nth(1).expect("an outcome");
    outcome
        .chars()
        .skip_while(|c| !c.is_ascii_alphabetic())
        .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
        .collect()
}

fn names(line: &str, sandbox: &str) -> bool {
    line.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'))
        .any(|word| word == sandbox)
}

fn without_colours(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("\u{1b}[") {
        plain.push_str(before);
        rest = after.split_once('m').map_or("", |(_, rest)| rest);
    }
    plain + rest
}
