//! The real server, over real gRPC, on real gVisor.
//!
//! One test binary, so that it links once; a file for each group of behaviours. Needs what the
//! server itself needs: root, runsc, cgroups; and python3, bash, node, python3-numpy and grpcurl.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    missing_docs,
    unreachable_pub
)]

#[path = "../common/agent.rs"]
mod agent;
mod harness;

mod access;
mod archives;
mod attach;
mod bad_input;
mod clients;
mod command_line;
mod command_line_json;
mod command_line_pages;
mod command_line_sandboxes;
mod context_cells;
mod context_displays;
mod context_ends;
mod contexts;
mod creations;
mod doctor;
mod files;
mod hostile;
mod ids;
mod isolation;
mod life;
mod limits;
mod metrics;
mod named;
mod named_files;
mod outside;
mod pools;
mod queue;
mod running;
mod server_info;
mod streams;
mod terminals;
mod tls;
