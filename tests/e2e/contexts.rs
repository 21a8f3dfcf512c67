//! Contexts: interpreters that keep their state and run cells.

use std::time::Duration;

use tonic::Code;

use crate::harness::*;
use v1::finished::Outcome;

#[tokio::test]
async fn a_cell_finds_what_an_earlier_one_has_left_and_shows_its_last_value() {
    let (_server, client) = main_pool().await;
    let named = client.named().await;
    let context = named.context().await;
    assert_eq!(context.language, "python");
    let cells = [
        ("x = 41", "", None),
        ("print('out')\nx + 1", "out\n", Some("42")),
        ("_", "", Some("42")),
        ("x;", "", None),
        ("None", "", None),
        ("# nothing but a comment", "", None),
        ("def f():\n    return x\nf()", "", Some("41")),
        ("__name__", "", Some("'__main__'")),
        (
            "import pickle\nclass A: pass\ntype(pickle.loads(pickle.dumps(A()))) is A",
            "",
            Some("True"),
        ),
        (
            "import inspect\ninspect.getsource(f)",
            "",
            Some(r"'def f():\n    return x\n'"),
        ),
    ];
    for (number, (source, printed, shown)) in (1..).zip(cells) {
        let done = cell(source, &context).run(&client).await.printed(printed);
        let shown: Vec<_> = shown.into_iter().map(str::to_owned).collect();
        assert_eq!(done.shown(), shown, "{source}");
        assert!(done.displays.iter().all(|it| it.is_result));
        let finished = done.finished.as_ref().unwrap();
        assert_eq!(finished.execution_count, number);
        assert!(done.timings().warm && finished.error.is_none());
    }
    let [listed] = &named.contexts().await[..] else {
        panic!("one context");
    };
    assert_eq!(listed.execution_count, cells.len() as u64);
    assert!(listed.finished.is_none());
    named.delete().await;
}

#[tokio::test]
async fn an_exception_is_told_in_its_parts_and_the_context_goes_on() {
    let (_server, client) = main_pool().await;
    let named = client.named().await;
    let context = named.context().await;
    let source = "def fails():\n    raise ValueError('no good')\nprint('before')\nfails()";
    let done = cell(source, &context).run(&client).await.exited(1);
    assert_eq!((done.out().as_str(), done.err().as_str()), ("before\n", ""));
    let error = done.raised("ValueError");
    assert_eq!(error.value, "no good");
    let lines: Vec<_> = error.traceback.lines().map(str::trim).collect();
    assert_eq!(
        lines,
        [
            "Traceback (most recent call last):",
            "File \"<cell 1>\", line 4, in <module>",
            "fails()",
            "File \"<cell 1>\", line 2, in fails",
            "raise ValueError('no good')",
            "ValueError: no good",
        ]
    );
    for (source, name, value, code) in [
        ("x = = 1", "SyntaxError", "invalid syntax", 1),
        ("return 1", "SyntaxError", "'return' outside function", 1),
        ("import sys; sys.exit(7)", "SystemExit", "7", 7),
        ("sys.exit('words')", "SystemExit", "words", 1),
        ("raise KeyboardInterrupt", "KeyboardInterrupt", "", 130),
        (
            "class E(Exception):\n    def __str__(self): 1/0\nraise E",
            "E",
            "<it cannot be told>",
            1,
        ),
        ("raise Exception('x' * 10**6)", "Exception", "xxx", 1),
        ("input()", "EOFError", "EOF when reading a line", 1),
    ] {
        let done = cell(source, &context).run(&client).await.exited(code);
        let error = done.raised(name);
        assert!(error.value.starts_with(value), "{source}: {}", error.value);
        assert!(error.value.len() < 17_000 && error.traceback.len() < 70_000);
    }
    // What is wrong in a later line keeps all of a cell from running.
    cell("ran = True\nx = = 1", &context)
        .run(&client)
        .await
        .raised("SyntaxError");
    cell("ran", &context).run(&client).await.raised("NameError");
    cell("sys.exit()", &context).run(&client).await.printed("");
    cell("print('alive')", &context)
        .run(&client)
        .await
        .printed("alive\n");
    named.delete().await;
}

#[tokio::test]
async fn a_cell_may_await_and_read_its_input() {
    let (_server, client) = main_pool().await;
    let named = client.named().await;
    let context = named.context().await;
    let source = "import asyncio\nasync def later(value):\n    await asyncio.sleep(0.01)\n    return value\n\
                  task = asyncio.ensure_future(later('kept'))\nawait later(5)";
    let done = cell(source, &context).run(&client).await.exited(0);
    assert_eq!(done.shown(), ["5"]);
    let done = cell("await task", &context).run(&client).await.exited(0);
    assert_eq!(done.shown(), ["'kept'"]);
    cell("asyncio.run(later(1))", &context)
        .run(&client)
        .await
        .exited(0);

    let asks = cell("name = input('who? ')\nname", &context).stdin_open();
    let mut asking = asks.start(&client).await;
    asking.until_stdout("who? ").await;
    asking.send("me\nnot read\n").await;
    let done = asking.finish().await.exited(0);
    assert_eq!(done.shown(), ["'me'"]);
    // What one has not read of its input is not the next one's.
    let done = cell("input()", &context)
        .stdin("other\n")
        .run(&client)
        .await;
    assert_eq!(done.exited(0).shown(), ["'other'"]);
    named.delete().await;
}

#[tokio::test]
async fn an_interrupt_leaves_the_state() {
    let (_server, client) = main_pool().await;
    let named = client.named().await;
    let context = named.context().await;
    cell("x = 1", &context).run(&client).await.exited(0);
    let sleeps = "import subprocess, time, asyncio\nprint('now', flush=True)\n";
    for what in [
        "while True: time.sleep(0.1)",
        "while True: pass",
        "subprocess.run(['sleep', '3600'])",
        "while True: await asyncio.sleep(0.1)",
        "while True: display('x')",
    ] {
        let mut sleeping = cell(&format!("{sleeps}{what}"), &context)
            .start(&client)
            .await;
        sleeping.until_stdout("now\n").await;
        sleeping.signal(2).await;
        sleeping
            .finish()
            .await
            .exited(130)
            .raised("KeyboardInterrupt");
    }
    // By the server, too: the limit is a cell's, and a client that goes away is the end of one.
    let slow = cell("print('now', flush=True)\ntime.sleep(3600)", &context);
    let done = slow
        .clone()
        .timeout(Duration::from_millis(300))
        .run(&client)
        .await;
    assert!(!done.timed_out().finished.unwrap().context_ended);
    let mut sleeping = slow.keep(Duration::ZERO).start(&client).await;
    sleeping.until_stdout("now\n").await;
    drop(sleeping);
    let done = cell("x", &context).run(&client).await.exited(0);
    assert_eq!(done.shown(), ["1"]);
    named.delete().await;
}

#[tokio::test]
async fn cells_have_their_turns_and_contexts_do_not_wait_for_each_other() {
    let (_server, client) = main_pool().await;
    let named = client.named().await;
    let (context, other) = (named.context().await, named.context().await);
    let waits = "import os, time\nwhile not os.path.exists('go'): time.sleep(0.01)\nturns = [1]";
    let first = cell(&format!("print('now', flush=True)\n{waits}"), &context);
    let mut first = first.start(&client).await;
    first.until_stdout("now\n").await;
    let impatient = cell("turns", &context).queue_timeout(Duration::from_millis(100));
    let refused = impatient.refused(&client).await;
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(
        refused.message().contains("limits.queue_timeout"),
        "{refused}"
    );
    let append = |n: usize| cell(&format!("turns.append({n}); turns"), &context);
    let (second, third) = (append(2), append(3));
    let next = async {
        // One comes after the other: their order is that of their requests.
        let waiting = tokio::spawn({
            let client = client.clone();
            async move { second.run(&client).await }
        });
        cell("'free'", &other).run(&client).await.exited(0);
        named.write("go", b"").await.unwrap();
        waiting.await.unwrap()
    };
    assert_eq!(next.await.exited(0).shown(), ["[1, 2]"]);
    assert_eq!(third.run(&client).await.exited(0).shown(), ["[1, 2, 3]"]);
    first.finish().await.exited(0);
    named.delete().await;
}

#[tokio::test]
async fn a_context_has_a_directory_and_an_environment_and_its_cells_have_files() {
    let (_server, client) = main_pool().await;
    let named = client
        .named_with(|request| {
            request.env.insert("WHO".into(), "sandbox".into());
            request.env.insert("WHAT".into(), "sandbox".into());
        })
        .await;
    let context = named
        .try_context(|request| {
            request.working_directory = "data".into();
            request.env.insert("WHO".into(), "context".into());
        })
        .await
        .unwrap();
    assert_eq!(context.working_directory, "/workspace/data");
    let source = "import os\nopen('out.txt', 'w').write(open('in.txt').read().upper())\n\
                  print(os.getcwd(), os.environ['WHO'], os.environ['WHAT'])";
    let done = cell(source, &context)
        .file("in.txt", "text")
        .output("*.txt")
        .run(&client)
        .await
        .printed("/workspace/data context sandbox\n");
    assert_eq!(done.files["out.txt"].content, b"TEXT");
    // Its directory may change; that of files does not.
    let done = cell(
        "os.chdir('/tmp')\nopen('/workspace/data/b.txt', 'w').close()",
        &context,
    );
    let done = done.output("b*").run(&client).await.printed("");
    assert!(done.files.contains_key("b.txt"));
    named.delete().await;
}

#[tokio::test]
async fn a_sandbox_has_thirty_two_contexts_and_no_more() {
    let (_server, client) = main_pool().await;
    let named = client.named().await;
    let mut contexts = Vec::new();
    for number in 0..32 {
        let context = named.context().await;
        let source = format!("own = {number}");
        cell(&source, &context).run(&client).await.printed("");
        contexts.push(context);
    }
    let status = named.try_context(|_| {}).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    assert!(
        status.message().contains("32 contexts") && status.message().contains("delete one"),
        "{status}"
    );
    let deleted = contexts.remove(7);
    named.delete_context(&deleted.context_id).await.unwrap();
    cell("print('new')", &named.context().await)
        .run(&client)
        .await
        .printed("new\n");
    for (number, context) in (0..32).filter(|number| *number != 7).zip(&contexts) {
        let printed = format!("{number}\n");
        let own = cell("print(own)", context);
        own.run(&client).await.printed(&printed);
    }
    named.delete().await;
}

#[tokio::test]
async fn what_cannot_be_is_refused_with_its_field() {
    let (_server, client) = main_pool().await;
    let named = client.named().await;
    let context = named.context().await;
    let refused = async |spec: Spec, code: Code, text: &str| {
        let status = spec.refused(&client).await;
        assert_eq!(status.code(), code, "{status}");
        assert!(status.message().contains(text), "{status}");
    };
    let good = || cell("1", &context);
    let of = |context_id: &str, sandbox_id: &str| v1::Context {
        context_id: context_id.into(),
        sandbox_id: sandbox_id.into(),
        ..Default::default()
    };
    let invalid = Code::InvalidArgument;
    refused(
        cell("1", &of("none", &named.id)),
        Code::NotFound,
        "ListContexts",
    )
    .await;
    refused(
        cell("1", &of(&context.context_id, "")),
        invalid,
        "context_id",
    )
    .await;
    let other = client.named().await;
    refused(
        cell("1", &of(&context.context_id, &other.id)),
        Code::NotFound,
        "ListContexts",
    )
    .await;
    other.delete().await;
    refused(good().env("A", "b"), invalid, "env").await;
    refused(good().directory("x"), invalid, "working_directory").await;
    refused(good().terminal(24, 80), invalid, "terminal").await;
    refused(good().args(&["a"]), invalid, "code.args").await;
    refused(good().source(" \n"), invalid, "code.source").await;
    refused(bash("1").cell_of(&context), invalid, "code.language").await;
    refused(command(&["true"]).cell_of(&context), invalid, "command").await;
    refused(
        good().limits(|it| it.memory_bytes = 64 << 20),
        invalid,
        "limits.memory_bytes",
    )
    .await;

    let node = named.try_context(|it| it.language = "node".into()).await;
    assert_eq!(node.unwrap_err().code(), invalid);
    let outside = named
        .try_context(|it| it.working_directory = "/etc".into())
        .await;
    assert!(outside.unwrap_err().message().contains("working_directory"));
    let none = named.try_context(|it| it.sandbox_id = "none".into()).await;
    assert_eq!(none.unwrap_err().code(), Code::NotFound);
    let none = named.delete_context("none").await;
    assert_eq!(none.unwrap_err().code(), Code::NotFound);
    named.delete().await;
}

#[tokio::test]
async fn a_cell_goes_on_without_its_caller_and_no_display_is_lost_or_doubled() {
    let (_server, client) = main_pool().await;
    let named = client.named().await;
    let context = named.context().await;
    let id = format!("cell-{}", std::process::id());
    let source = "for n in range(2000):\n    print(n)\n    display(n)";
    let program = cell(source, &context).id(&id);
    let mut execution = program.start(&client).await;
    let mut shown = Vec::new();
    let mut out = 0;
    // Comes and goes, each time after another hundred.
    loop {
        let whole = execution
            .until("a hundred, or the end", |done| {
                done.displays.len() >= 100 || done.finished.is_some()
            })
            .await;
        shown.extend(whole.shown());
        out += whole.stdout.len() as u64;
        if let Some(finished) = &whole.finished {
            assert_eq!(
                finished.outcome,
                Some(Outcome::Exited(v1::Exited { code: 0 }))
            );
            break;
        }
        drop(execution);
        let offsets = [out, 0, shown.len() as u64];
        execution = client.attach_after(&id, offsets).await.unwrap();
    }
    let expected: Vec<_> = (0..2000).map(|n| n.to_string()).collect();
    assert_eq!(shown, expected);
    named.delete().await;
}
