//! What a cell may do, and what the next one finds.

use std::time::Duration;

use crate::harness::*;
use v1::finished::Outcome;

const THREAD: &str = "import threading, time\nthreading.Thread(target=time.sleep, args=(1000,), daemon=True).start()";

#[tokio::test]
async fn an_interrupt_while_it_displays_costs_neither_signals_nor_the_next_cell() {
    let (_server, client) = main_pool().await;
    let named = client.named().await;
    // The second time another thread takes the signals.
    for prepares in ["", THREAD] {
        let context = named.context().await;
        cell(&format!("{prepares}\nimport signal"), &context)
            .run(&client)
            .await
            .printed("");
        for _ in 0..20 {
            let mut shows = cell("while True: display(1)", &context)
                .start(&client)
                .await;
            shows
                .until("a display", |done| !done.displays.is_empty())
                .await;
            shows.signal(2).await;
            shows.finish().await.exited(130).raised("KeyboardInterrupt");
            let mask = "print(signal.pthread_sigmask(signal.SIG_BLOCK, ()))";
            cell(mask, &context).run(&client).await.printed("set()\n");
        }
    }
    named.delete().await;
}

#[tokio::test]
async fn an_alarm_that_goes_off_between_cells_ends_nothing() {
    let (_server, client) = main_pool().await;
    let named = client.named().await;
    let context = named.context().await;
    let source = "import os, signal\nwent_off = 0\ndef handler(*_):\n    global went_off\n    went_off += 1\n    \
                  raise TimeoutError\nsignal.signal(signal.SIGALRM, handler)\nprint(os.getpid())";
    let interpreter = cell(source, &context).run(&client).await.out();
    for alarms in 1..=3 {
        // An alarm of its own might go off in a cell.
        bash(&format!("kill -ALRM {interpreter}"))
            .within(&named.id)
            .run(&client)
            .await
            .exited(0);
        cell("print(went_off)", &context)
            .run(&client)
            .await
            .printed(&format!("{alarms}\n"));
    }
    named.delete().await;
}

#[tokio::test]
async fn alarms_that_raise_cost_a_cell_and_never_its_context() {
    let (_server, client) = main_pool().await;
    let named = client.named().await;
    // The second time another thread may take the signals, which the main thread's handler hears of all the same.
    for prepares in ["", THREAD] {
        let context = named.context().await;
        let source = format!(
            "{prepares}\nimport signal\ndef handler(*_): raise TimeoutError\n\
             assert signal.signal(signal.SIGALRM, handler) is signal.SIG_DFL\n\
             assert signal.getsignal(signal.SIGALRM) is handler"
        );
        cell(&source, &context).run(&client).await.printed("");
        for number in 0..100 {
            let timer = format!(
                "signal.setitimer(signal.ITIMER_REAL, 0.001, {})",
                0.0011 + f64::from(number) / 1e5
            );
            let done = cell(&timer, &context).run(&client).await;
            let finished = done.finished.as_ref().unwrap();
            assert!(!finished.context_ended, "{}", done.describe());
            assert!(matches!(done.outcome(), Outcome::Exited(_)));
        }
        soon("a cell without an alarm", async {
            let stop = "signal.setitimer(signal.ITIMER_REAL, 0)\nprint('done')";
            while cell(stop, &context).run(&client).await.out() != "done\n" {}
        })
        .await;
        cell("print(handler.__name__)", &context)
            .run(&client)
            .await
            .printed("handler\n");
    }
    named.delete().await;
}

#[tokio::test]
async fn handlers_that_display_or_fail_cost_neither_the_context_nor_an_interrupt() {
    let (_server, client) = main_pool().await;
    let named = client.named().await;
    let context = named.context().await;
    // So few that handlers within handlers come to an end.
    let source = "import os, signal, threading, time\nsignal.signal(signal.SIGUSR1, lambda *_: display(1))\n\
                  signal.signal(signal.SIGUSR2, lambda *_: None)\ndef noise():\n    \
                  for _ in range(30):\n        os.kill(os.getpid(), signal.SIGUSR1)\n        \
                  os.kill(os.getpid(), signal.SIGUSR2)\n        time.sleep(0.001)\n\
                  thread = threading.Thread(target=noise)\nthread.start()\n\
                  while thread.is_alive(): display(2)";
    cell(source, &context).run(&client).await.exited(0);
    let source = "def fails(*_): raise TimeoutError\nsignal.signal(signal.SIGUSR1, fails)\n\
                  class E(Exception):\n    told = 0\n    def __str__(self):\n        E.told += 1\n        \
                  if E.told == 1: signal.raise_signal(signal.SIGUSR1)\n        \
                  if E.told == 2: print('twice', flush=True)\n        \
                  while E.told == 2: pass\n        return 'told'\nraise E";
    let mut endless = cell(source, &context).start(&client).await;
    endless.until_stdout("twice\n").await;
    endless.signal(2).await;
    endless.finish().await.exited(1);
    cell("print(E.told >= 2)", &context)
        .run(&client)
        .await
        .printed("True\n");
    named.delete().await;
}

#[tokio::test]
async fn an_exception_that_cannot_be_told_is_told_as_that() {
    let (_server, client) = main_pool().await;
    let named = client.named().await;
    let context = named.context().await;
    cell("kept = 1", &context).run(&client).await.printed("");
    for says in [
        "raise SystemExit",
        "raise KeyboardInterrupt",
        "raise ValueError",
        "return 1",
    ] {
        let source =
            format!("class E(Exception):\n    def __str__(self):\n        {says}\nraise E");
        cell(&source, &context)
            .run(&client)
            .await
            .exited(1)
            .raised("E");
    }
    let source = "class E(Exception):\n    def __str__(self):\n        while True: pass\nraise E";
    let endless = cell(source, &context).timeout(Duration::from_millis(300));
    endless.run(&client).await.timed_out();
    let source = "class M(type):\n    @property\n    def __name__(cls): raise ValueError\n\
                  class E(Exception, metaclass=M): pass\nraise E";
    cell(source, &context)
        .run(&client)
        .await
        .exited(1)
        .raised("E");
    // Nor is anything of it kept.
    let source = "import weakref\nclass Big: pass\ndef f():\n    global seen\n    big = Big()\n    \
                  seen = weakref.ref(big)\n    raise ValueError\nimport gc; gc.disable()\nf()";
    cell(source, &context).run(&client).await.exited(1);
    cell("print(kept, seen())", &context)
        .run(&client)
        .await
        .printed("1 None\n");
    named.delete().await;
}

#[tokio::test]
async fn it_exits_as_a_program_would_have() {
    let (_server, client) = main_pool().await;
    let named = client.named().await;
    let context = named.context().await;
    for (exits, code) in [
        ("", 0),
        ("None", 0),
        ("False", 0),
        ("256", 0),
        ("7", 7),
        ("-1", 255),
        ("2 ** 100", 255),
        ("''", 1),
        ("[]", 1),
        ("0.0", 1),
    ] {
        let source = format!("import sys\nsys.exit({exits})");
        let done = cell(&source, &context).run(&client).await.exited(code);
        let raised = done.finished.as_ref().unwrap().error.is_some();
        assert_eq!(raised, code != 0, "{exits}");
        let program = python(&source).within(&named.id);
        program.run(&client).await.exited(code);
    }
    // A child that comes to the end of its cell, too.
    let source = "import os, sys\nchild = os.fork()\nif child == 0: sys.exit(0)\n\
                  print(os.waitpid(child, 0)[1])";
    let done = cell(source, &context).run(&client).await.printed("0\n");
    assert_eq!(done.err(), "");
    named.delete().await;
}

#[tokio::test]
async fn tasks_go_on_from_cell_to_cell_on_one_loop() {
    let (_server, client) = main_pool().await;
    // The second one has asyncio from the start.
    for pool in ["named", "numpy"] {
        let named = client
            .named_with(|request| request.pool = pool.into())
            .await;
        tasks_go_on(&client, &named.context().await).await;
        named.delete().await;
    }
}

async fn tasks_go_on(client: &Client, context: &v1::Context) {
    for (source, printed) in [
        (
            "import asyncio\nasync def f(): return 5\nt = asyncio.ensure_future(f())",
            "",
        ),
        ("print(await t)", "5\n"),
        ("print(asyncio.run(f()))", "5\n"),
        ("t = asyncio.ensure_future(f())", ""),
        ("print(await t)", "5\n"),
    ] {
        cell(source, context).run(client).await.printed(printed);
    }
}

#[tokio::test]
async fn a_value_is_hidden_by_a_semicolon_and_by_no_comment() {
    let (_server, client) = main_pool().await;
    let named = client.named().await;
    let context = named.context().await;
    for (source, shown) in [
        ("5  # as in foo();", &["5"][..]),
        ("5;  # quiet", &[]),
        ("5;", &[]),
        ("'ä;ö'", &["'ä;ö'"]),
        ("('ä', '''\n;''')\n# the end;", &["('ä', '\\n;')"]),
        ("('ä', '''\r\n''');\r\n# the end", &[]),
    ] {
        let done = cell(source, &context).run(&client).await.exited(0);
        assert_eq!(done.shown(), shown, "{source:?}");
    }
    named.delete().await;
}

#[tokio::test]
async fn what_it_displays_is_not_lost_with_its_time_its_life_or_its_streams() {
    let (_server, client) = main_pool().await;
    let named = client.named().await;
    let context = named.context().await;
    let shows = "import signal\ndef show(*_):\n    signal.signal(signal.SIGINT, signal.SIG_IGN)\n    \
                 display('so far')\n    signal.signal(signal.SIGINT, signal.default_int_handler)\n    \
                 raise KeyboardInterrupt\nsignal.signal(signal.SIGINT, show)";
    cell(shows, &context).run(&client).await.exited(0);
    let cut = cell("while True: pass", &context).timeout(Duration::from_millis(300));
    assert_eq!(
        cut.run(&client).await.timed_out().shown(),
        ["'so far'"],
        "what was shown once its time was over"
    );
    // A stream without flush stays in its place.
    let own = "import contextlib\nclass W:\n    said = ''\n    def write(self, text): self.said += text\nw = W()\n\
               with contextlib.redirect_stdout(w):\n    print('a'); display(1); print('b')\nprint(w.said)";
    let done = cell(own, &context).run(&client).await;
    assert_eq!(done.printed("a\nb\n\n").shown(), ["1"]);
    let handle = "h = display(1, display_id=True)\nh.update(2)\ndisplay(3)";
    let done = cell(handle, &context).run(&client).await.exited(0);
    assert_eq!(done.shown(), ["1", "2", "3"]);
    // More than its reader is given at first, and then it ends with its context.
    let last = "import os\ndisplay('x' * 2_000_000)\nos._exit(3)";
    let done = cell(last, &context).run(&client).await.exited(3);
    assert_eq!(done.shown().len(), 1);
    assert_eq!(done.shown()[0].len(), 2_000_002);
    named.delete().await;
}
