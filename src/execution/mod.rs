//! What is to be run, in Sandpool's own terms: every room below the API speaks of these types.
//!
//! `spec.rs` holds the types, `paths.rs` the rules for a path that a client names. Nothing here
//! knows of gRPC, of pools or of sandboxes.

pub mod paths;
mod spec;

pub use spec::{InputFile, LimitBounds, Limits, Program, Spec};
