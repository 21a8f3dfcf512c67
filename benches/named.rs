//! Sandboxes that live on: how long it takes to create one, and to attach to an execution in one, beside a call of
//! the same server's that does nothing; a cell of a context, beside an interpreter that is given the same by a plain
//! loop over `runsc exec`; and how fast files go, beside `runsc exec` of `cat`.
//!
//! ONLY=create, ONLY=attach, ONLY=cell or ONLY=files runs one of them. SAMPLES and IDLE_MS shorten the first three,
//! MEBIBYTES and ROUNDS the last.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout
)]

mod common;

use std::{
    env,
    io::{Read, Write},
    path::Path,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use common::{
    Executions, Nothing, Server,
    cells::{self, Cells, until_output},
    compare,
    floor::Sleeper,
    named::Named,
    python,
    rates::{print_rates, read_from, write_to},
    setting,
};
use sandpool::proto::v1::{AttachRequest, ExecuteRequest, Limits, execute_request};

/// One sandbox that waits, and room for one that is taken.
const POOL: &str = "[pools.default]\nmin_idle = 1\nmax_sandboxes = 2\nlanguages.python = {}\nlanguages.bash = {}\n";
/// No more sandboxes than one, so that its successor does not start meanwhile.
const ROOMY_POOL: &str = "[pools.default]\nmin_idle = 1\nmax_sandboxes = 1\ncpus = 2.0\n\
    volumes.workspace = \"1GiB\"\nlanguages.python = {}\n";

/// Measures something again and again beside a call that does nothing.
async fn beside_nothing(server: &Server, name: &str, ours: impl AsyncFnMut() -> Duration) {
    let mut nothing = Nothing::of(server);
    compare(name, "a call that does nothing", ours, async || {
        nothing.call().await
    })
    .await;
}

async fn create() {
    let server = Server::start(POOL).await;
    let create = async || {
        let begun = Instant::now();
        let named = Named::create(&server).await;
        let took = begun.elapsed();
        named.delete().await;
        server.settled().await;
        took
    };
    beside_nothing(&server, "CreateSandbox of a warm one", create).await;
}

async fn attach() {
    let server = Server::start(POOL).await;
    let named = Named::create(&server).await;
    let mut executions = server.client();
    let execution_id = detach(&mut executions, &named).await;
    let mut attach = executions.clone();
    let first_kept_byte = async || {
        let request = AttachRequest {
            execution_id: execution_id.clone(),
            ..AttachRequest::default()
        };
        let begun = Instant::now();
        let mut answers = attach.attach(request).await.unwrap().into_inner();
        until_output(&mut answers).await;
        begun.elapsed()
    };
    beside_nothing(&server, "Attach until its first kept byte", first_kept_byte).await;
    named.delete().await;
}

/// Leaves a program running that has written something; its id.
async fn detach(executions: &mut Executions, named: &Named) -> String {
    let mut spec = python("print('kept', flush=True)\ninput()\n");
    spec.sandbox_id = named.id.clone();
    spec.stdin_open = true;
    spec.limits = Some(Limits {
        timeout: Some(prost_types::Duration {
            seconds: 3600,
            nanos: 0,
        }),
        ..Limits::default()
    });
    let request = ExecuteRequest {
        event: Some(execute_request::Event::Start(spec)),
    };
    let answers = executions.execute(tokio_stream::once(request)).await;
    until_output(&mut answers.unwrap().into_inner()).await
}

/// An interpreter that runs cells, without agent and gRPC.
struct Loop {
    exec: Child,
    _sandbox: Sleeper,
}

impl Loop {
    fn start(like: &Path) -> Self {
        let sandbox = Sleeper::start(like);
        let mut command = sandbox.exec(&["/usr/bin/python3", "-c", cells::LOOP]);
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        Self {
            exec: command.spawn().unwrap(),
            _sandbox: sandbox,
        }
    }

    /// Gives it a cell that prints something: until that is there.
    fn run(&mut self) -> Duration {
        let (stdin, stdout) = (self.exec.stdin.as_mut(), self.exec.stdout.as_mut());
        let cell = cells::to_the_loop();
        let begun = Instant::now();
        stdin.unwrap().write_all(cell.as_bytes()).unwrap();
        let mut output = [0; 64];
        assert!(stdout.unwrap().read(&mut output).unwrap() > 0);
        begun.elapsed()
    }
}

async fn cell() {
    let server = Server::start(POOL).await;
    let named = Named::create(&server).await;
    server.has_idle(1).await;
    let like = server.sandboxes().pop().unwrap();
    let mut floor = Loop::start(&like);
    let mut cells = Cells::new(&server, &named).await;
    for _ in 0..20 {
        cells.run().await;
        floor.run();
    }
    let name = "a cell until its first output";
    let floor_name = "the same cell by a plain loop over `runsc exec`";
    compare(
        name,
        floor_name,
        async || cells.run().await,
        async || floor.run(),
    )
    .await;
    named.delete().await;
}

async fn files() {
    let mebibytes = setting("MEBIBYTES", 256);
    let (bytes, rounds) = (mebibytes << 20, setting("ROUNDS", 9));
    let server = Server::start(ROOMY_POOL).await;
    let copy = tempfile::tempdir().unwrap();
    let like = server.sandboxes().pop().unwrap();
    std::fs::copy(like.join("config.json"), copy.path().join("config.json")).unwrap();
    let (mut ours, mut floor) = ([vec![], vec![]], [vec![], vec![]]);
    for round in 0..rounds * 2 {
        // They take turns in going first.
        let (side, rates) = if matches!(round % 4, 0 | 3) {
            (&mut ours, through_sandpool(&server, bytes).await)
        } else {
            (&mut floor, through_pipes(copy.path(), bytes))
        };
        side[0].push(rates[0]);
        side[1].push(rates[1]);
    }
    println!("\na file of {mebibytes} MiB, MB/s, {rounds} rounds, alternating\n");
    let ([written, read], [cat_in, cat_out]) = (ours, floor);
    print_rates(&mut [
        ("WriteFile", written),
        ("runsc exec of `cat > file`, from a pipe", cat_in),
    ]);
    println!();
    print_rates(&mut [
        ("ReadFile", read),
        ("runsc exec of `cat file`, to a pipe", cat_out),
    ]);
}

/// Writes a file into a fresh sandbox, and reads it: MB/s of both.
async fn through_sandpool(server: &Server, bytes: usize) -> [f64; 2] {
    let mut named = Named::create(server).await;
    let rates = [
        named.write("file", bytes).await,
        named.read("file", bytes).await,
    ];
    named.delete().await;
    server.settled().await;
    rates
}

/// The same through the pipes of `runsc exec`.
fn through_pipes(like: &Path, bytes: usize) -> [f64; 2] {
    let sandbox = Sleeper::start(like);
    let write = sandbox.exec(&["/bin/sh", "-c", "echo && cat >file && echo"]);
    let written = write_to(write, bytes);
    [
        written,
        read_from(sandbox.exec(&["/bin/cat", "file"]), bytes),
    ]
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    common::hold_client();
    let only = env::var("ONLY").unwrap_or_default();
    if "create".contains(&only) {
        create().await;
    }
    if "attach".contains(&only) {
        attach().await;
    }
    if "cell".contains(&only) {
        cell().await;
    }
    if "files".contains(&only) {
        files().await;
    }
}
