//! `sandpool config`

use std::process::ExitCode;

use clap::Args;

use super::{
    exit_code,
    say::{complain, print},
    sources::SourceArgs,
};

#[derive(Args)]
pub(super) struct ConfigArgs {
    #[command(flatten)]
    sources: SourceArgs,
}

pub(super) fn main(args: ConfigArgs) -> ExitCode {
    match args.sources.into_sources().load() {
        Ok(loaded) => exit_code(print(&loaded.to_toml())),
        Err(error) => {
            complain(error);
            ExitCode::FAILURE
        }
    }
}
