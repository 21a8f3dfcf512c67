//! What happens to a server and its pods when the cluster around them fails.
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
mod components;
mod pods;
mod refusals;

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
