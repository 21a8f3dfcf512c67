//! Sandpool runs code that nobody has read, at once: a gRPC service over a warm pool of gVisor
//! sandboxes. See docs/architecture.md for the rooms and the arrows between them.

pub mod proto;
mod reaper;

#[cfg(feature = "server")]
pub mod access;
#[cfg(feature = "agent")]
pub mod agent;
#[cfg(feature = "server")]
pub mod api;
#[cfg(feature = "server")]
pub mod backend;
#[cfg(feature = "server")]
pub mod cli;
#[cfg(feature = "server")]
pub mod config;
#[cfg(feature = "server")]
pub mod dispatch;
#[cfg(feature = "server")]
pub mod execution;
#[cfg(feature = "server")]
pub mod huge_pages;
#[cfg(feature = "server")]
pub mod metrics;
#[cfg(feature = "server")]
pub mod pool;
#[cfg(feature = "server")]
pub mod reload;
#[cfg(feature = "server")]
pub mod sandbox;
#[cfg(feature = "server")]
pub mod serve;
#[cfg(feature = "server")]
pub mod telemetry;
