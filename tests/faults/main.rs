//! What happens to a server and its pods when the cluster around them fails.
//!
//! - `cluster`: what goes wrong, and how it is told that all is well again; `proxy`, `proxied`: the way
//!   to the API server
//! - `traffic`: programs of which no byte may be missing
//! - all others: the faults
//!
//! Needs the cluster of tests/cluster, whose components can be stopped, and uses it alone: one test
//! at a time. `make test-cluster` runs it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    dead_code,
    missing_docs,
    unreachable_pub,
    unused_imports,
    unused_macros
)]

#[path = "../common/agent.rs"]
mod agent;
#[path = "../e2e/harness/mod.rs"]
mod harness;

mod cluster;
mod proxied;
mod proxy;
mod traffic;

mod api_server;
mod components;
mod memory;
mod node;
mod pods;
mod refusals;
mod restart;
mod rights;
mod watch;
mod websocket;

/// Two idle, room for two that run.
const POOLS: &str = r#"
[pools.main]
min_idle = 2
max_sandboxes = 4
limits.default = { timeout = "5m", queue_timeout = "80s", output = "1GiB" }
limits.max = { timeout = "10m" }
languages.python.interpreter = "/usr/bin/python3"
languages.bash = {}
"#;
