//! How fast `sandpool cp` brings a file into a pod and out of it, beside `kubectl cp`.

use std::{fs, path::Path, process::Command, time::Instant};

use crate::{
    Cluster, NAMESPACE,
    common::{
        Server,
        named::Named,
        rates::{print_rates, rate},
        setting,
    },
    floor::SleepingPod,
};

pub(crate) async fn measure(cluster: &Cluster) {
    let mebibytes = setting("MEBIBYTES", 256);
    let (bytes, rounds) = (mebibytes << 20, setting("ROUNDS", 3));
    let local = tempfile::tempdir().unwrap();
    fs::write(local.path().join("in"), vec![b'x'; bytes]).unwrap();
    let server = cluster.server(1, 1).await;
    let (mut ours, mut kubectl) = ([vec![], vec![]], [vec![], vec![]]);
    for turn in 0..rounds * 2 {
        // They take turns in going first.
        let (side, rates) = if matches!(turn % 4, 0 | 3) {
            (&mut ours, by_sandpool(&server, local.path()).await)
        } else {
            (&mut kubectl, by_kubectl(cluster, local.path()).await)
        };
        side[0].push(rates[0]);
        side[1].push(rates[1]);
    }
    let [up, down] = ours;
    let [kubectl_up, kubectl_down] = kubectl;
    println!("\na file of {mebibytes} MiB into a pod, MB/s, {rounds} rounds, alternating\n");
    print_rates(&mut [("sandpool cp", up), ("kubectl cp", kubectl_up)]);
    println!("\nout of it\n");
    print_rates(&mut [("sandpool cp", down), ("kubectl cp", kubectl_down)]);
}

/// Into a fresh sandbox and out of it.
async fn by_sandpool(server: &Server, local: &Path) -> [f64; 2] {
    let named = Named::create(server).await;
    let sandpool = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sandpool"));
        command.arg("cp").env("SANDPOOL_ADDRESS", &server.address);
        command
    };
    let rates = there_and_back(sandpool, local, &format!("{}:/workspace/file", named.id));
    named.delete().await;
    server.settled().await;
    rates
}

/// The same with a pod that only sleeps.
async fn by_kubectl(cluster: &Cluster, local: &Path) -> [f64; 2] {
    let pod = SleepingPod::start(&cluster.client, NAMESPACE, &cluster.like).await;
    let kubectl = || {
        let mut command = Command::new("kubectl");
        command.args(["--namespace", NAMESPACE, "cp", "--container", "sandbox"]);
        command
    };
    let rates = there_and_back(kubectl, local, &format!("{}:/workspace/file", pod.name));
    pod.delete().await;
    rates
}

/// Copies a local file to that place and back: MB/s, from the command's start to its end.
fn there_and_back(copy: impl Fn() -> Command, local: &Path, remote: &str) -> [f64; 2] {
    let (source, back) = (local.join("in"), local.join("out"));
    let bytes = fs::metadata(&source).unwrap().len();
    let timed = |mut command: Command| {
        let begun = Instant::now();
        let output = command.output().unwrap();
        let rate = rate(bytes as usize, begun);
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{complaint}");
        rate
    };
    let (mut up, mut down) = (copy(), copy());
    up.arg(&source).arg(remote);
    down.arg(remote).arg(&back);
    let rates = [timed(up), timed(down)];
    assert_eq!(fs::metadata(&back).unwrap().len(), bytes);
    fs::remove_file(back).unwrap();
    rates
}
