//! How long a program takes in a waiting pod, beside the floor (see `floor.rs`) and its peers, and how
//! often anything is written for it.

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
    floor::{PodFloor, SleepingPod, writes},
};

/// How often anything was written from a request until its first output.
async fn writes_until_first_output(server: &mut Executions, cluster: &Client) -> f64 {
    let before = writes(cluster).await;
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
    let written = writes(cluster).await - before;
    drop(requests);
    while answers.message().await.unwrap().is_some() {}
    written
}

/// One exec of `python3 -c` in a pod that waits.
async fn exec_once(pod: &SleepingPod, client: &Client) -> Duration {
    let began = Instant::now();
    let command = ["/usr/bin/python3", "-c", PROGRAM];
    let mut exec = pod.exec(client, &command).await;
    exec.read_u8().await.unwrap();
    began.elapsed()
}

/// The same by kube's own exec.
async fn kubes_exec_once(pod: &SleepingPod) -> Duration {
    let began = Instant::now();
    pod.kubes_exec(&["/usr/bin/python3", "-c", PROGRAM]).await;
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

/// `floor` and `ours`: two quantiles of the floor's and of Sandpool's, which all are divided by.
fn row(name: &str, mut samples: Vec<Duration>, floor: [Duration; 2], ours: [Duration; 2]) {
    let n = samples.len();
    let its = [0.5, 0.99].map(|q| quantile(&mut samples, q));
    let over = |other: [Duration; 2], i: usize| its[i].as_secs_f64() / other[i].as_secs_f64();
    println!(
        "| {name} | {n} | {} | {} | {:.2} | {:.2} | {:.2} | {:.2} |",
        ms(its[0]),
        ms(its[1]),
        over(floor, 0),
        over(floor, 1),
        over(ours, 0),
        over(ours, 1)
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
    let mut early_writes = 0.0;
    let before = writes(client).await;
    for _ in 0..peer_samples {
        early_writes += writes_until_first_output(&mut executions, client).await;
        server.settled().await;
    }
    let all_writes = writes(client).await - before;

    let pod = SleepingPod::start(client, NAMESPACE, &cluster.like).await;
    let mut execs = Vec::new();
    let mut kubes_execs = Vec::new();
    let mut kubectl = Vec::new();
    for _ in 0..samples {
        execs.push(exec_once(&pod, client).await);
        kubes_execs.push(kubes_exec_once(&pod).await);
        kubectl.push(kubectl_exec(&pod));
    }
    pod.delete().await;
    let adk = adk(&cluster.sandbox_image, peer_samples);

    println!("\nprint(1) on a cluster: request to first output\n");
    println!("| | n | p50 ms | p99 ms | over the floor: p50 | p99 | over Sandpool: p50 | p99 |");
    println!("|---|---|---|---|---|---|---|---|");
    let mut first_outputs: Vec<_> = ours.iter().map(|sample| sample.first_output).collect();
    let quantiles = |samples: &mut Vec<_>| [0.5, 0.99].map(|q| quantile(samples, q));
    let (floors, sandpools) = (quantiles(&mut floor), quantiles(&mut first_outputs));
    let row = |name, samples| row(name, samples, floors, sandpools);
    row("floor: a waiting interpreter over an open exec", floor);
    row("Sandpool, warm", first_outputs);
    row("one exec of python3 -c per call (this client)", execs);
    row("one exec of python3 -c per call (kube's own)", kubes_execs);
    row("kubectl exec python3 -c (to its end)", kubectl);
    match adk {
        Some(times) => row("GkeCodeExecutor of google-adk (to its end)", times),
        None => println!("GkeCodeExecutor: not measured, ADK_PYTHON is not set"),
    }
    print_stages(&ours);
    println!(
        "\nwrites, as the API server counts them, Leases, reviews and execs left out, for each execution:"
    );
    println!(
        "  between request and first output: {:.2}",
        early_writes / peer_samples as f64
    );
    println!(
        "  in all, recycling included: {:.1}",
        all_writes / peer_samples as f64
    );
}
