//! A component of the cluster's stops while programs run, and comes back.

use std::time::Duration;

use crate::{POOLS, cluster, harness::*};

/// Bytes each way. They take longer than it takes to stop a component.
const BYTES: usize = 8 << 20;
/// Bytes of one piece, and the pause after it.
const PIECE: usize = 64 << 10;
const PAUSE: Duration = Duration::from_millis(40);

/// Prints what cannot be mistaken for something else, and at the end the hash of its input.
const SOURCE: &str = "
import hashlib, sys, threading, time
total, piece, pause = map(int, sys.argv[1:4])
def say():
    number = 0
    for _ in range(total // piece):
        lines = bytearray()
        while len(lines) < piece:
            lines += b'%015d\\n' % number
            number += 1
        sys.stdout.buffer.write(lines[:piece])
        sys.stdout.buffer.flush()
        time.sleep(pause / 1000)
thread = threading.Thread(target=say)
thread.start()
digest = hashlib.sha256()
while data := sys.stdin.buffer.read1(65536):
    digest.update(data)
thread.join()
print(digest.hexdigest(), file=sys.stderr, end='')
";

fn expected_output() -> Vec<u8> {
    (0..BYTES / 16)
        .flat_map(|number| format!("{number:015}\n").into_bytes())
        .collect()
}

/// The hash by coreutils: no crate for that.
fn sha256(bytes: &[u8]) -> String {
    use std::io::Write;
    let mut child = std::process::Command::new("sha256sum")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(bytes).unwrap();
    let output = child.wait_with_output().unwrap().stdout;
    String::from_utf8(output).unwrap()[..64].to_owned()
}

/// Runs two programs that stream both ways; in their midst the component is killed, and started again
/// once each connection was cut. Nothing may be missing, and the server must go on as before.
async fn killed_it_costs_no_byte(component: &str) {
    let server = Server::with(POOLS).start();
    let client = server.client().await;
    let numbers = [BYTES, PIECE, PAUSE.as_millis() as usize].map(|number| number.to_string());
    let spec = python(SOURCE)
        .args(&numbers.each_ref().map(String::as_str))
        .stdin_open();
    let input: Vec<u8> = (0..BYTES).map(|number| (number % 251) as u8).collect();

    let mut running = Vec::new();
    for _ in 0..2 {
        let mut execution = spec.clone().start(&client).await;
        let id = execution.started().await;
        let input = input.clone();
        running.push((
            id,
            tokio::spawn(async move {
                for piece in input.chunks(PIECE) {
                    execution.send(piece.to_vec()).await;
                    tokio::time::sleep(PAUSE).await;
                }
                execution.close_stdin().await;
                execution.finish().await
            }),
        ));
    }
    cluster::component("kill", component);
    for (id, _) in &running {
        server
            .logged("the cut", |line| {
                line.contains("connection was cut") && line.contains(id)
            })
            .await;
    }
    cluster::component("start", component);
    let (output, hash) = (expected_output(), sha256(&input));
    for (_, done) in running {
        let done = soon("the end", done).await.unwrap().exited(0);
        assert!(done.stdout == output, "{} bytes came", done.stdout.len());
        assert_eq!(done.err(), hash);
    }
    client.wait_full("main").await;
    // More than are idle, and one after another: each must be reached.
    for _ in 0..3 {
        bash("echo next").run(&client).await.printed("next\n");
    }
}

#[tokio::test]
async fn an_api_server_that_is_killed_and_comes_back_costs_no_byte() {
    killed_it_costs_no_byte("kube-apiserver").await;
}

#[tokio::test]
async fn a_kubelet_that_is_killed_and_comes_back_costs_no_byte() {
    killed_it_costs_no_byte("kubelet").await;
}

#[tokio::test]
async fn a_containerd_that_is_killed_and_comes_back_costs_no_byte() {
    killed_it_costs_no_byte("containerd").await;
}

/// While nothing runs: idle sandboxes are reached again.
#[tokio::test]
async fn an_api_server_that_restarts_leaves_the_pool_full() {
    let server = Server::with(POOLS).start();
    let client = server.client().await;
    let idle = server.sandboxes("main");
    cluster::component("kill", "kube-apiserver");
    cluster::component("start", "kube-apiserver");
    let done = bash("echo next").run(&client).await.printed("next\n");
    assert!(idle.contains(&done.sandbox().to_owned()), "it was not lost");
    client.wait_full("main").await;
}
