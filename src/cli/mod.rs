//! The command line: one file for each subcommand, `sources` and `client` for what they share.
//!
//! `serve`, `config` and `doctor` read the configuration; `run`, `executions`, `sandboxes`, `shell`, `cp`, `mcp` and `pools` are clients that know
//! the public API and nothing else of the server: `table` and `output` are how they print. `completions` and
//! `man` are made of the command line itself.
#![allow(clippy::print_stdout)] // Here it is the product.

mod client;
mod completions;
mod config;
mod contexts;
mod cp;
mod doctor;
mod ending;
mod executions;
mod man;
mod mcp;
mod output;
mod pools;
mod run;
mod sandboxes;
mod say;
mod serve;
mod shell;
mod sources;
mod table;

use std::{env, future::Future, process::ExitCode};

use clap::{CommandFactory, Parser, Subcommand};
use tokio::runtime::Builder;

use self::say::complain;

/// Exit code of `sandpool run` for whatever is not the program's doing, as docker run has it.
const OWN_TROUBLE: u8 = 125;

/// Runs code that nobody has read, at once, in warm gVisor sandboxes.
#[derive(Parser)]
#[command(name = "sandpool", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start the server.
    Serve(serve::ServeArgs),
    /// Run a script or a command in a fresh sandbox of a running server.
    Run(Box<run::RunArgs>),
    /// Go on reading what sandpool run --detach has left running, and exit as it does.
    Attach(executions::AttachArgs),
    /// Show your executions: those that run, and those that ended a while ago.
    Executions(executions::ExecutionsArgs),
    /// Keep sandboxes of a running server, for more than one program.
    Sandbox(sandboxes::SandboxArgs),
    /// Keep a Python that keeps its variables, in a sandbox that lives on.
    Context(contexts::ContextArgs),
    /// Type in a shell, in a sandbox of a running server.
    Shell(shell::ShellArgs),
    /// Copy a file or a directory into a sandbox that lives on, or out of one.
    Cp(cp::CpArgs),
    /// Give sandboxes of a running server as tools to an MCP client, which starts this itself.
    Mcp(mcp::McpArgs),
    /// Show the pools of a running server.
    Pools(pools::PoolsArgs),
    /// Print the configuration in force, and where it comes from.
    Config(config::ConfigArgs),
    /// Check whether this machine or cluster can run sandboxes, and say what to do where it cannot.
    Doctor(doctor::DoctorArgs),
    /// Print what a shell needs to complete the arguments of sandpool.
    Completions(completions::CompletionsArgs),
    /// Print the manual page, or write the pages of all commands.
    Man(man::ManArgs),
}

/// What the command line understands, for the reference that is made of it.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

/// Reads the arguments and does what they say; the answer is the process's exit code.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Nothing is left to be done when even this cannot be printed.
            let _ = error.print();
            return ExitCode::from(usage_exit_code(&error));
        }
    };
    match cli.command {
        Command::Serve(args) => serve::main(args),
        Command::Run(args) => block_on(OWN_TROUBLE, run::main(*args)),
        Command::Attach(args) => block_on(OWN_TROUBLE, executions::attach(args)),
        Command::Executions(args) => block_on(1, executions::list(args)),
        Command::Sandbox(args) => block_on(1, sandboxes::main(args)),
        Command::Context(args) => block_on(1, contexts::main(args)),
        Command::Shell(args) => block_on(OWN_TROUBLE, shell::main(args)),
        Command::Cp(args) => block_on(1, cp::main(args)),
        Command::Mcp(args) => block_on(1, mcp::main(args)),
        Command::Pools(args) => block_on(1, pools::main(args)),
        Command::Config(args) => config::main(args),
        Command::Doctor(args) => block_on(1, doctor::main(args)),
        Command::Completions(args) => completions::main(args),
        Command::Man(args) => man::main(args),
    }
}

/// 0 for --help, and for `run`, `shell` and `attach` not 2, which could be the program's.
fn usage_exit_code(error: &clap::Error) -> u8 {
    if !error.use_stderr() {
        0
    } else if env::args_os()
        .nth(1)
        .is_some_and(|name| name == "run" || name == "shell" || name == "attach")
    {
        OWN_TROUBLE
    } else {
        2
    }
}

/// 0, or 1 once what went wrong has been told.
fn exit_code<E: std::fmt::Display>(done: Result<(), E>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(error);
            ExitCode::FAILURE
        }
    }
}

/// For a client, one thread: passing each message from thread to thread would be most of its work.
fn block_on(failure: u8, main: impl Future<Output = ExitCode>) -> ExitCode {
    match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => {
            let code = runtime.block_on(main);
            // Not waiting for a thread that still reads the terminal.
            runtime.shutdown_background();
            code
        }
        Err(error) => {
            complain(format_args!("cannot start threads: {error}"));
            ExitCode::from(failure)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        command().debug_assert();
    }
}
