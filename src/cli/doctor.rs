//! `sandpool doctor`

use std::process::ExitCode;

use clap::Args;

use super::sources::SourceArgs;

#[derive(Args)]
pub(super) struct DoctorArgs {
    #[command(flatten)]
    sources: SourceArgs,
}

pub(super) async fn main(args: DoctorArgs) -> ExitCode {
    match args.sources.into_sources().load() {
        Ok(_) => {
            println!("ok    configuration");
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("FAIL  configuration: {error}");
            ExitCode::FAILURE
        }
    }
}
