//! What Sandpool does on a cluster, beside the floor and its peers. `make bench-cluster` runs it.
//!
//! - `latency`: a program in a pod that waits
//! - `starts`: a program that no pod waits for, and pods replaced at full load
//! - `stdout`: a program that is loud
//! - `cells`: a cell of a context
//! - `files`: a file that goes in and comes out
//! - `floor`: the same pods without Sandpool
//!
//! ONLY=latency, ONLY=starts, ONLY=stdout, ONLY=cells or ONLY=files runs one of them. SAMPLES (100, of cells
//! 300) shortens latency and cells, PEER_SAMPLES (10, of GkeCodeExecutor and of the writes) latency, STARTS (20)
//! starts, MEGABYTES (1000) and ROUNDS (3) stdout, MEBIBYTES (256) and ROUNDS files. TEST_AGENT_IMAGE and TEST_IMAGE
//! name the images, ADK_PYTHON a Python that has google-adk.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout
)]

mod cells;
#[path = "../common/mod.rs"]
mod common;
mod files;
mod floor;
mod latency;
mod starts;
mod stdout;

use std::env;

use common::Server;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::{Api, Client, Config, api::PostParams};
use sandpool::backend::kubernetes::client;
use serde_json::json;

const NAMESPACE: &str = "sandpool-bench";
const PROGRAM: &str = "print(1)\n";

/// Where everything is measured.
pub(crate) struct Cluster {
    client: Client,
    agent_image: String,
    sandbox_image: String,
    /// A pod as Sandpool makes them.
    like: Pod,
}

impl Cluster {
    async fn open() -> Self {
        let client = client(Config::infer().await.expect("KUBECONFIG")).unwrap();
        let namespaces: Api<Namespace> = Api::all(client.clone());
        let namespace = serde_json::from_value(json!({"metadata": {"name": NAMESPACE}})).unwrap();
        // It may be there since the last time.
        let _ = namespaces.create(&PostParams::default(), &namespace).await;
        let mut cluster = Self {
            client,
            agent_image: image("TEST_AGENT_IMAGE", "localhost/sandpool:test"),
            sandbox_image: image("TEST_IMAGE", "localhost/languages:1"),
            like: Pod::default(),
        };
        let _server = cluster.server(1, 1).await;
        cluster.like = floor::a_pod_of(&cluster.client, NAMESPACE).await;
        cluster
    }

    /// A server with one pool.
    async fn server(&self, min_idle: usize, max_sandboxes: usize) -> Server {
        let (agent, sandbox) = (&self.agent_image, &self.sandbox_image);
        Server::with(&format!(
            "[backend]\nkind = \"kubernetes\"\n\
             [backend.kubernetes]\nnamespace = {NAMESPACE:?}\nagent_image = {agent:?}\n\
             require_network_policy = false\n\
             [pools.default]\nmin_idle = {min_idle}\nmax_sandboxes = {max_sandboxes}\n\
             languages.python.interpreter = \"/usr/bin/python3\"\n\
             limits.max.output = \"4GiB\"\n\
             volumes.workspace = \"1GiB\"\n\
             limits.default.queue_timeout = \"80s\"\n\
             [pools.default.pod]\nimage = {sandbox:?}\n\
             cpus_requested = 0.2\nmemory_requested = \"64MiB\"\n"
        ))
        .await
    }
}

fn image(name: &str, usual: &str) -> String {
    env::var(name).unwrap_or_else(|_| usual.to_owned())
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    common::hold_client();
    let only = env::var("ONLY").unwrap_or_default();
    let cluster = Cluster::open().await;
    if "latency".contains(&only) {
        latency::measure(&cluster).await;
    }
    if "starts".contains(&only) {
        starts::measure(&cluster).await;
    }
    if "stdout".contains(&only) {
        stdout::measure(&cluster).await;
    }
    if "cells".contains(&only) {
        cells::measure(&cluster).await;
    }
    if "files".contains(&only) {
        files::measure(&cluster).await;
    }
}
