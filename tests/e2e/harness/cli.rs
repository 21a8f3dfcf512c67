//! `sandpool` as people type it.

use std::process::{Output, Stdio};

use tokio::process::Command;

use super::{Server, soon};

/// Addressed to a server, without input.
pub fn sandpool(server: &Server, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sandpool"));
    command
        .args(args)
        .env("SANDPOOL_ADDRESS", server.address.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// What it has said at its end.
pub async fn output(mut command: Command) -> Output {
    soon("the end of sandpool", command.output()).await.unwrap()
}
