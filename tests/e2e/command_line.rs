//! `sandpool` as people type it, against a real server.

use std::{
    io::{PipeReader, PipeWriter, Write},
    process::Stdio,
};

use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

use crate::harness::*;

async fn run(server: &Server, args: &[&str]) -> (i32, String, String) {
    let output = output(sandpool(server, &[&["run"], args].concat())).await;
    (
        output.status.code().expect("an exit code"),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

fn script(name: &str, source: &str) -> (TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    std::fs::write(&path, source).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (dir, path)
}

/// A `sandpool run` under way, its standard input open.
struct Session {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Session {
    fn start(server: &Server, args: &[&str]) -> Self {
        Self::spawn(&mut sandpool(server, &[&["run"], args].concat()))
    }

    fn spawn(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    async fn line(&mut self) -> String {
        let line = soon("a line", self.lines.next_line()).await.unwrap();
        line.expect("a line, not the end")
    }

    async fn send(&mut self, text: &str) {
        let stdin = self.child.stdin.as_mut().unwrap();
        stdin.write_all(text.as_bytes()).await.unwrap();
    }

    fn signal(&self, signal: i32) {
        kill(self.child.id().unwrap().try_into().unwrap(), signal);
    }

    async fn end(&mut self) -> i32 {
        let status = soon("the end of sandpool", self.child.wait()).await;
        status.unwrap().code().expect("an exit code")
    }
}

/// A pipe into which nothing more can be written: both ends.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    let size = rustix::pipe::fcntl_getpipe_size(&writer).unwrap();
    writer.write_all(&vec![b'x'; size]).unwrap();
    (reader, writer)
}

#[tokio::test]
async fn a_script_has_its_arguments_streams_and_exit_code() {
    let server = shared();
    let (_dir, path) = script(
        "script.py",
        "import sys\nprint(sys.argv[1:])\nprint('oops', file=sys.stderr)\nsys.exit(3)\n",
    );
    let (code, stdout, stderr) = run(&server, &[&path, "a", "--b"]).await;
    assert_eq!(code, 3);
    assert_eq!(stdout, "['a', '--b']\n");
    assert_eq!(stderr, "oops\n");
}

#[tokio::test]
async fn output_and_input_stream_while_the_program_runs() {
    let server = shared();
    let (_dir, path) = script(
        "echo.py",
        "import sys\nprint('ready', flush=True)\nfor line in sys.stdin: print('read', line.strip(), flush=True)\nprint('end')\n",
    );
    let mut session = Session::start(&server, &[&path]);
    assert_eq!(session.line().await, "ready");
    session.send("one\n").await;
    assert_eq!(session.line().await, "read one");
    session.send("two\n").await;
    assert_eq!(session.line().await, "read two");
    drop(session.child.stdin.take());
    assert_eq!(session.line().await, "end");
    assert_eq!(session.end().await, 0);
}

#[tokio::test]
async fn every_kind_of_program_runs() {
    let server = shared();
    let bash = run(&server, &["--language", "bash", "-c", "echo hi $1", "x"]).await;
    assert_eq!(bash, (0, "hi x\n".into(), String::new()));
    let node = run(
        &server,
        &["--pool", "node", "-l", "node", "-c", "console.log(6 * 7)"],
    )
    .await;
    assert_eq!(node, (0, "42\n".into(), String::new()));
    let command = run(&server, &["--command", "/bin/echo", "-n", "hi"]).await;
    assert_eq!(command, (0, "hi".into(), String::new()));
    let env = run(&server, &["-e", "A=b=c", "-l", "bash", "-c", "echo $A"]).await;
    assert_eq!(env, (0, "b=c\n".into(), String::new()));
}

#[tokio::test]
async fn each_end_has_its_exit_code_and_its_words() {
    let server = shared();
    let bash = |source| ["-l", "bash", "-c", source];
    for (args, code, words) in [
        (
            ["--timeout", "1s", "-lbash", "-csleep 1000"].to_vec(),
            124,
            "sandpool: timed out after 1s\n",
        ),
        (bash("kill -9 $$").to_vec(), 137, ""),
        (
            bash("yes").to_vec(),
            153,
            "sandpool: more output than 16MiB\n",
        ),
        (
            ["--command", "/no/such"].to_vec(),
            126,
            "sandpool: not started: ",
        ),
        (
            ["-lcobol", "-cx"].to_vec(),
            125,
            "sandpool: INVALID_ARGUMENT: the request is wrong\n  start.code.language: ",
        ),
        (
            ["/no/such.py"].to_vec(),
            125,
            "sandpool: cannot read /no/such.py: ",
        ),
    ] {
        let (got, _, stderr) = run(&server, &args).await;
        assert_eq!(got, code, "{args:?}: {stderr}");
        assert!(stderr.starts_with(words), "{args:?}: {stderr}");
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_said_to_be() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sandpool"));
    // tcpmux, which nobody has.
    command.args(["run", "-lbash", "-ctrue", "--address", "127.0.0.1:1"]);
    let output = output(command).await;
    assert_eq!(output.status.code(), Some(125));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("is `sandpool serve` running?"), "{stderr}");
}

#[tokio::test]
async fn large_output_arrives_whole_on_both_streams() {
    let server = shared();
    let source = "import sys, threading\n\
        def loud(to):\n for n in range(100): to.buffer.write(bytes([n]) * 65537)\n\
        t = threading.Thread(target=loud, args=(sys.stderr,)); t.start(); loud(sys.stdout); t.join()\n";
    let output = output(sandpool(&server, &["run", "-lpython", "-c", source])).await;
    let expected: Vec<u8> = (0..100).flat_map(|n| vec![n; 65537]).collect();
    assert!(output.stdout == expected, "stdout differs");
    assert!(output.stderr == expected, "stderr differs");
    assert!(output.status.success());
}

#[tokio::test]
async fn the_first_interrupt_is_the_programs() {
    let server = shared();
    let source = "import time\ntry:\n    print('ready', flush=True)\n    while True: time.sleep(0.1)\n\
                  except KeyboardInterrupt: print('interrupted'); raise SystemExit(7)\n";
    let mut session = Session::start(&server, &["-lpython", "-c", source]);
    assert_eq!(session.line().await, "ready");
    session.signal(libc::SIGINT);
    assert_eq!(session.line().await, "interrupted");
    assert_eq!(session.end().await, 7);
}

#[tokio::test]
async fn the_second_interrupt_cancels() {
    let (server, client) = main_pool().await;
    let watched = exclusive(&client).await;
    // Nothing that blocks for long: a signal that comes just before it does is answered when it returns.
    let source = "trap 'echo no' INT; echo ready; while :; do sleep 0.05; done";
    let args = ["--pool", watched.name, "-lbash", "-c", source];
    let mut session = Session::start(&server, &args);
    assert_eq!(session.line().await, "ready");
    session.signal(libc::SIGINT);
    assert_eq!(session.line().await, "no");
    session.signal(libc::SIGTERM);
    assert_eq!(session.end().await, 130);
    client.wait_full(watched.name).await;
}

#[tokio::test]
async fn it_can_be_cancelled_while_nobody_reads_its_output() {
    let (server, client) = main_pool().await;
    let watched = exclusive(&client).await;
    let source = "trap '' INT; echo ready; yes >&2";
    let args = ["run", "--pool", watched.name, "-lbash", "-c", source];
    let (_reader, full) = full_pipe();
    let mut session = Session::spawn(sandpool(&server, &args).stderr(full));
    assert_eq!(session.line().await, "ready");
    // Two that come close together are one, so there may have to be more.
    let ended = async {
        loop {
            session.signal(libc::SIGINT);
            let wait = session.child.wait();
            match tokio::time::timeout(std::time::Duration::from_millis(50), wait).await {
                Ok(status) => return status.unwrap(),
                Err(_) => continue,
            }
        }
    };
    let status = soon("the end of sandpool", ended).await;
    assert_eq!(status.code(), Some(130));
    client.wait_full(watched.name).await;
}

#[tokio::test]
async fn output_waits_for_its_reader_however_small_its_pieces_are() {
    let (server, client) = main_pool().await;
    let watched = exclusive(&client).await;
    // More than the pipe to the reader holds, and then each line a message of its own.
    let source = "import time
print('x' * 200_000, flush=True)
for number in range(4000):
    print(number, flush=True)
    time.sleep(0.001)";
    let args = [
        "run",
        "--pool",
        watched.name,
        "--timeout",
        "5m",
        "-lpython",
        "-c",
        source,
    ];
    let child = sandpool(&server, &args).spawn().unwrap();
    // All of it has been sent once the sandbox is gone.
    client
        .wait_for(watched.name, "one leased", |pool| {
            pool.counts.as_ref().unwrap().leased == 1
        })
        .await;
    client.wait_full(watched.name).await;
    let output = soon("the output", child.wait_with_output()).await.unwrap();
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
    let lines = output.stdout.iter().filter(|it| **it == b'\n').count();
    assert_eq!((output.status.code(), lines), (Some(0), 4001));
}

#[tokio::test]
async fn it_ends_when_its_reader_has_gone() {
    let (server, client) = main_pool().await;
    let watched = exclusive(&client).await;
    let args = ["run", "--pool", watched.name, "-lbash", "-c", "yes"];
    let mut child = sandpool(&server, &args).spawn().unwrap();
    let mut start = [0; 2];
    let mut stdout = child.stdout.take().unwrap();
    soon("output", stdout.read_exact(&mut start)).await.unwrap();
    drop(stdout);
    let status = soon("the end of sandpool", child.wait()).await.unwrap();
    assert_eq!(status.code(), Some(141));
    client.wait_full(watched.name).await;
}

#[tokio::test]
async fn files_go_in_and_come_out() {
    let server = shared();
    let (dir, path) = script("in.txt", "of the host");
    let out = dir.path().join("out");
    let file = format!("{path}:data/in.txt");
    let args = [
        "--file",
        &file,
        "--output",
        "made/*.txt",
        "--output-dir",
        out.to_str().unwrap(),
        "-lbash",
        "-c",
        "mkdir made; cp data/in.txt made/a.txt; head -c 3000000 /dev/zero >made/b.txt; touch made/c",
    ];
    let (code, stdout, stderr) = run(&server, &args).await;
    assert_eq!((code, stdout, stderr), (0, String::new(), String::new()));
    let read = |name: &str| std::fs::read(out.join("made").join(name)).unwrap();
    assert_eq!(read("a.txt"), b"of the host");
    assert!(read("b.txt") == vec![0; 3_000_000]);
    assert!(!out.join("made/c").exists());
}

#[tokio::test]
async fn pools_shows_each_pool_and_watches_one() {
    let (server, client) = main_pool().await;
    let watched = exclusive(&client).await;
    let output = output(sandpool(&server, &["pools"])).await;
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success());
    for pool in ["main*", "node", "numpy", "tight", "still", "watched"] {
        assert!(table.lines().any(|line| line.starts_with(pool)), "{table}");
    }

    let mut child = sandpool(&server, &["pools", "--watch", watched.name])
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut execution = bash("read")
        .pool(watched.name)
        .stdin_open()
        .start(&client)
        .await;
    execution.started().await;
    soon("a line that shows the lease", async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.split_whitespace().nth(3) == Some("1") {
                return;
            }
        }
        panic!("the watch ended");
    })
    .await;
    drop(execution);
    client.wait_full(watched.name).await;
}

#[tokio::test]
async fn doctor_finds_this_machine_fit() {
    only_local!("doctor is asked about this machine");
    let server = shared();
    let state_dir = state_dir();
    let mut command = sandpool(&server, &["doctor", "--listen", "127.0.0.1:0"]);
    command
        .env("SANDPOOL_BACKEND__LOCAL__STATE_DIR", state_dir.path())
        .env("SANDPOOL_BACKEND__LOCAL__AGENT", crate::agent::agent());
    let output = output(command).await;
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    assert!(
        text.contains("ok    pool default: a gVisor sandbox was warm"),
        "{text}"
    );
}

#[tokio::test]
async fn a_configuration_that_cannot_be_printed_is_an_error() {
    let server = shared();
    let mut command = sandpool(&server, &["config"]);
    command.stdout(std::fs::File::create("/dev/full").unwrap());
    let ended = soon("its end", command.spawn().unwrap().wait_with_output()).await;
    let ended = ended.unwrap();
    assert_eq!(ended.status.code(), Some(1));
    let stderr = String::from_utf8(ended.stderr).unwrap();
    assert!(stderr.contains("No space left"), "{stderr}");
}

#[tokio::test]
async fn what_nobody_reads_of_doctor_and_config_is_no_crash() {
    let server = shared();
    let nowhere = ["--listen", "127.0.0.1:0", "--config", "/nowhere"];
    for (subcommand, args, code) in [
        ("config", &[][..], 0),
        ("config", &nowhere, 1),
        ("doctor", &nowhere, 1),
    ] {
        let mut command = sandpool(&server, &[subcommand]);
        command.args(args).stdout(unread()).stderr(unread());
        let ended = soon("its end", command.spawn().unwrap().wait()).await;
        assert_eq!(ended.unwrap().code(), Some(code), "{subcommand} {args:?}");
    }
}

#[tokio::test]
async fn doctor_reads_what_the_server_would_read() {
    let server = shared();
    let (dir, tokens) = script("tokens.toml", "[[token]]\nname = \"it\"\n");
    let config = dir.path().join("doctor.toml");
    let missing = dir.path().join("missing.crt");
    std::fs::write(
        &config,
        format!(
            "[tls]\ncertificate = {missing:?}\nkey = {missing:?}\n[access]\ntokens = {tokens:?}\n"
        ),
    )
    .unwrap();
    let config = config.to_str().unwrap();
    let mut command = sandpool(&server, &["doctor", "--listen", "127.0.0.1:0"]);
    command.args(["--config", config]);
    let output = output(command).await;
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(!output.status.success(), "{text}");
    let certificate = format!("FAIL  certificate: cannot read {}", missing.display());
    let tokens = format!("FAIL  tokens: access.tokens: {tokens}: is no list of [[token]]");
    assert!(text.contains(&certificate), "{text}");
    assert!(text.contains(&tokens), "{text}");
    assert!(text.contains("skip  sandboxes"), "{text}");
}

#[tokio::test]
async fn config_names_what_is_wrong_in_it() {
    let (_dir, path) = script("bad.toml", "[pools.main]\nmin_idel = 3\n");
    let mut command = Command::new(env!("CARGO_BIN_EXE_sandpool"));
    command.args(["config", "--config", &path]);
    let output = output(command).await;
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(
        stderr.contains("min_idel") && stderr.contains("min_idle"),
        "{stderr}"
    );
}
