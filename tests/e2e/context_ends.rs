//! Contexts that end, and cells that do their worst.

use std::time::Duration;

use tonic::Code;

use crate::harness::*;
use v1::finished::Outcome;

#[tokio::test]
async fn a_crash_is_told_and_leaves_the_sandbox_and_other_contexts_alive() {
    let (_server, client) = main_pool().await;
    let named = client.named().await;
    let other = named.context().await;
    cell("x = 'here'", &other).run(&client).await.exited(0);
    let signaled = |signal, name: &str| {
        Outcome::Signaled(v1::Signaled {
            signal,
            name: name.into(),
        })
    };
    for (source, outcome, words) in [
        (
            "import os; os._exit(5)",
            Outcome::Exited(v1::Exited { code: 5 }),
            "exited with code 5",
        ),
        (
            "import os; os.kill(os.getpid(), 11)",
            signaled(11, "SIGSEGV"),
            "signal 11",
        ),
        ("import os; os.abort()", signaled(6, "SIGABRT"), "signal 6"),
        // Of its socket nothing is left, so there is nothing to speak with.
        (
            "import os; os.closerange(3, 100)",
            signaled(9, "SIGKILL"),
            "signal 9",
        ),
    ] {
        let context = named.context().await;
        let done = cell(&format!("print('before')\n{source}"), &context);
        let done = done.run(&client).await;
        assert_eq!(done.outcome(), &outcome, "{source}: {}", done.describe());
        assert_eq!(done.out(), "before\n");
        assert!(done.finished.unwrap().context_ended, "{source}");
        let refused = cell("1", &context).refused(&client).await;
        assert_eq!(refused.code(), Code::FailedPrecondition);
        assert!(refused.message().contains(words), "{refused}");
        let listed = named.contexts().await;
        let listed = listed.iter().find(|it| it.context_id == context.context_id);
        let finished = listed.and_then(|it| it.finished.clone()).unwrap();
        assert_eq!(finished.outcome, Some(outcome));
    }
    let done = cell("x", &other).run(&client).await.exited(0);
    assert_eq!(done.shown(), ["'here'"]);
    bash("echo alive")
        .within(&named.id)
        .run(&client)
        .await
        .printed("alive\n");
    named.delete().await;
}

#[tokio::test]
async fn too_much_memory_ends_one_context_alone() {
    let (_server, client) = main_pool().await;
    let named = client.named().await;
    let (context, other) = (named.context().await, named.context().await);
    cell("x = 'here'", &other).run(&client).await.exited(0);
    let hungry = cell("kept = []\nwhile True: kept.append(b'x' * 10**7)", &context);
    let done = hungry.run(&client).await;
    assert!(
        matches!(done.outcome(), Outcome::OutOfMemory(_)),
        "{}",
        done.describe()
    );
    assert!(done.finished.unwrap().context_ended);
    let done = cell("x", &other).run(&client).await.exited(0);
    assert_eq!(done.shown(), ["'here'"]);
    named.delete().await;
}

#[tokio::test]
async fn a_cell_that_does_not_listen_ends_with_its_context() {
    let (_server, client) = main_pool().await;
    let named = client.named().await;
    let context = named.context().await;
    let deaf = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)";
    cell(deaf, &context).run(&client).await.exited(0);
    let done = cell("while True: pass", &context)
        .timeout(Duration::from_millis(300))
        .run(&client)
        .await;
    assert!(done.timed_out().finished.unwrap().context_ended);
    let refused = cell("1", &context).refused(&client).await;
    assert_eq!(refused.code(), Code::FailedPrecondition);
    named.delete().await;
}

#[tokio::test]
async fn a_deleted_context_ends_its_cell_and_all_that_it_has_started() {
    let (_server, client) = main_pool().await;
    let named = client.named().await;
    let context = named.context().await;
    // However quickly it heeds an interrupt.
    let source = "import subprocess, time\nsubprocess.Popen(['sleep', '98765'])\nprint('now', flush=True)\n\
                  try:\n    while True: time.sleep(0.1)\nexcept KeyboardInterrupt: pass";
    let mut running = cell(source, &context).start(&client).await;
    running.until_stdout("now\n").await;
    named.delete_context(&context.context_id).await.unwrap();
    let done = running.finish().await;
    let Outcome::Cancelled(cancelled) = done.outcome() else {
        panic!("{}", done.describe());
    };
    assert_eq!(cancelled.reason, "the context was deleted by its caller");
    assert!(done.finished.as_ref().unwrap().context_ended);
    let refused = cell("1", &context).refused(&client).await;
    assert_eq!(refused.code(), Code::NotFound);
    assert!(named.contexts().await.is_empty());
    let left = "cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -c 'sleep [9]8765' || true";
    bash(left)
        .within(&named.id)
        .run(&client)
        .await
        .printed("0\n");
    named.delete().await;
}

#[tokio::test]
async fn what_a_cell_does_to_its_interpreter_is_not_the_next_one_s_trouble() {
    let (_server, client) = main_pool().await;
    let named = client.named().await;
    let context = named.context().await;
    cell("import os, sys, threading, time", &context)
        .run(&client)
        .await
        .exited(0);
    for source in [
        "print = len = isinstance = open = None",
        "import builtins; builtins.print = None",
        "sys.stdout.close()",
        "sys.stdout.close(); sys.stderr.close(); sys.stdin.close()",
        "os.close(0); os.close(1); os.close(2)",
        "os.dup2(os.open('/dev/null', os.O_RDWR), 1)",
        "sys.stdout = sys.stderr = sys.stdin = None",
        "sys.stdin.detach(); sys.stdout.detach(); sys.stderr.detach()",
        "import io; sys.stdin = io.TextIOWrapper(sys.stdin.detach()); sys.stdin.detach()",
        "exit()",
        "sys.settrace(lambda *_: None); sys.setrecursionlimit(100)",
        "class A:\n    def _repr_html_(self): raise RuntimeError\n    def __repr__(self): raise RuntimeError\nA()",
        "class B:\n    def __getattr__(self, name): raise RuntimeError\nB()",
        "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)",
        "__name__ = __builtins__ = None",
        "globals().clear()",
        "def deep(): deep()\ndeep()",
        "threading.Thread(target=lambda: 1/0).start()",
        "raise SystemExit",
    ] {
        let done = cell(source, &context).run(&client).await;
        assert!(
            !done.finished.as_ref().unwrap().context_ended,
            "{source}: {}",
            done.describe()
        );
        let after = cell("import sys\nsys.stdout.write('fine\\n') and None", &context);
        let after = after.run(&client).await;
        assert_eq!(after.out(), "fine\n", "{source}: {}", after.describe());
    }
    named.delete().await;
}

#[tokio::test]
async fn what_a_cell_leaves_running_writes_to_the_next_one_or_to_nobody() {
    let (_server, client) = main_pool().await;
    let named = client.named().await;
    let context = named.context().await;
    let source = "import os, threading, time\ndef late():\n    while not os.path.exists('go'): time.sleep(0.01)\n    \
                  print('late'); display('late'); open('said', 'w').close()\n\
                  threading.Thread(target=late).start()\nprint('early')";
    cell(source, &context).run(&client).await.printed("early\n");
    named.write("go", b"").await.unwrap();
    let waits = "while not os.path.exists('said'): time.sleep(0.01)\nprint('next')";
    let done = cell(waits, &context).run(&client).await.exited(0);
    assert_eq!(done.out(), "late\nnext\n");
    assert_eq!(done.shown(), ["'late'"]);

    // A child has the cell's streams, and neither its socket nor its turn.
    let forks = "pid = os.fork()\nprint('child' if pid == 0 else 'parent')\ndisplay(5)\n\
                 if pid: os.waitpid(pid, 0)\n'end'";
    let done = cell(forks, &context).run(&client).await.exited(0);
    let mut lines: Vec<_> = done.out().lines().map(str::to_owned).collect();
    lines.sort();
    assert_eq!(lines, ["'end'", "5", "child", "parent"]);
    assert_eq!(done.shown(), ["5", "'end'"]);
    let forks = "if os.fork() == 0:\n    time.sleep(3600)";
    cell(forks, &context).run(&client).await.printed("");
    cell("print('on')", &context)
        .run(&client)
        .await
        .printed("on\n");
    named.delete().await;
}

#[tokio::test]
async fn a_display_that_hangs_is_interrupted() {
    let (_server, client) = main_pool().await;
    let named = client.named().await;
    let context = named.context().await;
    let hangs = "class Hangs:\n    def _repr_html_(self):\n        while True: pass\nHangs()";
    let done = cell(hangs, &context)
        .timeout(Duration::from_millis(300))
        .run(&client)
        .await;
    assert!(!done.timed_out().finished.unwrap().context_ended);
    cell("print('on')", &context)
        .run(&client)
        .await
        .printed("on\n");
    named.delete().await;
}

#[tokio::test]
async fn an_interrupt_reaches_a_cell_however_early_it_comes() {
    let (_server, client) = main_pool().await;
    let named = client.named().await;
    let context = named.context().await;
    for _ in 0..20 {
        // A signal that comes between Python's look for one and a system call that waits does not end the wait:
        // so nothing here waits.
        let mut busy = cell("while True: pass", &context).start(&client).await;
        busy.started().await;
        busy.signal(2).await;
        busy.finish().await.exited(130).raised("KeyboardInterrupt");
    }
    named.delete().await;
}

#[tokio::test]
async fn a_client_that_does_not_read_does_not_cost_the_state() {
    let (_server, client) = main_pool().await;
    let named = client.named().await;
    let context = named.context().await;
    cell("x = 'kept'", &context).run(&client).await.exited(0);
    for loud in [
        "while True: print('x' * 100_000)",
        "while True: display('x' * 100_000)",
    ] {
        let loud = cell(loud, &context).keep(Duration::ZERO);
        let mut unread = loud
            .timeout(Duration::from_millis(500))
            .start(&client)
            .await;
        unread.started().await;
        let done = cell("x", &context)
            .queue_timeout(PATIENCE)
            .run(&client)
            .await;
        assert_eq!(done.exited(0).shown(), ["'kept'"]);
        drop(unread);
    }
    named.delete().await;
}

#[tokio::test]
async fn a_process_that_a_cell_has_left_writes_to_the_next_one() {
    let (_server, client) = main_pool().await;
    let named = client.named().await;
    let context = named.context().await;
    let source = "import os, subprocess, time\n\
                  waits = 'while ! [ -e go ]; do sleep 0.01; done; echo from a child; touch said'\n\
                  child = subprocess.Popen(['/bin/sh', '-c', waits])\nos.system('echo here')";
    let done = cell(source, &context).run(&client).await.exited(0);
    assert_eq!(
        (done.out().as_str(), done.shown()),
        ("here\n", vec!["0".to_owned()])
    );
    named.write("go", b"").await.unwrap();
    let waits = "while not os.path.exists('said'): time.sleep(0.01)\nchild.wait()";
    let done = cell(waits, &context).run(&client).await.exited(0);
    assert_eq!(
        (done.out().as_str(), done.shown()),
        ("from a child\n", vec!["0".to_owned()])
    );
    named.delete().await;
}

#[tokio::test]
async fn handlers_and_streams_of_a_cell_s_own_do_no_harm_between_cells() {
    let (_server, client) = main_pool().await;
    let named = client.named().await;
    let context = named.context().await;
    let source = "import io, os, signal, sys, time\ndef raises(*_): raise RuntimeError\n\
                  signal.signal(signal.SIGALRM, raises)\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n\
                  signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)";
    cell(source, &context).run(&client).await;
    for _ in 0..20 {
        // It may be raised in there, too.
        cell("pass", &context).run(&client).await;
    }
    let stops = "try: signal.setitimer(signal.ITIMER_REAL, 0, 0)\nexcept RuntimeError: signal.setitimer(signal.ITIMER_REAL, 0, 0)";
    // It may be raised before the cell can catch it.
    soon("a cell that is not disturbed", async {
        let stops = || cell(stops, &context).run(&client);
        while stops().await.finished.unwrap().error.is_some() {}
    })
    .await;
    cell("print('on')", &context)
        .run(&client)
        .await
        .printed("on\n");

    let replaced = "print('own', end=''); sys.stdout = io.StringIO(); print('lost')";
    cell(replaced, &context).run(&client).await.printed("own");
    cell("sys.stdout = sys.__stdout__", &context)
        .run(&client)
        .await
        .printed("");
    let bad = "class Bad:\n    def _repr_mimebundle_(self, include=None, exclude=None): return 5\n    \
               def __repr__(self): return 'bad'\nBad()";
    let done = cell(bad, &context).run(&client).await.exited(0);
    assert_eq!(done.shown(), ["bad"]);
    assert!(done.err().contains("TypeError"), "{}", done.err());
    let many = "display({f'a/{n}': 'x' for n in range(100)}, raw=True)\n'after'";
    let done = cell(many, &context).run(&client).await.exited(0);
    assert_eq!(done.shown(), ["'after'"]);
    assert!(done.err().contains("too many forms"), "{}", done.err());
    named.delete().await;
}

#[tokio::test]
async fn a_second_call_of_a_cell_that_is_never_run_is_told_so() {
    let (_server, client) = main_pool().await;
    let named = client.named().await;
    let context = named.context().await;
    let mut first = cell("print('now', flush=True); input()", &context).stdin_open();
    first = first.timeout(PATIENCE);
    let mut running = first.start(&client).await;
    running.until_stdout("now\n").await;
    let id = format!("waits-{}", std::process::id());
    let waits = cell("1", &context).id(&id).queue_timeout(PATIENCE);
    let waiting = tokio::spawn({
        let (client, waits) = (client.clone(), waits.clone());
        async move { waits.try_start(&client).await }
    });
    soon("the first call's record", async {
        while client.attach(&id, [0, 0]).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let second = waits.start(&client).await;
    waiting.abort();
    let (_, status) = second.fails().await;
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    drop(running);
    named.delete().await;
}
