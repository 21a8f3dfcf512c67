//! How fast a loud program is read, beside `kubectl exec`, and what others see meanwhile.

use std::process::Command;

use crate::{
    Cluster, NAMESPACE, PROGRAM,
    common::{
        Server,
        loud::{loud, loud_beside_stderr, print_rates, through_a_pipe, through_sandpool},
        ms, quantile,
        sample::execute,
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
        kubectl.push(through_a_pipe(exec, megabytes));
        pod.delete().await;
        let source = loud(megabytes);
        let (rate, _) = through_sandpool(&mut server.client(), &source, megabytes).await;
        ours.push(rate);
        server.settled().await;
    }
    println!("\nstdout of {megabytes} MB, MB/s, {rounds} rounds, alternating\n");
    print_rates(&mut [("Sandpool", ours), ("kubectl exec to a pipe", kubectl)]);

    let source = loud_beside_stderr(megabytes);
    let (rate, mut delays) = through_sandpool(&mut server.client(), &source, megabytes).await;
    println!(
        "\nstderr of the same program meanwhile ({rate:.0} MB/s on stdout), from write to client, \
         n = {}: p50 {} ms, p99 {} ms",
        delays.len(),
        ms(quantile(&mut delays, 0.5)),
        ms(quantile(&mut delays, 0.99))
    );
    drop(server);
    beside(&cluster.server(2, 3).await, megabytes).await;
}

/// Another program while one is loud.
async fn beside(server: &Server, megabytes: usize) {
    let source = loud(megabytes);
    let mut client = server.client();
    let mut loud = std::pin::pin!(through_sandpool(&mut client, &source, megabytes));
    let mut other = server.client();
    let mut first_outputs = Vec::new();
    loop {
        tokio::select! {
            _ = &mut loud => break,
            sample = execute(&mut other, PROGRAM) => first_outputs.push(sample.first_output),
        }
    }
    println!(
        "\nprint(1) in another pod meanwhile, request to first output, waiting for a pod included, \
         n = {}: p50 {} ms",
        first_outputs.len(),
        ms(quantile(&mut first_outputs, 0.5)),
    );
}
