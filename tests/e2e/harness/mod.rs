//! What the tests stand on.
//!
//! - `server`: starts a server, and asserts that it leaves nothing behind
//! - `shared`: one server for all tests that need nothing special, with a pool for each purpose
//! - `spec`, `execution`: a program, and its messages in order
//! - `cli`: `sandpool` as people type it
//! - `named`: sandboxes that live on
//! - `client`: connections to a server; `pools`: waiting for what a pool shows
//! - `deployed`: the server that tests share, if it runs in the cluster
//! - `host`, `cluster`: the sandboxes as the machine sees them, or a cluster
//! - `scrape`: its metrics and probes
//! - `proxy`: a connection that can be cut, reset or silenced

mod cli;
mod client;
pub(crate) mod cluster;
mod deployed;
mod execution;
mod host;
pub(crate) mod named;
mod pools;
mod proxy;
mod scrape;
pub(crate) mod server;
mod shared;
mod spec;

use std::{future::Future, time::Duration};

pub use self::{
    cli::{Typed, grpcurl, output, sandpool, script, unread},
    client::Client,
    execution::{Done, Execution},
    host::{HeldAtItsEnd, kill},
    named::content,
    pools::{is_full, next_that, occupy, ready},
    proxy::Proxy,
    scrape::Scrape,
    server::{Server, state_dir},
    shared::{exclusive, main_pool, shared},
    spec::{Spec, bash, cell, command, node, python},
};
pub use sandpool::proto::v1;

/// No single step of a test takes this long, on however busy a machine: it hangs.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// Ends a test that only this machine can show, where the tests run on a cluster.
macro_rules! only_local {
    ($reason:literal) => {
        if crate::harness::on_kubernetes() {
            println!("only on the local backend: {}", $reason);
            return;
        }
    };
}
/// The same the other way round.
macro_rules! only_cluster {
    ($reason:literal) => {
        if !crate::harness::on_kubernetes() {
            println!("only on a cluster: {}", $reason);
            return;
        }
    };
}
pub(crate) use {only_cluster, only_local};

/// Whether the tests run on a cluster.
pub fn on_kubernetes() -> bool {
    cluster::is_used()
}

/// Waits for something that must come.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what} did not come within {PATIENCE:?}"),
    }
}
