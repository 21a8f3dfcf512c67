//! What is to be run and how it ended, in Sandpool's own terms: every room speaks of these types.
//!
//! `spec` holds the one, `outcome` the other, `display` what cells show, `paths` the rules for a path that a client names.
//! Nothing here knows of gRPC, of pools or of sandboxes.

mod display;
mod file;
mod outcome;
pub mod paths;
mod spec;

pub use display::{CodeError, Display};
pub use file::{FileOperation, FileStatus, PathInfo, PathKind, WriteHow};
pub use outcome::{LostCause, Outcome, Usage};
pub use spec::{InputFile, KnownFile, LimitBounds, Limits, Program, Spec, Tenancy, TerminalSize};
