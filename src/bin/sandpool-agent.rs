//! The program inside a sandbox: PID 1 without arguments, or `attach`.

use std::process::ExitCode;

fn main() -> ExitCode {
    let result = match std::env::args().nth(1).as_deref() {
        None => sandpool::agent::run(),
        Some("attach") => sandpool::agent::attach(),
        Some(_) => Err(std::io::Error::other("usage: sandpool-agent [attach]")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sandpool-agent: {error}");
            ExitCode::FAILURE
        }
    }
}
