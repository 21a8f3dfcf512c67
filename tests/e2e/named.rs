//! Sandboxes that outlive their executions.

use std::time::Duration;

use tonic::Code;

use crate::harness::*;
use v1::finished::Outcome;

#[tokio::test]
async fn an_execution_finds_what_an_earlier_one_has_left() {
    let (_server, client) = main_pool().await;
    let named = client.named().await;
    let first = bash("echo kept > note; echo home > ~/x; echo tmp > /tmp/y")
        .within(&named.id)
        .run(&client)
        .await
        .exited(0);
    assert_eq!(first.sandbox(), named.id);
    assert_eq!(first.started.as_ref().unwrap().pool, "named");
    python("print(open('note').read() + open('/tmp/y').read(), end='')")
        .within(&named.id)
        .run(&client)
        .await
        .printed("kept\ntmp\n");
    bash("cat ~/x")
        .within(&named.id)
        .run(&client)
        .await
        .printed("home\n");
    named.delete().await;
}

#[tokio::test]
async fn an_interpreter_that_was_used_is_replaced() {
    let (_server, client) = main_pool().await;
    let named = client.named().await;
    let print = || python("print(1)").within(&named.id);
    assert!(print().run(&client).await.printed("1\n").timings().warm);
    // The second may come before the replacement is warm; one of those after it does not.
    soon("a warm interpreter", async {
        while !print().run(&client).await.printed("1\n").timings().warm {}
    })
    .await;
    named.delete().await;
}

#[tokio::test]
async fn the_sandbox_s_environment_is_every_program_s() {
    let (_server, client) = main_pool().await;
    let named = client
        .named_with(|request| {
            request.env.insert("GREETING".into(), "hello".into());
            request.env.insert("OTHER".into(), "first".into());
        })
        .await;
    for program in [
        bash("echo $GREETING $OTHER"),
        python("import os; print(os.environ['GREETING'], os.environ['OTHER'])"),
        command(&["/bin/sh", "-c", "echo $GREETING $OTHER"]),
    ] {
        let own = program.within(&named.id).env("OTHER", "own");
        own.run(&client).await.printed("hello own\n");
    }
    named.delete().await;
}

#[tokio::test]
async fn a_sandbox_has_its_files_from_the_start() {
    let (_server, client) = main_pool().await;
    let file = |path: &str, content: &[u8]| v1::InputFile {
        path: path.into(),
        content: content.to_vec().into(),
        mode: 0o755,
    };
    let named = client
        .named_with(|request| {
            request.files = vec![file("a/run", b"#!/bin/sh\necho ran\n"), file("b", b"")]
        })
        .await;
    command(&["/workspace/a/run"])
        .within(&named.id)
        .run(&client)
        .await
        .printed("ran\n");
    named.delete().await;
    let outside = client
        .try_named(|request| request.files = vec![file("/etc/x", b"")])
        .await;
    let status = outside.unwrap_err();
    assert!(
        status
            .message()
            .starts_with("files[0].path \"/etc/x\" is outside"),
        "{status}"
    );
}

#[tokio::test]
async fn what_an_execution_has_started_ends_with_it_and_nothing_else_does() {
    let (_server, client) = main_pool().await;
    let named = client.named().await;
    let other = ready(bash("echo ready; cat").within(&named.id), &client).await;
    // Daemons in sessions of their own, of which some have lost their parents.
    let leave = "
import os, time
for n in range(3):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.execvp('sleep', ['sleep', f'100{n}'])
        os._exit(0)
print('left', flush=True)
";
    let count =
        "ps() { cat /proc/[0-9]*/cmdline | tr '\\0' ' '; }; ps | grep -o 'sleep 100[0-9]' | sort";
    for program in [python(leave), command(&["/usr/bin/python3", "-c", leave])] {
        let done = program.within(&named.id).run(&client).await.exited(0);
        assert_eq!(done.out(), "left\n");
        let left = bash(count).within(&named.id).run(&client).await;
        assert_eq!(left.out(), "", "{}", left.describe());
    }
    // One that is cancelled, while its daemons have it as their parent.
    let mut cancelled = python(&format!("{leave}\ntime.sleep(1000)"))
        .keep(Duration::ZERO)
        .within(&named.id)
        .timeout(PATIENCE)
        .start(&client)
        .await;
    cancelled.until_stdout("left").await;
    drop(cancelled);
    soon("the end of all that it has started", async {
        loop {
            let left = bash(count).within(&named.id).run(&client).await;
            if left.out().is_empty() {
                break;
            }
        }
    })
    .await;
    other.send("still here\n").await;
    other.close_stdin().await;
    let done = other.finish().await.exited(0);
    assert_eq!(done.out(), "ready\nstill here\n");
    named.delete().await;
}

#[tokio::test]
async fn a_timeout_ends_one_execution_and_not_the_sandbox() {
    let (_server, client) = main_pool().await;
    let named = client.named().await;
    let slow = bash("sleep 1000 & sleep 1000").within(&named.id);
    slow.timeout(Duration::from_millis(300))
        .run(&client)
        .await
        .timed_out();
    bash("echo next")
        .within(&named.id)
        .run(&client)
        .await
        .printed("next\n");
    named.delete().await;
}

#[tokio::test]
async fn killing_everyone_costs_the_others_their_programs_and_not_the_sandbox() {
    let (_server, client) = main_pool().await;
    let named = client.named().await;
    let other = ready(python("print('ready'); input()").within(&named.id), &client).await;
    bash("kill -9 -1").within(&named.id).run(&client).await;
    other.finish().await.signaled(9, "SIGKILL");
    for _ in 0..3 {
        python("print('next')")
            .within(&named.id)
            .run(&client)
            .await
            .printed("next\n");
    }
    named.delete().await;
}

#[tokio::test]
async fn memory_is_counted_for_each_execution() {
    let (_server, client) = main_pool().await;
    let named = client.named().await;
    let hold = "
import sys
data = bytearray(150 << 20)
data[::4096] = b'x' * len(data[::4096])
print('ready', flush=True)
input()
print('kept')
";
    let holds = ready(python(hold).within(&named.id), &client).await;
    // Its name is no text (PR_SET_NAME is 15), and looks like more fields.
    let hog = python(
        "import ctypes; ctypes.CDLL(None).prctl(15, b'\\xff) 1 (\\xfe')\n\
         data = b'x' * (100 << 20); print('more than its limit'); input()",
    )
    .within(&named.id)
    .limits(|limits| limits.memory_bytes = 64 << 20)
    .stdin_open();
    let done = hog.start(&client).await.finish().await;
    let Outcome::OutOfMemory(limit) = done.outcome() else {
        panic!("{}", done.describe());
    };
    assert_eq!(limit.memory_bytes, 64 << 20);
    holds.send("\n").await;
    let done = holds.finish().await.exited(0);
    assert!(done.out().ends_with("kept\n"));
    let peak = done.usage().peak_memory_bytes;
    assert!(peak > 140 << 20, "{peak}");
    named.delete().await;
}

#[tokio::test]
async fn all_executions_together_have_the_pool_s_memory_and_the_largest_ends() {
    let (_server, client) = main_pool().await;
    let named = client.named().await;
    let hold = |mib: u32| {
        let source = format!(
            "data = bytearray({mib} << 20)\nfor n in range(0, len(data), 4096): data[n] = 1\nprint('ready', flush=True)\ninput()\nprint('kept')"
        );
        let all = |limits: &mut v1::Limits| limits.memory_bytes = 512 << 20;
        python(&source).within(&named.id).limits(all)
    };
    let small = ready(hold(150), &client).await;
    let large = hold(450)
        .stdin_open()
        .timeout(PATIENCE)
        .start(&client)
        .await
        .finish()
        .await;
    let Outcome::OutOfMemory(limit) = large.outcome() else {
        panic!("{}", large.describe());
    };
    assert_eq!(limit.memory_bytes, 512 << 20);
    small.send("\n").await;
    assert!(small.finish().await.exited(0).out().ends_with("kept\n"));
    named.delete().await;
}

#[tokio::test]
async fn what_is_done_with_files_is_use_too() {
    let (_server, client) = main_pool().await;
    let named = client
        .named_with(|request| request.idle_timeout = SHORT)
        .await;
    let begun = std::time::Instant::now();
    while begun.elapsed() < Duration::from_secs(7) {
        named.write("f", b"x").await.unwrap();
    }
    named.get().await;
}

#[tokio::test]
async fn what_programs_say_or_are_told_is_use_too() {
    let (_server, client) = main_pool().await;
    for source in [
        "for second in 1 2 3 4 5 6 7; do echo $second; sleep 1; done",
        "for second in 1 2 3 4 5 6 7; do read -r _; done",
    ] {
        let named = client
            .named_with(|request| request.idle_timeout = SHORT)
            .await;
        let program = bash(source).within(&named.id).stdin_open();
        let program = program.start(&client).await;
        for _ in 0..7 {
            if source.contains("read") {
                program.send("\n").await;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        program.finish().await.exited(0);
        named.delete().await;
    }
}

#[tokio::test]
async fn two_hundred_executions_run_at_once() {
    let (_server, client) = main_pool().await;
    let named = client.named().await;
    let mut running = Vec::new();
    for number in 0..200 {
        let program = command(&[
            "/bin/sh",
            "-c",
            "echo ready; read -r line; echo $0 $line",
            &number.to_string(),
        ]);
        running.push(ready(program.within(&named.id), &client).await);
    }
    assert_eq!(named.get().await.executions, 200);
    for execution in &running {
        execution.send("go\n").await;
    }
    for (number, execution) in running.into_iter().enumerate() {
        let done = execution.finish().await.exited(0);
        assert_eq!(done.out(), format!("ready\n{number} go\n"));
    }
    named.delete().await;
}

#[tokio::test]
async fn a_deleted_sandbox_takes_what_runs_in_it_along() {
    let (server, client) = main_pool().await;
    let named = client.named().await;
    let id = named.id.clone();
    let running = ready(bash("echo ready; cat").within(&id), &client).await;
    named.delete().await;
    let done = running.finish().await;
    let Outcome::Cancelled(cancelled) = done.outcome() else {
        panic!("{}", done.describe());
    };
    assert!(
        cancelled.reason.contains("deleted by its caller"),
        "{}",
        cancelled.reason
    );
    for status in [
        client.get_named(&id).await.unwrap_err(),
        client.delete_named(&id).await.unwrap_err(),
        bash("echo never").within(&id).refused(&client).await,
    ] {
        assert_eq!(status.code(), Code::NotFound, "{status}");
        assert!(
            status.message().contains("deleted by its caller"),
            "{status}"
        );
    }
    let is_gone = |_: &v1::Pool| !server.sandbox(&id).exists();
    client.wait_for("named", "its end", is_gone).await;
}

/// Asserts that a program and then its sandbox ended for that reason.
async fn ended_for(client: &Client, done: Done, id: &str, reason: &str) {
    let Outcome::Cancelled(cancelled) = done.outcome() else {
        panic!("{}", done.describe());
    };
    assert!(cancelled.reason.contains(reason), "{}", cancelled.reason);
    let status = client.get_named(id).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound, "{status}");
    assert!(status.message().contains(reason), "{status}");
}

const SHORT: Option<prost_types::Duration> = Some(prost_types::Duration {
    seconds: 5,
    nanos: 0,
});

#[tokio::test]
async fn a_sandbox_ends_with_its_lifetime_however_busy_it_is() {
    let (_server, client) = main_pool().await;
    let named = client.named_with(|request| request.lifetime = SHORT).await;
    let busy = bash("while echo .; do sleep 0.1; done").within(&named.id);
    let done = busy.timeout(PATIENCE).run(&client).await;
    ended_for(&client, done, &named.id, "lifetime of 5s").await;
}

#[tokio::test]
async fn a_sandbox_ends_when_nothing_is_done_in_it_though_a_program_runs() {
    let (server, client) = main_pool().await;
    let named = client
        .named_with(|request| request.idle_timeout = SHORT)
        .await;
    // What keeps its connection alive is nothing that is done in it.
    let pinging = server.client_that_pings(Duration::from_secs(1)).await;
    let silent = ready(bash("echo ready; sleep 1000").within(&named.id), &pinging).await;
    let done = silent.finish().await;
    ended_for(
        &client,
        done,
        &named.id,
        "nothing was done in the sandbox for 5s",
    )
    .await;
}

#[tokio::test]
async fn a_lifetime_is_extended_up_to_the_pool_s_maximum() {
    let (_server, client) = main_pool().await;
    let hour = |hours: i64| {
        Some(prost_types::Duration {
            seconds: hours * 3600,
            nanos: 0,
        })
    };
    let named = client
        .named_with(|request| request.lifetime = hour(1))
        .await;
    let extend = async |lifetime| {
        let request = v1::ExtendSandboxRequest {
            sandbox_id: named.id.clone(),
            lifetime,
        };
        let extended = client.sandboxes.clone().extend_sandbox(request).await;
        extended.map(tonic::Response::into_inner)
    };
    let before = named.get().await.expire_time.unwrap().seconds;
    let longer = extend(hour(2)).await.unwrap().expire_time.unwrap().seconds;
    assert!(longer - before >= 3600, "{before} {longer}");
    // Never shorter.
    let same = extend(hour(1)).await.unwrap().expire_time.unwrap().seconds;
    assert_eq!(same, longer);
    for (lifetime, words) in [
        (hour(25), "max_lifetime allows 86400s"),
        (None, "is missing"),
        (hour(-1), "is negative"),
    ] {
        let status = extend(lifetime).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        assert!(status.message().contains(words), "{status}");
        assert!(status.message().starts_with("lifetime "), "{status}");
    }
    named.delete().await;
}

#[tokio::test]
async fn a_sandbox_that_dies_is_lost_and_its_end_is_known() {
    let (server, client) = main_pool().await;
    let named = client.named().await;
    let running = ready(bash("echo ready; cat").within(&named.id), &client).await;
    server.sandbox(&named.id).signal(libc::SIGKILL);
    running.finish().await.lost();
    let status = soon("its end", async {
        loop {
            if let Err(status) = client.get_named(&named.id).await {
                return status;
            }
        }
    })
    .await;
    assert_eq!(status.code(), Code::NotFound, "{status}");
    assert!(status.message().contains("the sandbox died"), "{status}");
}

#[tokio::test]
async fn sandboxes_are_listed_by_labels_and_by_pages() {
    let (_server, client) = main_pool().await;
    let mark = format!("list-{}", std::process::id());
    let mut all = Vec::new();
    for number in 0..3 {
        let labels = [("mark", mark.clone()), ("odd", (number % 2).to_string())];
        let labels = labels.map(|(key, value)| (key.to_owned(), value));
        all.push(
            client
                .named_with(|request| request.labels = labels.into())
                .await,
        );
    }
    let list = async |more: &[(&str, &str)], page_size, page_token: &str| {
        let mut labels: std::collections::HashMap<String, String> =
            [("mark".to_owned(), mark.clone())].into();
        labels.extend(more.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
        let request = v1::ListSandboxesRequest {
            labels,
            page_size,
            page_token: page_token.into(),
        };
        let page = client.sandboxes.clone().list_sandboxes(request).await;
        page.unwrap().into_inner()
    };
    let mut expected: Vec<_> = all.iter().map(|it| it.id.clone()).collect();
    expected.sort();
    let first = list(&[], 2, "").await;
    let second = list(&[], 2, &first.next_page_token).await;
    assert_eq!((first.sandboxes.len(), second.sandboxes.len()), (2, 1));
    assert_eq!(second.next_page_token, "");
    let listed = first.sandboxes.iter().chain(&second.sandboxes);
    let mut listed: Vec<_> = listed.map(|it| it.sandbox_id.clone()).collect();
    listed.sort();
    assert_eq!(listed, expected);
    let odd = list(&[("odd", "1")], 0, "").await;
    assert_eq!(odd.sandboxes.len(), 1);
    assert_eq!(odd.sandboxes[0].sandbox_id, all[1].id);
    for named in all {
        named.delete().await;
    }
}

#[tokio::test]
async fn bad_input_is_refused_by_field() {
    let (_server, client) = main_pool().await;
    let status = bash("echo never")
        .within("no-such-sandbox")
        .refused(&client)
        .await;
    assert_eq!(status.code(), Code::NotFound, "{status}");
    assert!(status.message().contains("no-such-sandbox"), "{status}");

    type Change = fn(&mut v1::CreateSandboxRequest);
    let cases: [(Change, &str); 6] = [
        (
            |it| it.pool = "nowhere".into(),
            "pool there is no pool \"nowhere\"",
        ),
        (
            |it| {
                it.lifetime = Some(prost_types::Duration {
                    seconds: 90_000,
                    nanos: 0,
                })
            },
            "lifetime 90000s is over the pool's maximum of 86400s",
        ),
        (
            |it| {
                it.idle_timeout = Some(prost_types::Duration {
                    seconds: -1,
                    nanos: 0,
                })
            },
            "idle_timeout -1s is negative",
        ),
        (
            |it| drop(it.env.insert("A=B".into(), "secret".into())),
            "env[\"A=B\"] has '=' in its name",
        ),
        (
            |it| drop(it.labels.insert(String::new(), String::new())),
            "labels[\"\"] has an empty key",
        ),
        (
            |it| {
                it.queue_timeout = Some(prost_types::Duration {
                    seconds: 90_000,
                    nanos: 0,
                })
            },
            "queue_timeout 90000s is over",
        ),
    ];
    for (change, words) in cases {
        let status = client.try_named(change).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        assert!(status.message().starts_with(words), "{status}");
    }

    let named = client.named().await;
    let program = || bash("echo never").within(&named.id);
    for (program, words) in [
        (
            program().pool("main"),
            "start.pool \"main\" is not the pool of this sandbox",
        ),
        (
            program().limits(|limits| limits.disk_bytes = 1 << 20),
            "start.limits.disk_bytes 1048576 means nothing with sandbox_id",
        ),
        (
            program().queue_timeout(Duration::from_secs(1)),
            "start.limits.queue_timeout means nothing with sandbox_id",
        ),
    ] {
        let status = program.refused(&client).await;
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        assert!(status.message().starts_with(words), "{status}");
    }
    named.delete().await;
}
