//! Executions that outlive their calls: attaching to them, writing to them, listing them.

use std::time::Duration;

use tonic::Code;

use crate::harness::*;
use v1::{finished::Outcome, write_input_request::Event as Write};

const HOUR: Duration = Duration::from_secs(3600);

/// The bytes from `offset` on that the programs here print.
fn pattern(offset: usize, length: usize) -> Vec<u8> {
    (offset..offset + length)
        .map(|n| (n % (1 << 20) % 251) as u8)
        .collect()
}

/// Waits for the end of the execution with that label without attaching to it: nothing tells of that but a listing.
async fn ended(client: &Client, id: &str) -> v1::ExecutionSummary {
    soon("its end", async {
        loop {
            let found = client.list_executions("", id).await;
            let [mine] = &found[..] else {
                panic!("{} executions have the label", found.len());
            };
            if mine.finished.is_some() {
                return mine.clone();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
}

/// An id that no other test has.
fn id(name: &str) -> String {
    format!("{name}-{}", std::process::id())
}

#[tokio::test]
async fn a_program_goes_on_without_its_caller_and_is_read_from_where_that_left() {
    let (_server, client) = main_pool().await;
    // In a sandbox that lives on, and in one of its own.
    let named = client.named().await;
    for (name, spec) in [
        ("named", bash("").within(&named.id)),
        ("fresh", bash("").keep(HOUR)),
    ] {
        let id = id(name);
        let source = "echo first; echo err >&2; read -r line; echo \"got $line\"; exit 3";
        let program = spec.source(source).id(&id).stdin_open().timeout(PATIENCE);
        let mut execution = program.clone().start(&client).await;
        execution
            .until("both", |done| {
                done.out() == "first\n" && done.err() == "err\n"
            })
            .await;
        drop(execution);
        client
            .write_input(&id, Write::Stdin("hel".into()))
            .await
            .unwrap();
        client
            .write_input(&id, Write::Stdin("lo\n".into()))
            .await
            .unwrap();
        let attached = client.attach(&id, [6, 4]).await.unwrap();
        let done = attached.finish().await.exited(3);
        assert_eq!(
            (done.out().as_str(), done.err().as_str()),
            ("got hello\n", "")
        );
        // Once more, from the beginning, also when it has ended.
        let whole = client.attach(&id, [0, 0]).await.unwrap().finish().await;
        assert_eq!(whole.exited(3).out(), "first\ngot hello\n");
        // And by the same call.
        let same = program.run(&client).await.exited(3);
        assert_eq!(same.out(), "first\ngot hello\n");
        let late = client
            .write_input(&id, Write::Stdin("x".into()))
            .await
            .unwrap_err();
        assert_eq!(late.code(), Code::FailedPrecondition, "{late}");
    }
    named.delete().await;
}

#[tokio::test]
async fn no_byte_is_lost_or_doubled_by_a_client_that_comes_and_goes() {
    let (_server, client) = main_pool().await;
    let id = id("comes-and-goes");
    let source = "
import sys
piece = bytes(n % 251 for n in range(1 << 20))
for _ in range(100): sys.stdout.buffer.write(piece)
";
    let mut execution = python(source)
        .id(&id)
        .keep(HOUR)
        .limits(|limits| limits.output_bytes = 1 << 30)
        .timeout(PATIENCE)
        .start(&client)
        .await;
    let mut had = 0_usize;
    for part in 1..10 {
        let enough = |done: &Done| had + done.stdout.len() >= part * (10 << 20);
        let so_far = execution.until("a part", enough).await;
        assert!(so_far.stdout == pattern(had, so_far.stdout.len()));
        had += so_far.stdout.len();
        drop(execution);
        execution = client.attach(&id, [had as u64, 0]).await.unwrap();
    }
    let done = execution.finish().await.exited(0);
    assert!(done.stdout == pattern(had, done.stdout.len()));
    assert_eq!(had + done.stdout.len(), 100 << 20);
}

#[tokio::test]
async fn what_is_no_longer_kept_is_told_as_a_gap() {
    let (_server, client) = main_pool().await;
    let id = id("gap");
    // Nobody reads it, and it is paused for no longer than 30 s.
    let source = "import sys\nfor n in range(1 << 20): print(n % 10, end='')\nsys.stdout.flush()\nprint('x' * (4 << 20), end='')\nprint('end')";
    let execution = python(source)
        .id(&id)
        .label("test", &id)
        .keep(HOUR)
        .timeout(PATIENCE * 2)
        .start(&client)
        .await;
    drop(execution);
    let summary = ended(&client, &id).await;
    assert_eq!(summary.stdout_bytes, (5 << 20) + 4);
    let done = client
        .attach(&id, [7, 0])
        .await
        .unwrap()
        .finish()
        .await
        .exited(0);
    assert!(done.out().ends_with("xxxend\n"));
    // What is kept, at least, and not much more.
    assert!(
        (1 << 20..2 << 20).contains(&done.stdout.len()),
        "{}",
        done.stdout.len()
    );
    assert_eq!(done.missed[0] + done.stdout.len() as u64, (5 << 20) + 4);
}

#[tokio::test]
async fn without_a_reader_it_ends_when_its_time_is_over() {
    let (_server, client) = main_pool().await;
    let named = client.named().await;
    for (name, spec) in [
        ("over-named", bash("").within(&named.id)),
        ("over-fresh", bash("")),
    ] {
        let id = id(name);
        let program = spec
            .source("echo ready; sleep 1000")
            .id(&id)
            .label("test", &id);
        let mut execution = program
            .keep(Duration::from_secs(1))
            .timeout(PATIENCE)
            .start(&client)
            .await;
        execution.until_stdout("ready").await;
        drop(execution);
        ended(&client, &id).await;
        let attached = client.attach(&id, [0, 0]).await.unwrap();
        let done = attached.finish().await;
        let Outcome::Cancelled(cancelled) = done.outcome() else {
            panic!("{}", done.describe());
        };
        assert!(
            cancelled.reason.contains("caller went away"),
            "{}",
            cancelled.reason
        );
    }
    named.delete().await;
}

#[tokio::test]
async fn one_reads_at_a_time_and_the_last_one_that_attached_does() {
    let (_server, client) = main_pool().await;
    let id = id("one-reader");
    let program = bash("echo ready; cat").id(&id).keep(HOUR).stdin_open();
    let mut first = program.start(&client).await;
    first.until_stdout("ready").await;
    let second = client.attach(&id, [0, 0]).await.unwrap();
    let (_, status) = first.fails().await;
    assert_eq!(status.code(), Code::Aborted, "{status}");
    client
        .write_input(&id, Write::CloseStdin(v1::CloseStdin {}))
        .await
        .unwrap();
    assert_eq!(second.finish().await.exited(0).out(), "ready\n");
}

#[tokio::test]
async fn signals_and_sizes_are_written_too() {
    let (_server, client) = main_pool().await;
    let id = id("signals");
    let program = "trap 'echo usr1' USR1; echo ready; while read -r line; do stty size; done";
    let mut execution = command(&["/bin/bash", "-c", program])
        .id(&id)
        .keep(HOUR)
        .terminal(24, 80)
        .start(&client)
        .await;
    execution.until_stdout("ready").await;
    let resize = Write::Resize(v1::Terminal {
        rows: 50,
        columns: 132,
    });
    client.write_input(&id, resize).await.unwrap();
    client
        .write_input(&id, Write::Signal(v1::Signal { number: 10 }))
        .await
        .unwrap();
    client
        .write_input(&id, Write::Stdin("\n".into()))
        .await
        .unwrap();
    execution.until_stdout("usr1").await;
    execution.until_stdout("50 132").await;
    client
        .write_input(&id, Write::CloseStdin(v1::CloseStdin {}))
        .await
        .unwrap();
    execution.finish().await.exited(0);
}

#[tokio::test]
async fn a_call_that_is_repeated_with_its_input_attaches() {
    let (_server, client) = main_pool().await;
    let id = id("repeated");
    let program = bash("cat; echo end").id(&id).keep(HOUR).stdin("given\n");
    for _ in 0..2 {
        let done = program.clone().run(&client).await.exited(0);
        assert_eq!(done.out(), "given\nend\n");
    }
    // While it runs, too.
    let id = self::id("repeated-running");
    let program = bash("cat; echo read; sleep 1000").id(&id).keep(HOUR);
    let program = program.stdin_open();
    for _ in 0..2 {
        let mut execution = program.clone().start(&client).await;
        execution.send("given\n").await;
        execution.close_stdin().await;
        execution.until_stdout("given\nread\n").await;
    }
    let kill = Write::Signal(v1::Signal { number: 9 });
    client.write_input(&id, kill).await.unwrap();
}

#[tokio::test]
async fn input_that_no_program_would_get_is_refused() {
    let (_server, client) = main_pool().await;
    let (deaf, open) = (id("deaf"), id("open"));
    let refused = async |id: &str, event: Write, text: &str| {
        let status = client.write_input(id, event).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        assert!(status.message().contains(text), "{status}");
    };
    let resize = || {
        Write::Resize(v1::Terminal {
            rows: 50,
            columns: 132,
        })
    };
    let close = || Write::CloseStdin(v1::CloseStdin {});
    let program = bash("echo ready; cat; sleep 1000").keep(HOUR);
    let mut without = program.clone().id(&deaf).start(&client).await;
    without.until_stdout("ready").await;
    refused(&deaf, Write::Stdin("x".into()), "set start.stdin_open").await;
    refused(&deaf, resize(), "without a terminal").await;
    client.write_input(&deaf, close()).await.unwrap();

    let mut with = program.id(&open).stdin_open().start(&client).await;
    with.until_stdout("ready").await;
    with.send("own\n").await;
    with.until_stdout("own").await;
    // By whoever comes first, and for all.
    client.write_input(&open, close()).await.unwrap();
    client.write_input(&open, close()).await.unwrap();
    refused(&open, Write::Stdin("x".into()), "came after close_stdin").await;
    with.send("more\n").await;
    let (_, status) = with.fails().await;
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    for id in [&deaf, &open] {
        let kill = Write::Signal(v1::Signal { number: 9 });
        client.write_input(id, kill).await.unwrap();
    }
}

#[tokio::test]
async fn executions_are_listed_by_sandbox_and_bad_input_is_refused() {
    let (_server, client) = main_pool().await;
    let named = client.named().await;
    let [a, b] = [id("list-a"), id("list-b")];
    bash("echo out; exit 4")
        .id(&a)
        .within(&named.id)
        .run(&client)
        .await
        .exited(4);
    let running = ready(bash("echo ready; cat").id(&b).within(&named.id), &client).await;
    let listed = client.list_executions(&named.id, "").await;
    let ids: Vec<_> = listed.iter().map(|it| it.execution_id.as_str()).collect();
    assert_eq!(ids, [&b, &a], "the newest first");
    assert!(listed[0].finished.is_none());
    let ended = listed[1].finished.as_ref().unwrap();
    assert_eq!(ended.outcome, Some(Outcome::Exited(v1::Exited { code: 4 })));
    assert_eq!(
        (listed[1].stdout_bytes, listed[1].pool.as_str()),
        (4, "named")
    );
    running.close_stdin().await;
    running.finish().await;
    named.delete().await;

    for status in [
        client.attach("no-such", [0, 0]).await.err().unwrap(),
        client
            .write_input("no-such", Write::CloseStdin(v1::CloseStdin {}))
            .await
            .unwrap_err(),
    ] {
        assert_eq!(status.code(), Code::NotFound, "{status}");
    }
    let signal = client
        .write_input(&b, Write::Signal(v1::Signal { number: 0 }))
        .await;
    let status = signal.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    // Of a fresh sandbox's execution stdin is its call's alone.
    let own = id("own-input");
    let running = ready(bash("echo ready; cat").id(&own), &client).await;
    let refused = client
        .write_input(&own, Write::Stdin("x".into()))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    drop(running);
    let negative = bash("true").keep(HOUR * 25).refused(&client).await;
    assert_eq!(negative.code(), Code::InvalidArgument, "{negative}");
    assert!(
        negative
            .message()
            .starts_with("start.keep_after_disconnect 90000s is over"),
        "{negative}"
    );
}
