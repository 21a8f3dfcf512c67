//! docs/reference is what the sources say, and every link of the documentation leads somewhere.
//!
//! `make docs` writes the reference anew: it runs these tests with UPDATE_REFERENCE set.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    missing_docs,
    unreachable_pub
)]

mod api;
mod cli;
mod links;
mod markdown;

use std::{
    env, fs,
    path::{Path, PathBuf},
};

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn assert_current(name: &str, rendered: &str) {
    let path: PathBuf = project().join("docs/reference").join(name);
    if env::var_os("UPDATE_REFERENCE").is_some() {
        fs::write(&path, rendered).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    // Not assert_eq: nobody wants to read both.
    let stale = written
        .lines()
        .zip(rendered.lines())
        .position(|(old, new)| old != new)
        .unwrap_or(written.lines().count());
    assert!(
        written == rendered,
        "{} is not what the sources say, from line {} on: run `make docs`",
        path.display(),
        stale + 1
    );
}

#[test]
fn the_reference_of_the_command_line_is_current() {
    assert_current("cli.md", &cli::render());
}

#[test]
fn the_reference_of_the_api_is_current() {
    assert_current("api.md", &api::render());
}
