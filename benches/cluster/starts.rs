//! What starting and deleting pods costs through Sandpool, beside the same pods made and deleted by
//! themselves.

use std::time::{Duration, Instant};

use crate::{
    Cluster, NAMESPACE, PROGRAM,
    common::{Server, ms, quantile, sample::execute, setting},
    floor::SleepingPod,
};

/// How many pods there are at once at full load.
const LOAD: usize = 4;

/// Its multiples' fractions are spread evenly, however many they are.
const GOLDEN: f64 = 0.618_033_988_749_895;

pub(crate) async fn measure(cluster: &Cluster) {
    let starts = setting("STARTS", 20);
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    let server = cluster.server(0, 1).await;
    for sample in 0..starts {
        // The kubelet looks at its containers once a second, and the end of the one side's pod is when
        // it just has: each side meets it at every moment between.
        let between = Duration::from_secs_f64((sample as f64 * GOLDEN).fract());
        tokio::time::sleep(between).await;
        let sample = execute(&mut server.client(), PROGRAM).await;
        ours.push(sample.first_output);
        server.settled().await;
        tokio::time::sleep(between).await;
        let begun = Instant::now();
        let pod = SleepingPod::start(&cluster.client, NAMESPACE, &cluster.like).await;
        bare.push(begun.elapsed());
        pod.delete().await;
    }
    drop(server);
    println!("\na program that no pod waits for, n = {starts} a side, alternating\n");
    println!("| | p50 ms | p99 ms |\n|---|---|---|");
    let mut medians = Vec::new();
    for (name, samples) in [
        (
            "a pod alone, from its creation until it is ready",
            &mut bare,
        ),
        ("Sandpool, nothing idle: request to first output", &mut ours),
    ] {
        let [median, high] = [0.5, 0.99].map(|q| quantile(samples, q));
        println!("| {name} | {} | {} |", ms(median), ms(high));
        medians.push(median.as_secs_f64());
    }
    println!("\nratio of the medians: {:.2}", medians[1] / medians[0]);

    let server = cluster.server(LOAD, LOAD).await;
    let (mut ours, mut bare) = (Duration::ZERO, Duration::ZERO);
    // In rounds, so that both sides see the same hour of a noisy machine.
    let rounds = starts.div_ceil(LOAD * 2);
    for _ in 0..rounds {
        ours += recycled(&server).await;
        bare += made_and_deleted(cluster).await;
    }
    let pods = (rounds * LOAD * 2) as f64;
    let [ours, bare] = [ours, bare].map(|time| pods / time.as_secs_f64());
    println!("\npods a second at full load, {LOAD} at once, {pods} a side\n");
    println!("| | pods/s |\n|---|---|");
    println!("| made, ready, deleted and gone, by themselves | {bare:.2} |");
    println!("| Sandpool: leased, used, deleted, replaced and warm | {ours:.2} |");
    println!("\nratio: {:.2}", ours / bare);
}

/// Uses twice as many sandboxes as there can be; how long until the pool is full again.
async fn recycled(server: &Server) -> Duration {
    let begun = Instant::now();
    let callers = (0..LOAD).map(|_| async {
        for _ in 0..2 {
            execute(&mut server.client(), PROGRAM).await;
        }
    });
    futures_util::future::join_all(callers).await;
    server.settled().await;
    begun.elapsed()
}

/// The same number of pods, as many at once.
async fn made_and_deleted(cluster: &Cluster) -> Duration {
    let begun = Instant::now();
    let makers = (0..LOAD).map(|_| async {
        for _ in 0..2 {
            let pod = SleepingPod::start(&cluster.client, NAMESPACE, &cluster.like).await;
            pod.delete().await;
        }
    });
    futures_util::future::join_all(makers).await;
    begun.elapsed()
}
