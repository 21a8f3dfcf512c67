//! The command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    sandpool::cli::main()
}
