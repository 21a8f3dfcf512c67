//! Programs that attack their sandbox or its agent. Each gets its outcome, and the next one runs.

use std::time::Duration;

use crate::harness::*;
use v1::finished::Outcome;

#[tokio::test]
async fn gigabytes_on_both_streams_end_at_the_timeout_for_a_slow_client() {
    let (server, _) = main_pool().await;
    let client = server.client_with_window(65_535).await;
    let done = bash("yes out & yes err >&2")
        .limits(|limits| limits.output_bytes = 1 << 30)
        .timeout(Duration::from_secs(3))
        .run(&client)
        .await;
    assert!(
        matches!(
            done.outcome(),
            Outcome::TimedOut(_) | Outcome::OutputLimit(_)
        ),
        "{}",
        done.describe()
    );
    assert!(
        done.stdout.len() > 1 << 20 && done.stderr.len() > 1 << 20,
        "both streams flow"
    );
    let is = |bytes: &[u8], line: &[u8]| bytes.iter().zip(line.iter().cycle()).all(|(a, b)| a == b);
    assert!(is(&done.stdout, b"out\n") && is(&done.stderr, b"err\n"));
}

#[tokio::test]
async fn hundreds_of_megabytes_come_through_whole() {
    let (_server, client) = main_pool().await;
    let bytes: u64 = 256 << 20;
    let mut execution = command(&["head", "-c", &bytes.to_string(), "/dev/zero"])
        .limits(|limits| limits.output_bytes = 1 << 30)
        .timeout(Duration::from_secs(80))
        .start(&client)
        .await;
    execution.started().await;
    let done = execution.finish().await.exited(0);
    assert_eq!(done.stdout.len() as u64, bytes);
}

#[tokio::test]
async fn killing_its_own_parent_loses_the_sandbox() {
    let (_server, client) = main_pool().await;
    for signal in ["KILL", "TERM", "ABRT"] {
        let source = format!("echo partial; read -r _; kill -{signal} 1; sleep 1000");
        let spec = bash(&source).timeout(Duration::from_secs(20)).stdin_open();
        let mut execution = spec.start(&client).await;
        execution.until_stdout("partial\n").await;
        execution.send("now\n").await;
        let done = execution.finish().await;
        let reason = done.lost();
        assert!(!reason.is_empty(), "it has a cause");
        assert_eq!(done.out(), "partial\n");
    }
    bash("echo next").run(&client).await.printed("next\n");
}

#[tokio::test]
async fn what_was_written_before_the_sandbox_died_is_delivered() {
    only_local!("elsewhere output passes through the agent, which dies with the sandbox");
    let (_server, client) = main_pool().await;
    let source = "import os\nos.write(1, b'x' * 60000)\nos.write(2, b'y' * 60000)\nos.kill(1, 9)";
    let done = python(source).run(&client).await;
    assert!(!done.lost().is_empty(), "it has a cause");
    assert_eq!((done.stdout.len(), done.stderr.len()), (60_000, 60_000));
}

#[tokio::test]
async fn what_was_written_to_the_server_cannot_be_read_back() {
    only_local!("elsewhere a program's stdout is a pipe inside of the sandbox");
    let (_server, client) = main_pool().await;
    // gVisor opens the pipe again, for whatever one asks; the host's descriptor can only write.
    let source = "
import os
again = os.open('/proc/self/fd/1', os.O_RDWR | os.O_NONBLOCK)
os.write(1, b'mine\\n')
try:
    os.read(again, 100)
except OSError as error:
    print(error.strerror)
";
    let done = python(source).run(&client).await;
    done.printed("mine\nBad file descriptor\n");
}

#[tokio::test]
async fn killing_everyone_is_the_end_of_others_only() {
    let (_server, client) = main_pool().await;
    let done = python("import os; os.kill(-1, 9); print('still here')")
        .run(&client)
        .await;
    // kill(2) spares the caller and PID 1.
    done.printed("still here\n");
}

#[tokio::test]
async fn stopping_its_parent_times_out_and_is_deleted() {
    let (server, client) = main_pool().await;
    let watched = exclusive(&client).await;
    let spec = bash("echo partial; read -r _; kill -STOP 1; sleep 1000").pool(watched.name);
    let spec = spec.timeout(Duration::from_secs(5)).stdin_open();
    let mut execution = spec.start(&client).await;
    execution.until_stdout("partial\n").await;
    execution.send("now\n").await;
    let done = execution.finish().await.timed_out();
    assert_eq!(done.out(), "partial\n");
    client.wait_full(watched.name).await;
    assert!(!server.sandbox(done.sandbox()).exists());
}

#[tokio::test]
async fn the_agent_admits_nobody_from_inside() {
    let (_server, client) = main_pool().await;
    let source = "
import array, socket, os
theirs, ours = socket.socketpair()
for _ in range(3):
    s = socket.socket(socket.AF_UNIX)
    s.connect('/run/sandpool/agent.sock')
    s.settimeout(10)
    fds = array.array('i', [theirs.fileno(), theirs.fileno()])
    s.sendmsg([b'\\x01'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
    try:
        print(s.recv(10))
    except ConnectionResetError:
        print(b'')
theirs.close()
ours.settimeout(10)
print(ours.recv(10))
held = [socket.socket(socket.AF_UNIX) for _ in range(50)]
for s in held:
    s.connect('/run/sandpool/agent.sock')
print('the agent works')
";
    python(source)
        .run(&client)
        .await
        .printed("b''\nb''\nb''\nb''\nthe agent works\n");
}

#[tokio::test]
async fn the_agents_program_for_reconnecting_is_refused_from_inside() {
    let (_server, client) = main_pool().await;
    let done = bash("echo | timeout 10 /sandpool/agent attach; echo done")
        .run(&client)
        .await;
    assert!(done.out().ends_with("done\n"), "{}", done.describe());
    assert_eq!(done.out(), "done\n", "nothing was served to it");
}

#[tokio::test]
async fn the_agents_descriptors_cannot_be_used_by_others() {
    let (_server, client) = main_pool().await;
    let source = "
import os
written = 0
for fd in sorted(os.listdir('/proc/1/fd')):
    try:
        target = os.readlink('/proc/1/fd/' + fd)
    except OSError:
        continue
    for flags in os.O_WRONLY, os.O_RDWR:
        try:
            f = os.open('/proc/1/fd/' + fd, flags | os.O_NONBLOCK)
        except OSError:
            continue
        if 'socket' in target:
            print('opened', fd, target)
        try:
            os.write(f, b'\\x00' * 64)
            written += 1
        except OSError:
            pass
        os.close(f)
print('still here')
";
    let done = python(source).run(&client).await;
    assert!(done.out().ends_with("still here\n"), "{}", done.describe());
    assert!(!done.out().contains("opened"), "{}", done.out());
    assert!(
        matches!(done.outcome(), Outcome::Exited(_)),
        "{}",
        done.describe()
    );
}

#[tokio::test]
async fn the_agents_memory_is_its_own() {
    let (_server, client) = main_pool().await;
    let source = "
for path in '/proc/1/mem', '/proc/1/environ':
    for mode in 'rb', 'r+b':
        try:
            with open(path, mode, buffering=0) as f:
                f.read(1) if mode == 'rb' else f.write(b'x')
            print('opened', path, mode)
        except OSError as e:
            pass
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
PTRACE_ATTACH = 16
print(libc.ptrace(PTRACE_ATTACH, 1, 0, 0))
";
    let done = python(source).run(&client).await.exited(0);
    assert!(!done.out().contains("/proc/1/mem"), "{}", done.out());
    assert!(!done.out().contains("r+b"), "{}", done.out());
    assert!(done.out().ends_with("-1\n"), "{}", done.out());
}

#[tokio::test]
async fn the_agent_and_the_system_cannot_be_replaced() {
    let (_server, client) = main_pool().await;
    let source = "
for path in /sandpool/agent /usr/bin/x /usr/x /bin/sh /etc/passwd /x /lib/x /run/x /sys/x; do
  (echo x > $path) 2>/dev/null && echo wrote $path
  (echo x >> $path) 2>/dev/null && echo appended to $path
  mv $path $path.moved 2>/dev/null && echo moved $path
  rm -f $path 2>/dev/null && test -e $path.was && echo removed $path
done
test -x /sandpool/agent && test -x /bin/sh && echo all there
mount -o remount,rw / 2>/dev/null && echo remounted
mount -t tmpfs none /usr 2>/dev/null && echo mounted
exit 0
";
    let done = bash(source).run(&client).await.exited(0);
    assert_eq!(done.out(), "all there\n");
}

#[tokio::test]
async fn a_program_has_no_privileges() {
    let (_server, client) = main_pool().await;
    let source = "
id -u; id -g; id -G
grep -E '^(CapInh|CapPrm|CapEff|CapBnd|CapAmb|NoNewPrivs)' /proc/self/status
";
    let done = bash(source).run(&client).await.exited(0);
    let out = done.out();
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[..3], ["65532"; 3], "{out}");
    for line in &lines[3..] {
        let (name, value) = line.split_once(":\t").unwrap();
        let expected = if name == "NoNewPrivs" {
            "1"
        } else {
            "0000000000000000"
        };
        assert_eq!(value, expected, "{out}");
    }
    assert!(out.contains("CapEff"), "{out}");
    let source = "import os\ntry:\n    os.setuid(0)\nexcept PermissionError:\n    print('refused')";
    python(source).run(&client).await.printed("refused\n");
}

#[tokio::test]
async fn a_program_has_three_descriptors_and_no_more() {
    let (_server, client) = main_pool().await;
    // The listing itself has one, the fourth.
    python("import os; print(sorted(os.listdir('/proc/self/fd')))")
        .run(&client)
        .await
        .printed("['0', '1', '2', '3']\n");
    let done = command(&["ls", "/proc/self/fd"]).run(&client).await;
    done.printed("0\n1\n2\n3\n");
    let done = bash("ls /proc/$$/fd").run(&client).await.exited(0);
    // Bash reads its script through 255.
    assert_eq!(done.out(), "0\n1\n2\n255\n");
    let fresh =
        python("import os; print(sorted(os.listdir('/proc/self/fd')))").env("PYTHONUTF8", "1");
    fresh.run(&client).await.printed("['0', '1', '2', '3']\n");
    let source = "
const fs = require('fs');
for (const fd of fs.readdirSync('/proc/self/fd')) {
  let target; try { target = fs.readlinkSync('/proc/self/fd/' + fd); } catch { continue; }
  if (Number(fd) > 2 && !/anon_inode|pipe/.test(target)) console.log(fd, target);
  if (fd === '3' && /socket/.test(target)) console.log('control');
}
";
    let done = node(source).run(&client).await.exited(0);
    assert!(!done.out().contains("socket"), "{}", done.out());
}

#[tokio::test]
async fn a_program_has_no_network() {
    let (server, client) = main_pool().await;
    let source = "
import socket, sys, time
since = time.monotonic()
for address in ('169.254.169.254', 80), ('8.8.8.8', 53), ('127.0.0.1', int(sys.argv[1])), ('10.0.0.1', 80):
    try:
        socket.create_connection(address, timeout=5)
        print('connected to', address)
    except OSError as e:
        pass
try:
    print(socket.gethostbyname('example.com'))
except OSError:
    pass
print([name for _, name in socket.if_nameindex()])
print(time.monotonic() - since < 4)
";
    let port = server.address.port().to_string();
    let done = python(source).args(&[&port]).run(&client).await.exited(0);
    assert_eq!(done.out(), "['lo']\nTrue\n");
}

#[tokio::test]
async fn a_program_sees_its_own_sandbox_only() {
    let (_server, client) = main_pool().await;
    let mut other = bash("exec -a other-sandbox-marker sleep 1000")
        .start(&client)
        .await;
    other.started().await;
    // A pod shows its image's own /root, and gVisor's own cgroups.
    let (root, cgroups) = if on_kubernetes() {
        ("[]", "True")
    } else {
        (
            "os.listdir('/root') if os.path.exists('/root') else []",
            "False",
        )
    };
    let source = "
import os, socket
pids = [p for p in os.listdir('/proc') if p.isdigit()]
lines = [open(f'/proc/{p}/cmdline').read() for p in pids]
print(any('marker' in line or 'runsc' in line or 'serve' in line for line in lines), len(pids) < 10)
print(socket.gethostname(), os.path.exists('/sys/fs/cgroup/memory'), sorted(os.listdir('/home')), ROOT)
";
    python(&source.replace("ROOT", root))
        .run(&client)
        .await
        .printed(&format!("False True\nsandbox {cgroups} ['sandbox'] []\n"));
    other.signal(9).await;
    other.finish().await.signaled(9, "SIGKILL");
}

#[tokio::test]
async fn what_a_program_leaves_running_dies_with_its_sandbox() {
    let (server, client) = main_pool().await;
    let watched = exclusive(&client).await;
    let done =
        bash("for i in 1 2 3; do setsid nohup sleep 1000 > /dev/null 2>&1 & done; echo left")
            .pool(watched.name)
            .run(&client)
            .await
            .printed("left\n");
    client.wait_full(watched.name).await;
    assert!(!server.sandbox(done.sandbox()).exists());
}
