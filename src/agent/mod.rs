//! The agent: PID 1 of a sandbox, and the only thing in it that the server speaks to.
//!
//! - `connections`: the byte streams that the server comes in by, and who may bring one;
//!   `attached`: how many processes did
//! - `server`: the gRPC service on each of them
//! - `crate::reaper`: starting processes and waiting for them
//! - `executions`: which executions there are; `execution`: one of them, from start to exit, and its pipes
//! - `outbox`: an output stream's bytes until the server has them
//! - `interpreters`: the spares that wait for code; `boot`: how they are made to wait
//! - `contexts`: those that keep their state and run cells
//! - `pipes`: where a program's output goes: straight to the server, or through the agent; `terminal`:
//!   what it may have instead
//! - `processes`: counted, limited, killed; `memory`: the watch on the sandbox's memory
//! - `marks`, `shares`: the same for one execution among others, in a sandbox that lives on
//! - `rehearsal`: a language that costs nothing, to warm the agent itself
//! - `files`: input files in, output files out; `operations`: what is done with files on request
//!
//! The agent is one thread. What the program in the sandbox does can slow it down or kill it,
//! and that is the sandbox's own end: nothing outside believes what it says (see docs/security.md).

mod attach;
mod attached;
mod boot;
mod connections;
mod contexts;
mod execution;
mod executions;
mod files;
mod install;
mod interpreters;
mod marks;
mod memory;
mod network;
mod operations;
mod outbox;
mod pipes;
mod processes;
mod rehearsal;
mod server;
mod shares;
mod stream;
mod terminal;

use std::{io, path::Path, sync::Arc};

use tokio::signal::unix::{SignalKind, signal};

use crate::reaper::Reaper;

pub use self::{
    attach::attach,
    install::install,
    rehearsal::{REHEARSAL, rehearse},
};

/// The agent's own directory: its socket, the boot scripts and the programs' sources.
const RUN_DIR: &str = "/run/sandpool";
/// Where `sandpool-agent attach` brings further connections.
const SOCKET: &str = "/run/sandpool/agent.sock";
/// The volumes a program may write to, and whose files its memory is counted without.
const VOLUMES: [&str; 3] = ["/workspace", "/tmp", "/home/sandbox"];
/// Where programs start unless told otherwise.
pub(crate) const WORKSPACE: &str = "/workspace";

/// Where the first connection comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum First {
    /// The agent's own stdin and stdout are one.
    Stdio,
    /// By `sandpool-agent attach`, as all others do.
    Attach,
}

/// Serves as PID 1, until the sandbox is killed from outside or SIGTERM comes.
///
/// # Errors
/// When the agent cannot set itself up. A lost connection is no error: the next one is awaited.
pub fn run(first: First) -> io::Result<()> {
    processes::no_core_dumps()?;
    boot::write_boot_scripts(Path::new(RUN_DIR))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let reaper = Reaper::start()?;
        let interpreters = Arc::new(interpreters::Interpreters::new(reaper));
        let attached = attached::Attached::default();
        let executions = executions::Executions::new(interpreters, attached.clone());
        let agent = server::Agent::new(executions);
        // The kernel ignores what PID 1 has no handler for, and whoever asks would have to wait
        // for the time until it kills. With PID 1 everything else in the sandbox ends.
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            ended = connections::serve(agent, attached, first) => ended,
            _ = terminate.recv() => Ok(()),
        }
    })
}
