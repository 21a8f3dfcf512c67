//! Bad requests are refused with the field that is wrong, and lease nothing.

use std::time::Duration;

use bytes::Bytes;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::harness::*;
use v1::execute_request::Event;

/// In the pool in which nothing ever runs.
fn still() -> Spec {
    bash("echo this never runs").pool("still")
}

/// Nothing but its one idle sandbox was ever there.
async fn assert_nothing_leased(client: &Client) {
    let pool = client.pool("still").await;
    let untouched = v1::PoolCounts {
        idle: 1,
        ..Default::default()
    };
    assert_eq!(pool.counts, Some(untouched));
}

#[track_caller]
fn assert_field(status: &Status, field: &str) {
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    let details = status
        .get_details_bad_request()
        .expect("BadRequest details");
    let fields: Vec<&str> = details
        .field_violations
        .iter()
        .map(|v| v.field.as_str())
        .collect();
    assert_eq!(fields, [field], "{status}");
    assert!(
        status.message().starts_with(field),
        "the message says it, too: {status}"
    );
}

/// What Execute answers; Run answers the same with another root.
async fn assert_refused(client: &Client, spec: Spec, field: &str) {
    assert_field(
        &spec.clone().refused(client).await,
        &format!("start.{field}"),
    );
    let status = spec
        .run_whole(client, false)
        .await
        .err()
        .expect("Run refuses it");
    assert_field(&status, &format!("spec.{field}"));
}

#[tokio::test]
async fn programs_that_are_none_are_refused() {
    let (_server, client) = main_pool().await;
    let mut none = still();
    none.message.program = None;
    for (spec, field) in [
        (none, "program"),
        (bash("").pool("still"), "code.source"),
        (bash(" \n\t").pool("still"), "code.source"),
        (python("print(1)").pool("still"), "code.language"),
        (command(&[]).pool("still"), "command.args"),
        (command(&[""]).pool("still"), "command.args[0]"),
        (command(&["true", "a\0b"]).pool("still"), "command.args[1]"),
        (still().args(&["\0"]), "code.args[0]"),
        (
            command(&["true", &"x".repeat(128 << 10)]).pool("still"),
            "command.args[1]",
        ),
    ] {
        assert_refused(&client, spec, field).await;
    }
    assert_nothing_leased(&client).await;
}

#[tokio::test]
async fn an_unknown_pool_is_refused_beside_the_known_ones() {
    let (_server, client) = main_pool().await;
    let status = bash("true").pool("nowhere").refused(&client).await;
    assert_field(&status, "start.pool");
    assert!(
        status
            .message()
            .contains("\"nowhere\": use main, named, node, numpy, still, tight or watched"),
        "{status}"
    );
}

#[tokio::test]
async fn paths_that_leave_the_workspace_are_refused() {
    let (_server, client) = main_pool().await;
    for directory in ["..", "a/../..", "/", "/etc", "/workspace/../etc", "a\0b"] {
        assert_refused(&client, still().directory(directory), "working_directory").await;
    }
    for path in [
        "",
        "..",
        "../x",
        "a/../../x",
        "/etc/x",
        "/workspace",
        "a\0",
        "d/",
    ] {
        assert_refused(&client, still().file(path, ""), "files[0].path").await;
    }
    for glob in ["", "/etc/*", "../*", "a/../../*", "[", "dir/"] {
        assert_refused(&client, still().output(glob), "output_paths[0]").await;
    }
    assert_nothing_leased(&client).await;
}

#[tokio::test]
async fn files_that_cannot_be_are_refused() {
    let (_server, client) = main_pool().await;
    let twice = still().file("a", "1").file("./a", "2");
    assert_refused(&client, twice, "files[1].path").await;
    let both = still().file("a", "1").file("a/b", "2");
    assert_refused(&client, both, "files[0].path").await;
    let mode = still().file_with_mode("a", "1", 0o4755);
    assert_refused(&client, mode, "files[0].mode").await;
    let large = still()
        .file("a", vec![0; 3 << 20])
        .limits(|limits| limits.disk_bytes = 2 << 20);
    assert_refused(&client, large, "files").await;
    let mut many = still();
    for number in 0..1001 {
        many = many.file(&number.to_string(), "");
    }
    assert_refused(&client, many, "files").await;
    assert_nothing_leased(&client).await;
}

#[tokio::test]
async fn limits_beyond_the_pools_own_are_refused() {
    let (_server, client) = main_pool().await;
    let negative = prost_types::Duration {
        seconds: -1,
        nanos: 0,
    };
    type Change = fn(&mut v1::Limits);
    let refused: [(Change, &str); 7] = [
        (|l| l.memory_bytes = u64::MAX, "memory_bytes"),
        (|l| l.disk_bytes = 1 << 50, "disk_bytes"),
        (|l| l.output_bytes = (1 << 30) + 1, "output_bytes"),
        (|l| l.output_file_bytes = u64::MAX, "output_file_bytes"),
        (|l| l.processes = 257, "processes"),
        (
            |l| {
                l.timeout = Some(prost_types::Duration {
                    seconds: 601,
                    nanos: 0,
                })
            },
            "timeout",
        ),
        (
            |l| {
                l.timeout = Some(prost_types::Duration {
                    seconds: 0,
                    nanos: i32::MAX,
                })
            },
            "timeout",
        ),
    ];
    for (change, field) in refused {
        assert_refused(&client, still().limits(change), &format!("limits.{field}")).await;
    }
    assert_refused(
        &client,
        still().limits(|l| l.timeout = Some(negative)),
        "limits.timeout",
    )
    .await;
    assert_refused(
        &client,
        still().limits(|l| l.queue_timeout = Some(negative)),
        "limits.queue_timeout",
    )
    .await;
    let day = Duration::from_secs(24 * 3600);
    assert_refused(&client, still().queue_timeout(day), "limits.queue_timeout").await;
    assert_nothing_leased(&client).await;
}

#[tokio::test]
async fn env_ids_and_labels_that_cannot_be_are_refused() {
    let (_server, client) = main_pool().await;
    for (spec, field) in [
        (still().env("", "x"), "env[\"\"]"),
        (still().env("A=B", "x"), "env[\"A=B\"]"),
        (still().env("A\0", "x"), "env[\"A\\0\"]"),
        (still().env("A", "x\0"), "env[\"A\"]"),
        (still().env("A", &"x".repeat(200_000)), "env"),
        (still().id("a/b"), "execution_id"),
        (still().id(&"x".repeat(129)), "execution_id"),
        (still().label("", "x"), "labels[\"\"]"),
        (still().label("a", "line\nbreak"), "labels[\"a\"]"),
        (still().label("a", &"x".repeat(257)), "labels[\"a\"]"),
    ] {
        assert_refused(&client, spec, field).await;
    }
    assert_nothing_leased(&client).await;
}

#[tokio::test]
async fn all_that_is_wrong_is_told_at_once_and_no_secret_is_repeated() {
    let (_server, client) = main_pool().await;
    let spec = bash("")
        .pool("still")
        .env("A", "secret-value\0")
        .directory("..")
        .file("../x", "secret-content");
    let status = spec.refused(&client).await;
    let details = status.get_details_bad_request().unwrap();
    let fields: Vec<&str> = details
        .field_violations
        .iter()
        .map(|v| v.field.as_str())
        .collect();
    assert_eq!(
        fields,
        [
            "start.code.source",
            "start.env[\"A\"]",
            "start.working_directory",
            "start.files[0].path"
        ]
    );
    assert!(!format!("{status:?}").contains("secret"), "{status:?}");
}

#[tokio::test]
async fn messages_out_of_order_are_refused() {
    let (_server, client) = main_pool().await;
    for (first, field) in [
        (Some(Event::Stdin("x".into())), "start"),
        (Some(Event::CloseStdin(v1::CloseStdin {})), "start"),
        (Some(Event::Signal(v1::Signal { number: 15 })), "start"),
        (None, "event"),
    ] {
        let messages = tokio_stream::iter([v1::ExecuteRequest { event: first }]);
        let status = client
            .executions
            .clone()
            .execute(messages)
            .await
            .expect_err("a refusal");
        assert_field(&status, field);
    }
    let nothing = tokio_stream::iter(Vec::<v1::ExecuteRequest>::new());
    let status = client
        .executions
        .clone()
        .execute(nothing)
        .await
        .expect_err("a refusal");
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    assert_nothing_leased(&client).await;
}

#[tokio::test]
async fn a_wrong_message_ends_a_running_program() {
    let (_server, client) = main_pool().await;
    let watched = exclusive(&client).await;
    let start = Event::Start(still().message);
    let large = Bytes::from(vec![0; (1 << 20) + 1]);
    for (events, stdin_open, field) in [
        (vec![start], true, "start"),
        (vec![Event::Stdin("x".into())], false, "stdin"),
        (
            vec![
                Event::CloseStdin(v1::CloseStdin {}),
                Event::Stdin("x".into()),
            ],
            true,
            "stdin",
        ),
        (vec![Event::Stdin(large)], true, "stdin"),
        (
            vec![Event::Signal(v1::Signal { number: 0 })],
            true,
            "signal.number",
        ),
        (
            vec![Event::Signal(v1::Signal { number: 65 })],
            true,
            "signal.number",
        ),
    ] {
        let mut spec = bash("echo ready; sleep 1000").pool(watched.name);
        spec.message.stdin_open = stdin_open;
        let mut execution = spec.start(&client).await;
        execution.until_stdout("ready").await;
        for event in events {
            execution.send_event(event).await;
        }
        let (done, status) = execution.fails().await;
        assert_field(&status, field);
        assert!(done.finished.is_none());
        client.wait_full(watched.name).await;
    }
}

#[tokio::test]
async fn a_message_over_the_size_limit_is_refused() {
    let (_server, client) = main_pool().await;
    let status = still().file("a", vec![0; 33 << 20]).refused(&client).await;
    assert!(
        matches!(status.code(), Code::OutOfRange | Code::ResourceExhausted),
        "{status}"
    );
    assert!(
        status.message().contains("33554432"),
        "it says how much is allowed: {status}"
    );
    assert_nothing_leased(&client).await;
}
