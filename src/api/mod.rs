//! The gRPC edge: requests are checked and translated here, and errors become statuses.
//!
//! `translate.rs` turns a public ExecutionSpec into a checked one, `violations.rs` collects what
//! is wrong with it, `input.rs` checks the order of an Execute call's messages, and `status.rs` is
//! the only place where an error becomes a gRPC status. Arrows lead from here to `execution`;
//! nothing below knows of tonic.

pub mod input;
pub mod status;
pub mod translate;
mod violations;

pub use violations::{InvalidSpec, Violation};
