//! The gRPC edge: requests are checked and translated here.
//!
//! `input.rs` checks the order of an Execute call's messages.

pub mod input;
