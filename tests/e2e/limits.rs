//! Every limit ends a program with its own outcome, and what it had said until then is there.

use std::time::Duration;

use crate::harness::*;
use v1::finished::Outcome;

fn finished(done: &Done) -> Duration {
    Duration::try_from(done.timings().finished.unwrap()).unwrap()
}

fn started(done: &Done) -> Duration {
    Duration::try_from(done.timings().started.unwrap()).unwrap()
}

#[tokio::test]
async fn a_timeout_keeps_what_was_said() {
    let (_server, client) = main_pool().await;
    let timeout = Duration::from_secs(4);
    let done = bash("echo out; echo err >&2; sleep 1000")
        .timeout(timeout)
        .run(&client)
        .await
        .timed_out();
    assert_eq!(
        (done.out().as_str(), done.err().as_str()),
        ("out\n", "err\n")
    );
    let Outcome::TimedOut(timed_out) = done.outcome() else {
        unreachable!()
    };
    assert_eq!(timed_out.timeout, Some(timeout.try_into().unwrap()));
    assert!(finished(&done) - started(&done) >= timeout);
}

/// On a cluster a connection that is cut costs a new exec, which may fail when the API server does.
#[tokio::test]
async fn a_timeout_does_not_cut_the_connection() {
    let (server, client) = main_pool().await;
    let done = bash("sleep 1000 & sleep 1000 & echo out; wait")
        .timeout(Duration::from_secs(4))
        .output("*")
        .run(&client)
        .await
        .timed_out();
    assert_eq!(done.out(), "out\n");
    let cut = |line: &str| line.contains("connection was cut") && line.contains(done.sandbox());
    let log = server.log();
    assert!(!log.lines().any(cut), "{log}");
}

#[tokio::test]
async fn an_infinite_loop_times_out_whatever_it_ignores() {
    let (_server, client) = main_pool().await;
    let source = "
import signal
for number in range(1, 64):
    try: signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError): pass
while True: pass
";
    python(source)
        .timeout(Duration::from_secs(1))
        .run(&client)
        .await
        .timed_out();
}

#[tokio::test]
async fn output_ends_exactly_at_its_limit() {
    let (_server, client) = main_pool().await;
    for source in [
        "yes 0123456789",
        "yes 0123456789 >&2",
        "yes 0123456789 & yes 0123456789 >&2",
    ] {
        let done = bash(source)
            .limits(|limits| limits.output_bytes = 1_000_003)
            .run(&client)
            .await;
        let expected = Outcome::OutputLimit(v1::OutputLimit {
            output_bytes: 1_000_003,
        });
        assert_eq!(done.outcome(), &expected, "{source}");
        assert_eq!(done.stdout.len() + done.stderr.len(), 1_000_003, "{source}");
        let line = b"0123456789\n";
        assert!(
            done.stdout
                .iter()
                .zip(line.iter().cycle())
                .all(|(a, b)| a == b),
            "{source}"
        );
    }
    let spec = bash("printf 12345").limits(|limits| limits.output_bytes = 5);
    spec.run(&client).await.printed("12345");
}

#[tokio::test]
async fn a_memory_hog_is_out_of_memory_and_the_next_one_runs() {
    let (_server, client) = main_pool().await;
    let source = "
print('begins', flush=True)
hog = []
while True:
    hog.append(b'x' * 10_000_000)
";
    let limit = 64 << 20;
    let done = python(source)
        .limits(|limits| limits.memory_bytes = limit)
        .run(&client)
        .await;
    let expected = Outcome::OutOfMemory(v1::OutOfMemory {
        memory_bytes: limit,
    });
    assert_eq!(done.outcome(), &expected, "{}", done.describe());
    assert_eq!(done.out(), "begins\n");
    assert!(
        finished(&done) < Duration::from_secs(20),
        "{:?}",
        finished(&done)
    );
    python("print('next')").run(&client).await.printed("next\n");
}

#[tokio::test]
async fn memory_that_comes_at_once_is_out_of_memory_too() {
    let (_server, client) = main_pool().await;
    // Faster than any sampling: the machine's own limit is the second line.
    let source = "
import mmap
memory = mmap.mmap(-1, 4 << 30)
piece = bytes(1 << 24)
for start in range(0, 4 << 30, 1 << 24):
    memory[start:start + len(piece)] = piece
";
    let done = python(source)
        .limits(|limits| limits.memory_bytes = 256 << 20)
        .run(&client)
        .await;
    assert!(
        matches!(done.outcome(), Outcome::OutOfMemory(_)),
        "{}",
        done.describe()
    );
}

#[tokio::test]
async fn memory_of_children_counts() {
    let (_server, client) = main_pool().await;
    let source = "
import os, time
for _ in range(6):
    if os.fork() == 0:
        hog = b'x' * 30_000_000
        time.sleep(1000)
time.sleep(1000)
";
    let done = python(source)
        .limits(|limits| limits.memory_bytes = 100 << 20)
        .run(&client)
        .await;
    assert!(
        matches!(done.outcome(), Outcome::OutOfMemory(_)),
        "{}",
        done.describe()
    );
}

#[tokio::test]
async fn files_are_not_counted_as_memory_and_a_full_volume_is_enospc() {
    let (_server, client) = main_pool().await;
    let source = "
import errno
for path, size in ('/workspace/x', 16), ('/tmp/x', 4), ('/home/sandbox/x', 4):
    try:
        with open(path, 'wb') as file:
            for written in range(100):
                file.write(b'x' * (1 << 20)); file.flush()
    except OSError as e:
        print(path, e.errno == errno.ENOSPC, size - 1 <= written <= size)
";
    python(source)
        .pool("tight")
        .limits(|limits| limits.memory_bytes = 32 << 20)
        .run(&client)
        .await
        .printed("/workspace/x True True\n/tmp/x True True\n/home/sandbox/x True True\n");
}

#[tokio::test]
async fn a_disk_limit_below_the_volumes_ends_the_program() {
    let (_server, client) = main_pool().await;
    let source = "echo begins; head -c 30000000 /dev/zero > x; head -c 30000000 /dev/zero > /tmp/x; sleep 1000";
    let done = bash(source)
        .limits(|limits| limits.disk_bytes = 40 << 20)
        .run(&client)
        .await;
    let expected = Outcome::DiskLimit(v1::DiskLimit {
        disk_bytes: 40 << 20,
    });
    assert_eq!(done.outcome(), &expected, "{}", done.describe());
    assert_eq!(done.out(), "begins\n");
}

/// Forks until that is refused, and prints errno and how many children there are.
const FORKS: &str = "
import os, time
made = 0
try:
    while True:
        if os.fork() == 0:
            time.sleep(1000)
            os._exit(0)
        made += 1
except OSError as e:
    print(e.errno, made)
";

/// How many children a program could have that may have 20 processes.
async fn children(client: &Client) -> u32 {
    let spec = python(FORKS).limits(|limits| limits.processes = 20);
    let done = spec.run(client).await.exited(0);
    let out = done.out();
    let made = out.strip_prefix("11 ").expect("EAGAIN, and a number");
    made.trim_end().parse().unwrap()
}

#[tokio::test]
async fn a_fork_bomb_stays_within_its_processes() {
    let (_server, client) = main_pool().await;
    let children = children(&client).await;
    // The program and its children are about 20.
    assert!((15..=24).contains(&children), "{children}");
}

/// After a cut the agent may hold the old connection yet, whose process is of the program's user.
#[tokio::test]
async fn what_connects_to_the_agent_is_not_counted_among_the_programs_processes() {
    let pools = "[pools.main]\nmin_idle = 1\nmax_sandboxes = 1\n\
                 limits.default.queue_timeout = \"80s\"\nlanguages.python = {}\n";
    let server = Server::with(pools).start();
    let client = server.client().await;
    let alone = children(&client).await;
    // Nothing else in the sandbox is of that user.
    assert!((20..=21).contains(&alone), "{alone}");
    client.wait_full("main").await;
    let next = server.sandbox(&server.sandboxes("main")[0]);
    let attached = [(); 3].map(|()| next.attach());
    assert_eq!(children(&client).await, alone);
    for mut connection in attached {
        // It ends with the sandbox.
        connection.wait().unwrap();
    }
}

#[tokio::test]
async fn a_real_fork_bomb_ends_and_the_server_goes_on() {
    let (_server, client) = main_pool().await;
    let done = bash("bomb() { bomb | bomb & }; bomb; while :; do sleep 0.1; done")
        .timeout(Duration::from_secs(2))
        .limits(|limits| limits.processes = 50)
        .run(&client)
        .await;
    assert!(
        matches!(done.outcome(), Outcome::TimedOut(_) | Outcome::Exited(_)),
        "{}",
        done.describe()
    );
    python("print('next')").run(&client).await.printed("next\n");
}

#[tokio::test]
async fn threads_count_as_processes() {
    let (_server, client) = main_pool().await;
    let source = "
import threading
go = threading.Event()
made = 0
try:
    while made < 500:
        threading.Thread(target=go.wait, daemon=True).start()
        made += 1
except RuntimeError as e:
    print(e)
print(10 < made < 40, flush=True)
import os; os._exit(0)
";
    let spec = python(source).limits(|limits| limits.processes = 30);
    spec.run(&client)
        .await
        .printed("can't start new thread\nTrue\n");
}

#[tokio::test]
async fn core_dumps_are_never_written() {
    let (_server, client) = main_pool().await;
    let done = bash("ulimit -c; kill -SEGV $$")
        .output("*")
        .run(&client)
        .await
        .signaled(11, "SIGSEGV");
    assert_eq!(done.out(), "0\n");
    assert!(done.files.is_empty());
}

#[tokio::test]
async fn usage_tells_the_peak_of_memory() {
    let (_server, client) = main_pool().await;
    // It is looked at now and then.
    let source = "hog = b'x' * 60_000_000\nimport time; time.sleep(3)";
    let done = python(source).run(&client).await.exited(0);
    let peak = done.usage().peak_memory_bytes;
    assert!((55_000_000..150_000_000).contains(&peak), "{peak}");
}
