//! How long a program takes in a waiting pod, beside the floor (see `floor.rs`) and its peers, and how
//! often pods are written for it.

use std::{
    env,
    process::Command,
    time::{Duration, Instant},
};

use kube::Client;
use sandpool::proto::v1::{ExecuteRequest, execute_request, execute_response::Event};
use tokio::{io::AsyncReadExt, sync::mpsc};
use tokio_stream::wrappers::ReceiverStream;

use crate::{
    Cluster, NAMESPACE, PROGRAM,
    common::{
        Executions, ms, python, quantile,
        sample::{execute, print_stages},
        setting,
    },
    floor::{PodFloor, SleepingPod, pod_writes},
};

/// How often pods were written from a request until its first output.
async fn writes_until_first_output(server: &mut Executions, cluster: &Client) -> f64 {
    let before = pod_writes(cluster).await;
    // It does not end while the API server is asked.
    let mut spec = python("print(1, flush=True)\ninput()\n");
    spec.stdin_open = true;
    let (requests, input) = mpsc::channel(1);
    let start = execute_request::Event::Start(spec);
    requests
        .send(ExecuteRequest { event: Some(start) })
        .await
        .unwrap();
    let answers = server.execute(ReceiverStream::new(input)).await;
    let mut answers = answers.unwrap().into_inner();
    while let Some(answer) = answers.message().await.unwrap() {
        if let Some(Event::Stdout(_)) = answer.event {
            break;
        }
    }
    let writes = pod_writes(cluster).await - before;
    drop(requests);
    while answers.message().await.unwrap().is_some() {}
    writes
}

/// One exec of `python3 -c` in a pod that waits.
async fn exec_once(pod: &SleepingPod, client: &Client) -> Duration {
    let began = Instant::now();
    let command = ["/usr/bin/python3", "-c", PROGRAM];
    let mut exec = pod.exec(client, &command).await;
    exec.read_u8().await.unwrap();
    began.elapsed()
}

/// The same by kubectl, to its end.
fn kubectl_exec(pod: &SleepingPod) -> Duration {
    let began = Instant::now();
    let output = Command::new("kubectl")
        .args(["--namespace", NAMESPACE, "exec", &pod.name, "--"])
        .args(["/usr/bin/python3", "-c", PROGRAM])
        .output()
        .unwrap();
    assert_eq!(output.stdout, b"1\n");
    began.elapsed()
}

fn adk(image: &str, samples: usize) -> Option<Vec<Duration>> {
    let python = env::var_os("ADK_PYTHON")?;
    let output = Command::new(python)
        .arg(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/benches/cluster/adk.py"
        ))
        .args([NAMESPACE, image, PROGRAM, &samples.to_string()])
        .output()
        .unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let times = printed
        .lines()
        .map(|line| line.parse::<f64>().unwrap() / 1e3);
    let times: Vec<_> = times.map(Duration::from_secs_f64).collect();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert_eq!(times.len(), samples, "{complaint}");
    Some(times)
}

fn row(name: &str, mut samples: Vec<Duration>, floor: [Duration; 2]) {
    let n = samples.len();
    let ours = [0.5, 0.99].map(|q| quantile(&mut samples, q));
    let ratio = |i: usize| ours[i].as_secs_f64() / floor[i].as_secs_f64();
    println!(
        "| {name} | {n} | {} | {} | {:.2} | {:.2} |",
        ms(ours[0]),
        ms(ours[1]),
        ratio(0),
        ratio(1)
    );
}

pub(crate) async fn measure(cluster: &Cluster) {
    let samples = setting("SAMPLES", 100);
    let peer_samples = setting("PEER_SAMPLES", 10);
    let idle = Duration::from_millis(setting("IDLE_MS", 300) as u64);
    let server = cluster.server(1, 2).await;
    let mut executions = server.client();
    let client = &cluster.client;
    let (mut ours, mut floor) = (Vec::new(), Vec::new());
    for sample in 0..samples {
        let waiting = PodFloor::start(client, NAMESPACE, &cluster.like, PROGRAM).await;
        tokio::time::sleep(idle).await;
        // They take turns in going first: the second one has been idle for longer.
        if sample % 2 == 0 {
            ours.push(execute(&mut executions, PROGRAM).await);
            server.settled().await;
            tokio::time::sleep(idle).await;
            floor.push(waiting.run().await);
        } else {
            floor.push(waiting.run().await);
            tokio::time::sleep(idle).await;
            ours.push(execute(&mut executions, PROGRAM).await);
            server.settled().await;
        }
    }
    let mut writes = 0.0;
    let before = pod_writes(client).await;
    for _ in 0..peer_samples {
        writes += writes_until_first_output(&mut executions, client).await;
        server.settled().await;
    }
    let all_writes = pod_writes(client).await - before;

    let pod = SleepingPod::start(client, NAMESPACE, &cluster.like).await;
    let mut execs = Vec::new();
    for _ in 0..peer_samples {
        execs.push(exec_once(&pod, client).await);
    }
    let kubectl = (0..peer_samples).map(|_| kubectl_exec(&pod)).collect();
    pod.delete().await;
    let adk = adk(&cluster.sandbox_image, peer_samples);

    println!("\nprint(1) on a cluster: request to first output\n");
    println!("| | n | p50 ms | p99 ms | over the floor: p50 | p99 |");
    println!("|---|---|---|---|---|---|");
    let floors = [0.5, 0.99].map(|q| quantile(&mut floor, q));
    row(
        "floor: a waiting interpreter over an open exec",
        floor,
        floors,
    );
    let first_outputs = ours.iter().map(|sample| sample.first_output).collect();
    row("Sandpool, warm", first_outputs, floors);
    row(
        "one exec of python3 -c per call (this client)",
        execs,
        floors,
    );
    row("kubectl exec python3 -c (to its end)", kubectl, floors);
    match adk {
        Some(times) => row("GkeCodeExecutor of google-adk (to its end)", times, floors),
        None => println!("GkeCodeExecutor: not measured, ADK_PYTHON is not set"),
    }
    print_stages(&ours);
    println!("\nwrites of pods, as the API server counts them, for each execution:");
    println!(
        "  between request and first output: {:.2}",
        writes / peer_samples as f64
    );
    println!(
        "  in all, recycling included: {:.1}",
        all_writes / peer_samples as f64
    );
}
