//! What a server needs for thousands of idle pods, by an API server that follows a script.
//! `make bench-many-pods` runs it.
//!
//! PODS (5000) sets how many, IDLE_SECONDS (30) how long the processor is watched.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout
)]

mod agent;
mod api_server;
#[path = "../common/mod.rs"]
mod common;

use std::{
    path::Path,
    time::{Duration, Instant},
};

use api_server::ApiServer;
use common::{Server, process, setting};
use tokio::time::sleep;

/// How many there are when a server is measured at first.
const FEW: u32 = 50;
/// How often the script is asked how far the server is.
const LOOK: Duration = Duration::from_millis(5);

async fn server(kubeconfig: &Path, connected: u32) -> Server {
    Server::with(&format!(
        "[backend]\nkind = \"kubernetes\"\n\
         [backend.kubernetes]\nkubeconfig = {kubeconfig:?}\nnamespace = \"script\"\nagent_image = \"agent\"\n\
         require_network_policy = false\n\
         [pools.default]\nmin_idle = {FEW}\nmax_sandboxes = 10000\nmax_starting = 32\nstart_delay = \"0s\"\n\
         connected_idle = {connected}\n\
         languages.python.interpreter = \"/usr/bin/python3\"\n\
         [pools.default.pod]\nimage = \"image\"\n"
    ))
    .await
}

/// Has the pool keep so many idle, and returns what each took of the server's memory, in KiB (PSS).
async fn fill(server: &Server, pods: u32) -> f64 {
    let before = process::pss(server.pid());
    let begun = Instant::now();
    server.fill(pods).await;
    let after = process::pss(server.pid());
    let rate = f64::from(pods - FEW) / begun.elapsed().as_secs_f64();
    println!("  filled with {rate:.0} pods/s; the server has {after:.0} KiB, before {before:.0}");
    (after - before) / f64::from(pods - FEW)
}

/// The part of a processor that the server takes while nothing happens.
async fn idle_cpu(server: &Server) -> f64 {
    let watched = Duration::from_secs(setting("IDLE_SECONDS", 30) as u64);
    let before = process::cpu_time(server.pid());
    sleep(watched).await;
    (process::cpu_time(server.pid()) - before).as_secs_f64() / watched.as_secs_f64()
}

/// How long a server takes to list its pods anew: from the request for the list to that for the watch
/// that follows it.
async fn list_again(api: &ApiServer) -> Duration {
    api.expire_watches();
    loop {
        if let Some((listed, watched)) = api.listed_and_watched() {
            return watched - listed;
        }
        sleep(LOOK).await;
    }
}

#[tokio::main]
async fn main() {
    let pods = setting("PODS", 5000) as u32;
    let api = ApiServer::start().await;
    let kubeconfig = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(kubeconfig.path(), api.kubeconfig()).unwrap();

    println!("{pods} idle pods");
    let mut rows = Vec::new();
    for (name, connected) in [("attached", pods), ("not attached", 0)] {
        println!("{name}:");
        let server = server(kubeconfig.path(), connected).await;
        let each = fill(&server, pods).await;
        assert_eq!(api.pods(), pods as usize);
        let cpu = idle_cpu(&server).await;
        let list = api.list_bytes();
        let listed = list_again(&api).await;
        let after = process::pss(server.pid());
        println!(
            "  the list of them, {} MB, took {listed:.2?}; {after:.0} KiB then",
            list / 1_000_000
        );
        let begun = Instant::now();
        drop(server);
        println!(
            "  all of them deleted at its end after {:.1?}",
            begun.elapsed()
        );
        rows.push((name, each, cpu, listed));
    }
    println!("\n| {pods} idle pods | KiB a pod | % of a core | list anew, s |\n|---|---|---|---|");
    for (name, each, cpu, listed) in rows {
        let (cpu, listed) = (cpu * 100.0, listed.as_secs_f64());
        println!("| {name} | {each:.1} | {cpu:.1} | {listed:.2} |");
    }
}
