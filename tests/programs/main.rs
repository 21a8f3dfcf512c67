//! Programs that were not written for Sandpool say the same through it as under plain python3.
//!
//! Each program of `programs.toml` runs twice, each time in a fresh sandbox with the same root
//! file system: as code, by an interpreter that had waited, and as the command `python3 main.py`,
//! by one that knows nothing of Sandpool. stdout, stderr and exit code have to be the same, byte
//! for byte, but for two things: the directory that the script is in, and the time in unittest's
//! "Ran 3 tests in 0.012s".
//!
//! Not in the list, although they are deterministic: what prints addresses of objects, which no
//! two runs share; and `site.py`, which prints sys.path: a waiting interpreter's script is not in
//! its working directory, so both are on it.
//!
//! Needs root, runsc, the agent (`make agent`) and what scripts/install-test-tools.sh installs. To
//! try one program: `SANDPOOL_PROGRAM=calendar.py cargo test --test programs -- --nocapture`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

#[path = "../common/agent.rs"]
mod agent;
mod server;

use std::{path::Path, process::Command, sync::Arc, time::Instant};

use bytes::Bytes;
use sandpool::proto::v1::{
    self, ExecutionSpec, InputFile, RunRequest, execution_service_client::ExecutionServiceClient,
    execution_spec::Program as Runs, finished::Outcome,
};
use serde::Deserialize;
use tokio::{sync::Semaphore, task::JoinSet};
use tonic::transport::Channel;

use self::server::Server;

/// Programs at a time.
const AT_ONCE: usize = 3;
const INTERPRETER: &str = "/usr/bin/python3";
/// Where the plain interpreter finds the program, and where a waiting one does, before a number.
const PLAIN_DIRECTORY: &[u8] = b"/workspace";
const WARM_DIRECTORIES: &[u8] = b"/run/sandpool/";

#[derive(Deserialize)]
struct List {
    program: Vec<Program>,
}

#[derive(Clone, Deserialize)]
struct Program {
    file: String,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    stdin: String,
}

impl Program {
    fn name(&self) -> String {
        [std::slice::from_ref(&self.file), &self.args[..]]
            .concat()
            .join(" ")
    }
}

/// How a run ended, in a form that can be compared and shown.
#[derive(PartialEq, Eq)]
struct Said {
    outcome: String,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn programs_say_the_same_as_under_plain_python() {
    let lib = library();
    let list = include_str!("programs.toml");
    let mut list: List = toml::from_str(list).unwrap();
    if let Ok(only) = std::env::var("SANDPOOL_PROGRAM") {
        list.program
            .retain(|program| program.name().contains(&only));
    }
    let server = Server::start().await;
    let free = Arc::new(Semaphore::new(AT_ONCE));
    let mut running = JoinSet::new();
    let number = list.program.len();
    for mut program in list.program {
        for arg in &mut program.args {
            *arg = arg.replace("{lib}", &lib);
        }
        let path = Path::new(&lib).join(&program.file);
        let source = std::fs::read_to_string(&path).unwrap_or_else(|error| {
            panic!(
                "{}: {error}; scripts/install-test-tools.sh installs it",
                path.display()
            )
        });
        let (client, free) = (server.client.clone(), free.clone());
        running.spawn(async move {
            let _permit = free.acquire_owned().await;
            (program.name(), difference(client, program, source).await)
        });
    }
    let mut differences = Vec::new();
    while let Some(done) = running.join_next().await {
        let (name, difference) = done.unwrap();
        if let Some(difference) = difference {
            println!("{name}: {difference}");
            differences.push(format!("{name}: {difference}"));
        }
    }
    server.stop().await;
    println!("{number} programs, {} same", number - differences.len());
    assert!(differences.is_empty(), "\n{}", differences.join("\n"));
}

/// The standard library's directory.
fn library() -> String {
    let program = "import os; print(os.path.dirname(os.__file__), end='')";
    let output = Command::new(INTERPRETER)
        .args(["-I", "-c", program])
        .output();
    String::from_utf8(output.expect("python3 is not installed").stdout).unwrap()
}

/// Runs a program both ways; `None`: they are the same.
async fn difference(
    client: ExecutionServiceClient<Channel>,
    program: Program,
    source: String,
) -> Option<String> {
    let since = Instant::now();
    let args = [INTERPRETER.to_owned(), "/workspace/main.py".to_owned()];
    let plain = ExecutionSpec {
        program: Some(Runs::Command(v1::Command {
            args: [&args[..], &program.args[..]].concat(),
        })),
        files: vec![InputFile {
            path: "main.py".into(),
            content: source.clone().into(),
            mode: 0o644,
        }],
        ..ExecutionSpec::default()
    };
    let warm = ExecutionSpec {
        program: Some(Runs::Code(v1::Code {
            language: "python".into(),
            source,
            args: program.args.clone(),
        })),
        ..ExecutionSpec::default()
    };
    let stdin = Bytes::from(program.stdin.clone());
    let (plain, warm) = tokio::join!(
        run(client.clone(), plain, stdin.clone()),
        run(client, warm, stdin)
    );
    let seconds = since.elapsed().as_secs_f32();
    println!("{seconds:6.2}s {:20} {}", plain.outcome, program.name());
    if !plain.outcome.starts_with("Exited") {
        return Some(format!("the plain run was ended: {}", plain.outcome));
    }
    [
        (plain.outcome.as_bytes(), warm.outcome.as_bytes(), "outcome"),
        (&plain.stdout, &warm.stdout, "stdout"),
        (&plain.stderr, &warm.stderr, "stderr"),
    ]
    .into_iter()
    .find_map(|(plain, warm, what)| first_difference(plain, warm, what))
}

/// The first line that differs, both ways.
fn first_difference(plain: &[u8], warm: &[u8], what: &str) -> Option<String> {
    if plain == warm {
        return None;
    }
    let mut plain = plain.split(|&byte| byte == b'\n');
    let mut warm = warm.split(|&byte| byte == b'\n');
    let mut number = 0;
    loop {
        number += 1;
        let lines = (plain.next(), warm.next());
        if lines.0 != lines.1 {
            let show =
                |line: Option<&[u8]>| line.map(|line| String::from_utf8_lossy(line).into_owned());
            return Some(format!(
                "{what}, line {number}:\n  plain: {:?}\n  warm:  {:?}",
                show(lines.0),
                show(lines.1)
            ));
        }
    }
}

async fn run(
    mut client: ExecutionServiceClient<Channel>,
    spec: ExecutionSpec,
    stdin: Bytes,
) -> Said {
    let code = matches!(spec.program, Some(Runs::Code(_)));
    let request = RunRequest {
        spec: Some(spec),
        stdin: stdin.to_vec().into(),
        text: false,
    };
    let response = client.run(request).await.unwrap().into_inner();
    assert!(
        response.cut.is_none(),
        "it says more than fits into one answer"
    );
    let finished = response.finished.unwrap();
    let warm = finished.timings.is_some_and(|timings| timings.warm);
    assert_eq!(warm, code, "no waiting interpreter took it");
    let outcome = match finished.outcome.unwrap() {
        Outcome::Exited(exited) => format!("Exited {}", exited.code),
        other => format!("{other:?}"),
    };
    Said {
        outcome,
        stdout: normal(&response.stdout),
        stderr: normal(&response.stderr),
    }
}

/// Takes out the two things that may differ.
fn normal(text: &[u8]) -> Vec<u8> {
    let mut normal = Vec::with_capacity(text.len());
    for line in text.split_inclusive(|&byte| byte == b'\n') {
        if line.starts_with(b"Ran ") && line.ends_with(b"s\n") {
            let time = line.iter().rposition(|&byte| byte == b' ').unwrap_or(0);
            normal.extend_from_slice(&line[..time]);
            normal.extend_from_slice(b" ?s\n");
        } else {
            normal.extend_from_slice(&without_path(line));
        }
    }
    normal
}

/// Puts the plain script's directory where that of a waiting interpreter's stands.
fn without_path(line: &[u8]) -> Vec<u8> {
    let mut normal = Vec::with_capacity(line.len());
    let mut rest = line;
    while let Some(&byte) = rest.first() {
        let digits = rest.strip_prefix(WARM_DIRECTORIES).map_or(0, |after| {
            after
                .iter()
                .take_while(|byte| byte.is_ascii_digit())
                .count()
        });
        if digits > 0 {
            normal.extend_from_slice(PLAIN_DIRECTORY);
            rest = &rest[WARM_DIRECTORIES.len() + digits..];
        } else {
            normal.push(byte);
            rest = &rest[1..];
        }
    }
    normal
}
