//! What happens to a sandbox from outside: it is killed or frozen, in use or idle.

use crate::harness::*;
use v1::{finished::Outcome, sandbox_lost::Cause};

#[tokio::test]
async fn a_sandbox_killed_while_it_is_used_is_lost_with_its_cause() {
    let (server, client) = main_pool().await;
    let mut execution = bash("echo partial; sleep 1000").start(&client).await;
    let id = execution.started().await;
    execution.until_stdout("partial\n").await;
    server.sandbox(&id).signal(libc::SIGKILL);
    let done = execution.finish().await;
    let reason = done.lost();
    // 137 is what a shell calls it, and a kubelet.
    let cause = if on_kubernetes() { "137" } else { "signal 9" };
    assert!(reason.contains(cause), "the cause is told: {reason}");
    assert_eq!(done.out(), "partial\n");
}

#[tokio::test]
async fn a_sandbox_killed_while_it_is_idle_is_replaced() {
    let (server, client) = main_pool().await;
    let watched = exclusive(&client).await;
    let [killed] = &server.sandboxes(watched.name)[..] else {
        panic!("one sandbox is idle");
    };
    server.sandbox(killed).signal(libc::SIGKILL);
    client
        .wait_for(watched.name, "another one", |pool| {
            is_full(pool) && !server.sandboxes(watched.name).contains(killed)
        })
        .await;
    let [new] = &server.sandboxes(watched.name)[..] else {
        panic!("one sandbox is idle");
    };
    assert_ne!(killed, new);
    let done = bash("echo next")
        .pool(watched.name)
        .run(&client)
        .await
        .printed("next\n");
    assert_eq!(done.sandbox(), new);
}

/// A kubelet asks gVisor to end what is in it, and waits for minutes if it is frozen.
fn thaw(server: &Server, sandbox: &str) {
    if on_kubernetes() {
        server.sandbox(sandbox).signal(libc::SIGCONT);
    }
}

#[tokio::test]
async fn a_sandbox_that_does_not_start_the_program_is_replaced_by_another() {
    let (server, client) = main_pool().await;
    let watched = exclusive(&client).await;
    let [frozen] = &server.sandboxes(watched.name)[..] else {
        panic!("one sandbox is idle");
    };
    server.sandbox(frozen).signal(libc::SIGSTOP);
    let spec = python("print(input())").pool(watched.name);
    let done = spec.stdin("once\n").run(&client).await.printed("once\n");
    assert_ne!(done.sandbox(), frozen);
    thaw(&server, frozen);
    client.wait_full(watched.name).await;
    assert!(!server.sandbox(frozen).exists());
}

#[tokio::test]
async fn a_program_that_no_sandbox_starts_is_lost_before_its_start() {
    let server = Server::with(
        "[pools.main]\nmin_idle = 3\nmax_sandboxes = 4\nstart_delay = \"10s\"\nlanguages.bash = {}\n",
    )
    .start();
    let client = server.client().await;
    let frozen = server.sandboxes("main");
    assert_eq!(frozen.len(), 3);
    for sandbox in &frozen {
        server.sandbox(sandbox).signal(libc::SIGSTOP);
    }
    let done = bash("echo never").run(&client).await;
    let Outcome::SandboxLost(lost) = done.outcome() else {
        panic!("{}", done.describe());
    };
    assert_eq!(lost.cause(), Cause::BeforeStart, "{}", lost.reason);
    assert!(done.stdout.is_empty());
    assert!(done.timings().started.is_none());
    for sandbox in &frozen {
        thaw(&server, sandbox);
    }
    client.wait_full("main").await;
    let left = server.sandboxes("main");
    assert!(frozen.iter().all(|frozen| !left.contains(frozen)));
    bash("echo next").run(&client).await.printed("next\n");
}

#[tokio::test]
async fn a_cut_connection_to_a_sandbox_costs_no_byte() {
    let (server, client) = main_pool().await;
    let source = "
for line in iter(input, 'end'):
    print(line * 1000)
";
    let mut execution = python(source)
        .stdin_open()
        .timeout(PATIENCE * 2)
        .start(&client)
        .await;
    let id = execution.started().await;
    execution.send("a\n").await;
    execution.until_stdout("a\n").await;
    // Frozen, it answers no keepalive, so the connection is given up after 30 s.
    server.sandbox(&id).signal(libc::SIGSTOP);
    execution.send("b\n").await;
    server
        .logged("the cut", |line| {
            line.contains("connection was cut") && line.contains(&id)
        })
        .await;
    execution.send("c\n").await;
    server.sandbox(&id).signal(libc::SIGCONT);
    execution.until_stdout("c\n").await;
    execution.send("end\n").await;
    let expected = ["a", "b", "c"]
        .map(|letter| letter.repeat(1000) + "\n")
        .concat();
    execution.finish().await.printed(&expected);
}
