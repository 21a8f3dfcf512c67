//! The program inside a sandbox: PID 1 without arguments, or with `detached` where its stdin and
//! stdout are no connection; otherwise see the agent's modules.

use std::{path::Path, process::ExitCode};

use sandpool::agent::{self, First};

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let result = match arguments[..] {
        [] => agent::run(First::Stdio),
        ["detached"] => agent::run(First::Attach),
        ["attach"] => agent::attach(),
        ["install", path] => agent::install(Path::new(path)),
        [agent::REHEARSAL, ..] => agent::rehearse(),
        _ => Err(std::io::Error::other(
            "usage: sandpool-agent [detached | attach | install PATH]",
        )),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sandpool-agent: {error}");
            ExitCode::FAILURE
        }
    }
}
