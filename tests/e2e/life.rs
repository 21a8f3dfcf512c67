//! A server's own life: readiness, shutdown, sudden death, and what is left of it.

use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{net::TcpStream, time::sleep};
use tonic::{Code, Streaming};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus,
    health_client::HealthClient,
};

use crate::harness::*;
use v1::finished::Outcome;

const SMALL: &str = r#"
[pools.main]
min_idle = 1
max_sandboxes = 2
limits.default.queue_timeout = "80s"
languages.bash = {}
"#;

fn with_grace(grace: &str) -> String {
    format!("{SMALL}\n[shutdown]\ngrace = \"{grace}\"\n")
}

async fn running(client: &Client) -> Execution {
    ready(bash("echo ready; cat"), client).await
}

async fn watch_health(client: &Client) -> Streaming<HealthCheckResponse> {
    let request = HealthCheckRequest {
        service: String::new(),
    };
    let mut health = HealthClient::new(client.channel.clone());
    health.watch(request).await.unwrap().into_inner()
}

async fn next_status(health: &mut Streaming<HealthCheckResponse>) -> ServingStatus {
    let change = soon("a change of health", health.message()).await;
    change.unwrap().expect("a watch does not end").status()
}

#[tokio::test]
async fn sigterm_lets_what_runs_finish_and_takes_nothing_new() {
    let server = Server::with(&with_grace("60s")).start();
    let client = server.client().await;
    let mut execution = running(&client).await;
    let mut health = watch_health(&client).await;
    assert_eq!(next_status(&mut health).await, ServingStatus::Serving);
    server.terminate();
    assert_eq!(next_status(&mut health).await, ServingStatus::NotServing);
    // Who comes now, or comes back, is refused.
    let status = bash("true").refused(&server.client().await).await;
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    assert!(status.message().contains("shutting down"), "{status}");
    execution.send("goes on\n").await;
    execution.until_stdout("goes on\n").await;
    execution.close_stdin().await;
    execution.finish().await.exited(0);
    drop(health);
    drop(client);
    server.end();
}

#[tokio::test]
async fn a_server_that_ends_sends_its_clients_elsewhere() {
    let server = Server::with(&with_grace("60s")).start();
    let client = server.client().await;
    let mut execution = running(&client).await;
    let stream = TcpStream::connect(server.address).await.unwrap();
    let (mut sender, idle) =
        http2::handshake::<_, _, String>(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    let idle = tokio::spawn(idle);
    // Answered once, so that it is not one of those who come later.
    let request = hyper::Request::post("http://sandpool/").body(String::new());
    sender.send_request(request.unwrap()).await.unwrap();
    server.terminate();
    // What runs on another connection goes on; one that nobody uses is closed.
    let closed = soon("the end of the connection", idle).await;
    closed.unwrap().unwrap();
    execution.send("goes on\n").await;
    execution.until_stdout("goes on\n").await;
    execution.close_stdin().await;
    execution.finish().await.exited(0);
}

#[tokio::test]
async fn after_the_grace_time_what_runs_is_cancelled_with_a_reason() {
    let server = Server::with(&with_grace("1s")).start();
    let client = server.client().await;
    let mut execution = bash("echo ready; sleep 1000")
        .timeout(PATIENCE)
        .start(&client)
        .await;
    execution.until_stdout("ready").await;
    server.terminate();
    let done = execution.finish().await;
    let Outcome::Cancelled(cancelled) = done.outcome() else {
        panic!("{}", done.describe())
    };
    assert!(
        cancelled.reason.contains("shutting down"),
        "{}",
        cancelled.reason
    );
    assert!(cancelled.reason.contains("1s"), "{}", cancelled.reason);
    server.end();
}

#[tokio::test]
async fn a_shutdown_without_work_is_quick_even_while_a_client_stays() {
    let server = Server::with(SMALL).start();
    let client = server.client().await;
    bash("true").run(&client).await.exited(0);
    let since = Instant::now();
    server.end();
    assert!(
        since.elapsed() < Duration::from_secs(20),
        "{:?}",
        since.elapsed()
    );
}

#[tokio::test]
async fn a_server_may_open_as_many_files_as_the_machine_lets_it() {
    let server = Server::with(SMALL).start_cold();
    let limits = fs::read_to_string(format!("/proc/{}/limits", server.pid())).unwrap();
    let files = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let words: Vec<_> = files.unwrap().split_whitespace().collect();
    // Soft and hard.
    assert_eq!(words[3], words[4]);
}

#[tokio::test]
async fn a_server_that_is_ended_while_it_starts_leaves_nothing() {
    let server = Server::with(SMALL).start_cold();
    server.end();
}

#[tokio::test]
async fn the_next_server_removes_what_a_killed_one_left_and_only_that() {
    let dir = state_dir();
    let killed = Server::with(SMALL).state_dir(&dir).start();
    let alive = Server::with(SMALL).state_dir(&dir).start();
    let client = alive.client().await;
    let mut survivor = running(&client).await;
    let id = survivor.started().await;

    let doomed_client = killed.client().await;
    let doomed = running(&doomed_client).await;
    killed.kill();
    let (_, status) = doomed.fails().await;
    assert_ne!(status.code(), Code::Ok);
    assert!(!killed.traces().is_empty(), "kill -9 leaves something");

    let next = Server::with(SMALL).state_dir(&dir).start();
    // On this machine a lock tells at once who is dead, on a cluster it takes a Lease's time.
    if on_kubernetes() {
        killed.buried().await;
    }
    let traces = killed.traces();
    assert!(
        traces.is_empty(),
        "left from the killed server: {traces:#?}"
    );
    assert!(alive.sandbox(&id).exists());
    survivor.send("still alive\n").await;
    survivor.until_stdout("still alive\n").await;
    survivor.close_stdin().await;
    survivor.finish().await.exited(0);
    bash("echo next")
        .run(&next.client().await)
        .await
        .printed("next\n");
    drop(next);
    bash("echo still").run(&client).await.printed("still\n");
}

/// A server whose `runsc` never gets done, and the process of the `runsc` that it has started.
async fn starting_for_ever(dir: &Path) -> (Server, i32) {
    let (runsc, marker) = (dir.join("runsc"), dir.join("marker"));
    // Without children: whoever traces it would be told of the SIGCHLD of each.
    let slow = format!("#!/bin/sh\necho $$ >{marker:?}\nexec sleep 1000\n");
    script(&runsc, &slow);
    let server = Server::with(SMALL)
        .env("SANDPOOL_BACKEND__LOCAL__RUNSC", runsc)
        .start_cold();
    let starting = soon("a start", async {
        loop {
            match fs::read_to_string(&marker) {
                Ok(line) if line.ends_with('\n') => break line,
                _ => sleep(Duration::from_millis(10)).await,
            }
        }
    })
    .await;
    let starting = starting.trim();
    // While it becomes another program it has no command line.
    soon("a program without children", async {
        let command = format!("/proc/{starting}/cmdline");
        while !fs::read(&command).unwrap().starts_with(b"sleep") {
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    (server, starting.parse().unwrap())
}

#[tokio::test]
async fn a_runsc_that_starts_a_sandbox_ends_with_its_server() {
    only_local!("it runs no runsc itself");
    let dir = tempfile::tempdir().unwrap();
    // It could make a cgroup after the next server has removed what was left.
    let (server, starting) = starting_for_ever(dir.path()).await;
    // One that has ended and is not waited for yet has no command line.
    let command = format!("/proc/{starting}/cmdline");
    let runs = || fs::read(&command).is_ok_and(|line| !line.is_empty());
    assert!(runs());
    server.kill();
    soon("the end of runsc", async {
        while runs() {
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_server_does_not_end_before_the_runsc_that_it_kills() {
    only_local!("it runs no runsc itself");
    let dir = tempfile::tempdir().unwrap();
    let (server, starting) = starting_for_ever(dir.path()).await;
    // A busy machine takes its time to let a killed process die; a tracer takes as much as it likes.
    let dying = HeldAtItsEnd::seize(starting);
    server.terminate();
    dying.wait();
    let end = thread::scope(|scope| {
        let ended = scope.spawn(|| server.wait());
        // Time only for a server that does not wait to give itself away.
        thread::sleep(Duration::from_millis(300));
        let early = ended.is_finished();
        dying.let_go();
        assert!(!early, "the server ended before its runsc");
        ended.join().unwrap()
    });
    assert!(end.success());
    server.end();
}

#[tokio::test]
async fn health_says_not_serving_until_the_pools_are_warm() {
    let dir = tempfile::tempdir().unwrap();
    let (runsc, go) = (dir.path().join("runsc"), dir.path().join("go"));
    let mut server = Server::with(SMALL);
    // A pod takes longer than a call by itself.
    if !on_kubernetes() {
        let waits = format!(
            "#!/bin/sh\ncase \" $* \" in *\" run \"*) until [ -e {go:?} ]; do sleep 0.05; done;; esac\n\
             exec runsc \"$@\"\n"
        );
        script(&runsc, &waits);
        server = server.env("SANDPOOL_BACKEND__LOCAL__RUNSC", runsc);
    }
    let server = server.start_cold();
    let client = server.client().await;
    let mut health = watch_health(&client).await;
    assert_eq!(next_status(&mut health).await, ServingStatus::NotServing);
    fs::write(&go, "").unwrap();
    assert_eq!(next_status(&mut health).await, ServingStatus::Serving);
    server.wait_ready();
    let execution = running(&client).await;
    server.terminate();
    assert_eq!(next_status(&mut health).await, ServingStatus::NotServing);
    drop(execution);
}

#[tokio::test]
async fn grpcurl_finds_its_way_by_reflection() {
    let server = shared();
    let services = grpcurl(&server, &[], &["list"]);
    for service in [
        "grpc.health.v1.Health",
        "sandpool.v1.ExecutionService",
        "sandpool.v1.PoolService",
        "sandpool.v1.ServerService",
    ] {
        assert!(services.lines().any(|line| line == service), "{services}");
    }
    let description = grpcurl(&server, &[], &["describe", "sandpool.v1.ExecutionService"]);
    assert!(
        description.contains("rpc Run ( .sandpool.v1.RunRequest )"),
        "{description}"
    );
    let health = grpcurl(&server, &[], &["grpc.health.v1.Health/Check"]);
    assert!(health.contains("SERVING"), "{health}");

    let run = r#"{"spec":{"code":{"language":"python","source":"print(6*7)"}},"text":true}"#;
    let answer = grpcurl(&server, &["-d", run], &["sandpool.v1.ExecutionService/Run"]);
    assert!(answer.contains("\"stdoutText\": \"42\\n\""), "{answer}");
    let pools = grpcurl(&server, &[], &["sandpool.v1.PoolService/ListPools"]);
    assert!(pools.contains("\"name\": \"main\""), "{pools}");
    let execute = r#"{"start":{"code":{"language":"bash","source":"cat"},"stdin_open":true}} {"stdin":"aGVsbG8="}"#;
    let answer = grpcurl(
        &server,
        &["-d", execute],
        &["sandpool.v1.ExecutionService/Execute"],
    );
    assert!(answer.contains("\"stdout\": \"aGVsbG8=\""), "{answer}");
    assert!(answer.contains("\"finished\""), "{answer}");
}

/// The older version of reflection, asked by hand: grpcurl prefers the newer one.
#[tokio::test]
async fn reflection_answers_in_its_older_version() {
    use tonic_reflection::pb::v1alpha::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };
    let server = shared();
    let channel = server.client().await.channel;
    let mut client = ServerReflectionClient::new(channel);
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::FileContainingSymbol(
            "sandpool.v1.PoolService".into(),
        )),
    };
    let mut answers = client
        .server_reflection_info(tokio_stream::iter([request]))
        .await
        .unwrap()
        .into_inner();
    let answer = answers.message().await.unwrap().unwrap();
    assert!(matches!(
        answer.message_response,
        Some(MessageResponse::FileDescriptorResponse(_))
    ));
}

#[tokio::test]
async fn the_servers_code_lies_on_huge_pages_where_the_machine_has_them() {
    let allowed = fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled");
    let allowed = allowed.is_ok_and(|modes| !modes.contains("[never]"));
    let server = Server::with(SMALL).start();
    // Its own code, from no file any more, asks for huge pages: whether there is one left is the
    // kernel's affair.
    let maps = fs::read_to_string(format!("/proc/{}/smaps", server.pid())).unwrap();
    let held = maps.split("VmFlags:").zip(maps.split("VmFlags:").skip(1));
    let held = held.filter(|(mapping, flags)| {
        let from_no_file = mapping.contains(" r-xp 00000000 00:00 0");
        let flags = flags.lines().next().unwrap_or_default();
        from_no_file && flags.split_whitespace().any(|flag| flag == "hg")
    });
    assert_eq!(held.count(), usize::from(allowed), "{maps}");
    // It runs in it.
    let client = server.client().await;
    bash("true").run(&client).await.exited(0);
    server.terminate();
    server.end();
}

#[tokio::test]
async fn named_sandboxes_end_with_the_server() {
    let server = Server::with(
        "[pools.main]\nmin_idle = 1\nmax_sandboxes = 4\nlanguages.bash = {}\n[shutdown]\ngrace = \"0s\"\n",
    );
    let server = server.start();
    let client = server.client().await;
    let _empty = client
        .named_with(|request| request.pool = "main".into())
        .await;
    let used = client
        .named_with(|request| request.pool = "main".into())
        .await;
    let running = ready(bash("echo ready; cat").within(&used.id), &client).await;
    server.terminate();
    let done = running.finish().await;
    let Outcome::Cancelled(cancelled) = done.outcome() else {
        panic!("{}", done.describe());
    };
    assert!(
        cancelled.reason.contains("shutting down"),
        "{}",
        cancelled.reason
    );
    server.end();
}
