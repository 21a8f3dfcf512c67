//! `sandpool man`: its manual, for `man`.

use std::{
    env, fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, SystemTime},
};

use clap::{Args, Command};
use clap_mangen::Man;

use super::{command, exit_code};

#[derive(Args)]
pub(super) struct ManArgs {
    /// Write a page for each command to this directory, such as /usr/local/share/man/man1, instead of
    /// printing sandpool's own.
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
}

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
enum ManError {
    #[error("cannot make the page: {0}")]
    Render(io::Error),
    #[error("cannot write the pages to {directory}: {source}")]
    Write {
        directory: PathBuf,
        source: io::Error,
    },
}

pub(super) fn main(args: ManArgs) -> ExitCode {
    // `sandpool help` has no page of its own.
    let mut command = command().disable_help_subcommand(true);
    command.build();
    let date = date();
    exit_code(match args.directory {
        Some(directory) => write_all(&command, &directory, &date),
        None => print(command, &date),
    })
}

fn print(command: Command, date: &str) -> Result<(), ManError> {
    let mut text = Vec::new();
    let rendered = page(command, date).render(&mut text);
    rendered.map_err(ManError::Render)?;
    // Who does not read it does not want it.
    let _ = io::stdout().write_all(&text);
    Ok(())
}

fn write_all(command: &Command, directory: &Path, date: &str) -> Result<(), ManError> {
    fs::create_dir_all(directory)
        .and_then(|()| write(command, directory, date))
        .map_err(|source| ManError::Write {
            directory: directory.to_owned(),
            source,
        })
}

/// The page of a command, and those of its subcommands.
fn write(command: &Command, directory: &Path, date: &str) -> io::Result<()> {
    page(command.clone(), date).generate_to(directory)?;
    command
        .get_subcommands()
        .filter(|it| !it.is_hide_set())
        .try_for_each(|subcommand| write(subcommand, directory, date))
}

fn page(command: Command, date: &str) -> Man {
    Man::new(command)
        .date(date)
        .source(concat!("sandpool ", env!("CARGO_PKG_VERSION")))
        .manual("Sandpool")
}

/// Today, or what a packager says so that the same sources make the same pages:
/// <https://reproducible-builds.org/specs/source-date-epoch/>
fn date() -> String {
    let told = env::var("SOURCE_DATE_EPOCH").ok();
    let told = told.and_then(|seconds| seconds.parse().ok());
    let told =
        told.and_then(|seconds| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds)));
    let time = told.unwrap_or_else(SystemTime::now);
    let mut date = humantime::format_rfc3339_seconds(time).to_string();
    date.truncate("2026-11-30".len());
    date
}
