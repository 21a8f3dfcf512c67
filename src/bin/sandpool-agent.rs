//! The program inside a sandbox: PID 1 without arguments; otherwise see the agent's modules.

use std::process::ExitCode;

use sandpool::agent;

fn main() -> ExitCode {
    let result = match std::env::args().nth(1).as_deref() {
        None => agent::run(),
        Some("attach") => agent::attach(),
        Some(agent::REHEARSAL) => agent::rehearse(),
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
