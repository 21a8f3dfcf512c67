//! Generated from proto/: the public API (`v1`) and what the agent speaks (`agent`).
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::large_enum_variant,
    unreachable_pub
)]

/// sandpool.v1, what clients speak.
#[cfg(feature = "server")]
pub mod v1 {
    tonic::include_proto!("sandpool.v1");

    /// The file descriptors of sandpool.v1, for server reflection.
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/sandpool_v1.fds"));
}

/// sandpool.agent.v1, what server and agent speak.
pub mod agent {
    tonic::include_proto!("sandpool.agent.v1");
}
