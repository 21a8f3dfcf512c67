//! The gRPC edge: requests are checked and translated here, and errors become statuses.
//!
//! `execution.rs`, `sandboxes.rs`, `files.rs`, `pools.rs` and `server.rs` are the services; `whole.rs` makes Run's one answer of many events.
//! `attach.rs` is what the first has for executions that outlive their calls.
//! `service.rs` makes an HTTP service of the first, with the encoding in `answers.rs`.
//! `access.rs` lets calls in before any of them sees one.
//! `translate.rs` turns a public ExecutionSpec into a checked one, `violations.rs` collects what
//! is wrong with it, `input.rs` checks the order of an Execute call's messages, and `status.rs` is
//! the only place where an error becomes a gRPC status. Arrows lead from here to `dispatch`;
//! nothing below knows of tonic. `page.rs` is what listings have in common.

mod access;
mod answers;
mod attach;
mod execution;
mod files;
pub mod input;
mod page;
mod pools;
mod sandboxes;
mod server;
mod service;
pub mod status;
pub mod translate;
mod violations;
mod whole;

pub use access::AccessLayer;
pub use execution::Executions;
pub use files::Files;
pub use pools::{PoolAdministration, PoolInfo, Pools};
pub use sandboxes::Sandboxes;
pub use server::ServerDescription;
pub use service::ExecutionServer;
pub use violations::{InvalidRequest, Violation};
