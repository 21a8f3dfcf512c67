//! Connections to the agent are cut, reset and stalled while programs run on real gVisor.
//!
//! A test binary of its own, since the local backend's reaper must be the only one in its process
//! that waits for children. Needs root, runsc, and the agent (`make agent`; another one's path is
//! taken from SANDPOOL_AGENT).
//!
//! - `bytes`: no byte of output or input is lost or doubled
//! - `moments`: the moments at which a cut hurts most, and what is applied once
//! - `lost`: sandboxes that are not reached again
//! - `named`: several programs, and file operations, in one sandbox
//! - `contexts`: an interpreter that keeps its state, and its cells
//! - `program`: a sandbox with a program; `relay`: the connections
//!
//! A connection that stalls for ever is ended by h2's keepalive after 30 s, which is too long for
//! a test here; what follows is the same as after a cut.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../common/agent.rs"]
mod agent;
mod bytes;
mod contexts;
mod lost;
mod moments;
mod named;
mod program;
mod relay;
