//! A cell of a context in a pod, beside an interpreter that is given the same by a plain loop over an open exec.

use std::time::{Duration, Instant};

use sandpool::backend::kubernetes::exec::PodStream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    Cluster, NAMESPACE,
    common::{
        cells::{self, Cells},
        compare,
        named::Named,
    },
    floor::SleepingPod,
};

pub(crate) async fn measure(cluster: &Cluster) {
    let server = cluster.server(1, 2).await;
    let named = Named::create(&server).await;
    server.has_idle(1).await;
    let mut cells = Cells::new(&server, &named).await;
    let pod = SleepingPod::start(&cluster.client, NAMESPACE, &cluster.like).await;
    let command = ["/usr/bin/python3", "-c", cells::LOOP];
    let mut floor = pod.exec(&cluster.client, &command).await;
    for _ in 0..20 {
        cells.run().await;
        by_the_loop(&mut floor).await;
    }
    let name = "a cell until its first output";
    let floor_name = "the same cell by a plain loop over an open exec";
    compare(
        name,
        floor_name,
        async || cells.run().await,
        async || by_the_loop(&mut floor).await,
    )
    .await;
    drop(floor);
    pod.delete().await;
    named.delete().await;
}

async fn by_the_loop(exec: &mut PodStream) -> Duration {
    let cell = cells::to_the_loop();
    let begun = Instant::now();
    exec.write_all(cell.as_bytes()).await.unwrap();
    exec.flush().await.unwrap();
    let mut output = [0; 64];
    assert!(exec.read(&mut output).await.unwrap() > 0);
    begun.elapsed()
}
