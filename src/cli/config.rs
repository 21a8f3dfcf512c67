//! `sandpool config`

use std::process::ExitCode;

use clap::Args;

use super::{
    say::{complain, say},
    sources::SourceArgs,
};

#[derive(Args)]
pub(super) struct ConfigArgs {
    #[command(flatten)]
    sources: SourceArgs,
}

pub(super) fn main(args: ConfigArgs) -> ExitCode {
    match args.sources.into_sources().load() {
        Ok(loaded) => {
            say(loaded.to_toml().trim_end());
            ExitCode::SUCCESS
        }
        Err(error) => {
            complain(error);
            ExitCode::FAILURE
        }
    }
}
