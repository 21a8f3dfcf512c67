//! How fast a loud program is read, beside `kubectl exec`, and what others see meanwhile.

use std::process::Command;

use crate::{
    Cluster, NAMESPACE,
    common::{
        loud::{loud, loud_beside_stderr, print_delays, through_sandpool, ticks_during},
        rates::{print_rates, read_from},
        setting,
    },
    floor::SleepingPod,
};

pub(crate) async fn measure(cluster: &Cluster) {
    let megabytes = setting("MEGABYTES", 1000);
    let rounds = setting("ROUNDS", 3);
    let server = cluster.server(1, 1).await;
    let (mut ours, mut kubectl) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let pod = SleepingPod::start(&cluster.client, NAMESPACE, &cluster.like).await;
        let mut exec = Command::new("kubectl");
        exec.args(["--namespace", NAMESPACE, "exec", &pod.name, "--"])
            .args(["/usr/bin/python3", "-c", &loud(megabytes)]);
        kubectl.push(read_from(exec, megabytes * 1_000_000));
        pod.delete().await;
        let source = loud(megabytes);
        let (rate, _) = through_sandpool(&mut server.client(), &source, megabytes).await;
        ours.push(rate);
        server.settled().await;
    }
    println!("\nstdout of {megabytes} MB, MB/s, {rounds} rounds, alternating\n");
    print_rates(&mut [("Sandpool", ours), ("kubectl exec to a pipe", kubectl)]);

    let source = loud_beside_stderr(megabytes);
    let (rate, delays) = through_sandpool(&mut server.client(), &source, megabytes).await;
    print_delays(
        &format!("the same program ({rate:.0} MB/s on stdout)"),
        delays,
    );
    drop(server);

    let server = cluster.server(2, 2).await;
    let (source, mut client) = (loud(megabytes), server.client());
    let loud = through_sandpool(&mut client, &source, megabytes);
    let delays = ticks_during(&mut server.client(), loud).await;
    print_delays("a program in another pod", delays);
}
