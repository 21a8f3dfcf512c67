//! `sandpool completions`: what a shell needs to complete its arguments.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::Args;
use clap_complete::Shell;

use super::command;

#[derive(Args)]
pub(super) struct CompletionsArgs {
    /// Whose script to print.
    #[arg(value_enum)]
    shell: Shell,
}

pub(super) fn main(args: CompletionsArgs) -> ExitCode {
    // By way of memory: the generator panics where it cannot write, such as to a reader that has gone.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command(), "sandpool", &mut script);
    // Who does not read it does not want it.
    let _ = io::stdout().write_all(&script);
    ExitCode::SUCCESS
}
