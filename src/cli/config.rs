//! `sandpool config`

use std::process::ExitCode;

use clap::Args;

use super::sources::SourceArgs;

#[derive(Args)]
pub(super) struct ConfigArgs {
    #[command(flatten)]
    sources: SourceArgs,
}

pub(super) fn main(args: ConfigArgs) -> ExitCode {
    match args.sources.into_sources().load() {
        Ok(loaded) => {
            print!("{}", loaded.to_toml());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("sandpool: {error}");
            ExitCode::FAILURE
        }
    }
}
