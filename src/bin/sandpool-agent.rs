//! The program inside the sandbox.

fn main() {}
