//! stdout, stderr and stdin: apart, in order, untouched, and as they happen.

use std::time::Duration;

use crate::harness::*;
use v1::finished::Outcome;

#[tokio::test]
async fn stdout_and_stderr_stay_apart_and_each_in_order() {
    let (_server, client) = main_pool().await;
    let source = "
import os
for i in range(3000):
    os.write(1, b'out %d\\n' % i)
    os.write(2, b'err %d\\n' % i)
";
    let done = python(source).run(&client).await.exited(0);
    let expected = |word: &str| {
        (0..3000)
            .map(|i| format!("{word} {i}\n"))
            .collect::<String>()
    };
    assert!(done.out() == expected("out"));
    assert!(done.err() == expected("err"));
}

/// The bytes that BYTES makes in Python: every value, in no simple order.
fn some_bytes(count: usize) -> Vec<u8> {
    (0..count)
        .map(|i| ((i * i + i / 251) % 256) as u8)
        .collect()
}

const BYTES: &str = "data = bytes((i * i + i // 251) % 256 for i in range(1 << 20))\n";

#[tokio::test]
async fn binary_output_is_untouched() {
    let (_server, client) = main_pool().await;
    let source = format!(
        "{BYTES}import os, sys\nsys.stdout.buffer.write(data * 4)\nsys.stderr.buffer.write(data)"
    );
    let done = python(&source).run(&client).await.exited(0);
    let expected = some_bytes(1 << 20);
    assert!(done.stdout == expected.repeat(4));
    assert!(done.stderr == expected);
}

/// To a pipe of the host's gVisor writes what there is room for, and CPython's unbuffered streams
/// do not go on with the rest.
#[tokio::test]
async fn what_a_program_that_was_started_for_the_call_writes_at_once_is_written_whole() {
    let (_server, client) = main_pool().await;
    let source = "print('x' * 3_000_000)";
    let fresh = python(source).env("PYTHONUNBUFFERED", "1");
    let command = command(&["python3", "-u", "-c", source]);
    let expected = "x".repeat(3_000_000) + "\n";
    for spec in [fresh, command] {
        let done = spec.run(&client).await.exited(0);
        assert!(done.out() == expected, "{} bytes", done.stdout.len());
    }
}

/// Small pieces after large ones must not each keep a large buffer.
#[tokio::test]
async fn a_command_that_is_loud_and_then_writes_little_at_a_time_loses_nothing() {
    let (_server, client) = main_pool().await;
    let source = format!(
        "{BYTES}import os\ndef write(data):\n    while data: data = data[os.write(1, data):]\nfor _ in range(8): write(data)\nfor i in range(20_000): write(b'%d\\n' % i)"
    );
    let done = command(&["python3", "-c", &source])
        .limits(|limits| limits.memory_bytes = 100 << 20)
        .run(&client)
        .await
        .exited(0);
    let lines: String = (0..20_000).map(|i| format!("{i}\n")).collect();
    let expected = [some_bytes(1 << 20).repeat(8), lines.into_bytes()].concat();
    assert!(done.stdout == expected, "{} bytes", done.stdout.len());
}

#[tokio::test]
async fn a_write_that_is_cut_short_says_so() {
    let (_server, client) = main_pool().await;
    let source = "import os\nsent = sum(os.write(1, b'x' * 3_000_000) for _ in range(3))\nos.write(2, b'%d' % sent)";
    let done = python(source).run(&client).await.exited(0);
    assert_eq!(done.err(), done.stdout.len().to_string());
}

#[tokio::test]
async fn binary_input_is_untouched() {
    let (_server, client) = main_pool().await;
    let input = some_bytes(3 << 20);
    command(&["cat"])
        .stdin(input.clone())
        .run(&client)
        .await
        .exited(0)
        .stdout
        .iter()
        .eq(&input)
        .then_some(())
        .expect("cat gives back what it got");
    let source = format!("{BYTES}import sys\nassert sys.stdin.buffer.read() == data");
    python(&source)
        .stdin(some_bytes(1 << 20))
        .run(&client)
        .await
        .printed("");
}

#[tokio::test]
async fn output_that_is_not_utf_8_passes_and_has_a_readable_form() {
    let (_server, client) = main_pool().await;
    let spec = bash("printf 'a\\xff\\xc3b'");
    let done = spec.clone().run(&client).await.exited(0);
    assert_eq!(done.stdout, b"a\xff\xc3b");
    let whole = spec.run_whole(&client, true).await.unwrap();
    assert_eq!(whole.stdout_text, "a\u{fffd}\u{fffd}b");
}

#[tokio::test]
async fn output_without_a_newline_comes_before_the_end() {
    let (_server, client) = main_pool().await;
    let source = "import sys; sys.stdout.write('no newline'); sys.stdout.flush(); sys.stdin.read()";
    let mut execution = python(source).stdin_open().start(&client).await;
    execution.until_stdout("no newline").await;
    execution.close_stdin().await;
    execution.finish().await.printed("no newline");
}

#[tokio::test]
async fn a_printed_line_comes_without_a_flush() {
    let (_server, client) = main_pool().await;
    let mut execution = python("print('asked'); print('got', input())")
        .stdin_open()
        .start(&client)
        .await;
    execution.until_stdout("asked\n").await;
    execution.send("an answer\n").await;
    execution.finish().await.printed("asked\ngot an answer\n");
}

#[tokio::test]
async fn a_dialogue_goes_both_ways() {
    let (_server, client) = main_pool().await;
    let mut execution = bash("while read -r x; do echo $((x * 2)); done; echo bye")
        .stdin_open()
        .start(&client)
        .await;
    for number in 1..=20 {
        execution.send(format!("{number}\n")).await;
        execution.until_stdout(&format!("{}\n", number * 2)).await;
    }
    execution.close_stdin().await;
    execution.until_stdout("bye").await;
    execution.finish().await.exited(0);
}

#[tokio::test]
async fn the_end_of_the_clients_messages_is_the_end_of_stdin() {
    let (_server, client) = main_pool().await;
    let mut execution = command(&["wc", "-c"]).stdin_open().start(&client).await;
    execution.send("12345").await;
    execution.half_close();
    execution.finish().await.printed("5\n");
}

#[tokio::test]
async fn stdin_that_was_not_asked_for_is_at_its_end() {
    let (_server, client) = main_pool().await;
    python("import sys; print(repr(sys.stdin.read()))")
        .run(&client)
        .await
        .printed("''\n");
    bash("cat; echo end").run(&client).await.printed("end\n");
}

#[tokio::test]
async fn a_program_that_never_reads_its_stdin_ends_all_the_same() {
    let (_server, client) = main_pool().await;
    let mut execution = bash("echo ready; read -r -n 1; exit 3")
        .stdin_open()
        .start(&client)
        .await;
    execution.until_stdout("ready").await;
    let feed = async {
        // Far more than all buffers on the way.
        for _ in 0..64 {
            execution.send(vec![b'x'; 1 << 20]).await;
        }
    };
    // It is not taken, so it need not be possible to send it; it must end all the same.
    let _ = tokio::time::timeout(Duration::from_secs(20), feed).await;
    execution.finish().await.exited(3);
}

#[tokio::test]
async fn a_program_that_closes_its_stdin_goes_on() {
    let (_server, client) = main_pool().await;
    let source = "
import os, signal
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
os.close(0)
print('closed', flush=True)
signal.sigwait([signal.SIGUSR1])
print('end')
";
    let mut execution = python(source).stdin_open().start(&client).await;
    execution.until_stdout("closed").await;
    for _ in 0..4 {
        execution.send(vec![b'x'; 1 << 20]).await;
    }
    execution.signal(10).await;
    execution.finish().await.printed("closed\nend\n");
}

#[tokio::test]
async fn signals_reach_the_program() {
    let (_server, client) = main_pool().await;
    // Waited for, not handled: a handler that prints could interrupt a print.
    let source = "
import signal
numbers = {2, 10, 15, 34, 64}
signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
print('ready', flush=True)
while True:
    print('got', int(signal.sigwait(numbers)), flush=True)
";
    let mut execution = python(source).start(&client).await;
    execution.until_stdout("ready").await;
    for number in [2, 10, 15, 34, 64] {
        execution.signal(number).await;
        execution.until_stdout(&format!("got {number}\n")).await;
    }
    execution.signal(9).await;
    execution.finish().await.signaled(9, "SIGKILL");
}

#[tokio::test]
async fn sigint_is_a_keyboard_interrupt() {
    let (_server, client) = main_pool().await;
    let mut execution = python("print('ready', flush=True)\nwhile True: pass")
        .start(&client)
        .await;
    execution.until_stdout("ready").await;
    execution.signal(2).await;
    let done = execution.finish().await.signaled(2, "SIGINT");
    assert!(
        done.err().ends_with("KeyboardInterrupt\n"),
        "{}",
        done.err()
    );
}

#[tokio::test]
async fn a_signal_reaches_the_whole_process_group() {
    let (_server, client) = main_pool().await;
    let source = "
trap 'echo parent; wait; exit 0' TERM
(trap 'echo child; exit 0' TERM; echo ready; while :; do sleep 0.05; done) &
wait
";
    let mut execution = bash(source).start(&client).await;
    execution.until_stdout("ready").await;
    execution.signal(15).await;
    let done = execution.finish().await.exited(0);
    assert!(
        done.out().contains("parent\n") && done.out().contains("child\n"),
        "{}",
        done.out()
    );
}

#[tokio::test]
async fn a_program_that_floods_stderr_still_has_its_stdout_read() {
    let (_server, client) = main_pool().await;
    let source = "
import sys, threading
def flood():
    while True:
        sys.stderr.write('x' * 65536)
threading.Thread(target=flood, daemon=True).start()
while True:
    line = sys.stdin.readline()
    if not line:
        break
    print('got', line, end='', flush=True)
import os; os._exit(0)
";
    let mut execution = python(source)
        .stdin_open()
        .limits(|limits| limits.output_bytes = 1 << 30)
        .start(&client)
        .await;
    for number in 0..10 {
        execution.send(format!("{number}\n")).await;
        execution.until_stdout(&format!("got {number}\n")).await;
    }
    execution.close_stdin().await;
    execution.finish().await.exited(0);
}

#[tokio::test]
async fn output_of_a_child_comes_until_the_program_has_ended() {
    let (_server, client) = main_pool().await;
    let done = bash("(echo from the child) & wait; echo end")
        .run(&client)
        .await;
    done.printed("from the child\nend\n");
}

#[tokio::test]
async fn a_child_that_keeps_stdout_open_does_not_delay_the_end() {
    let (_server, client) = main_pool().await;
    let done = bash("setsid sleep 1000 & echo end")
        .run(&client)
        .await
        .printed("end\n");
    let finished = Duration::try_from(done.timings().finished.unwrap()).unwrap();
    assert!(finished < Duration::from_secs(20), "{finished:?}");
}

#[tokio::test]
async fn closing_stdout_is_no_end() {
    let (_server, client) = main_pool().await;
    let source = "import os, sys; os.close(1); os.close(2); sys.stdin.read(); os._exit(8)";
    let mut execution = python(source).stdin_open().start(&client).await;
    execution.started().await;
    execution.close_stdin().await;
    let done = execution.finish().await;
    assert_eq!(done.outcome(), &Outcome::Exited(v1::Exited { code: 8 }));
}
