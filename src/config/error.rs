//! What can be wrong with a configuration.

use std::{fmt, io, path::PathBuf};

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not TOML.
    #[error("the configuration file {} is not TOML: {reason}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where and why.
        reason: String,
    },
    /// Unknown keys or bad values.
    #[error("the configuration is wrong:\n  {}", join(.0))]
    Invalid(Vec<Problem>),
}

fn join(problems: &[Problem]) -> String {
    let lines: Vec<String> = problems.iter().map(Problem::to_string).collect();
    lines.join("\n  ")
}

/// One unknown key or bad value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The dotted key.
    pub key: String,
    /// The file, variable or flag; `None` if it is a default.
    pub origin: Option<String>,
    pub(super) wrong: Wrong,
}

/// What is wrong with a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    /// There is no such key; there are `allowed`.
    Unknown { allowed: Vec<String> },
    /// Its value (as TOML, unless it may be a secret) is none of those that `expected` describes.
    Value {
        value: Option<String>,
        expected: String,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = &self.key;
        let origin = self.origin.as_deref().unwrap_or("a default");
        match &self.wrong {
            Wrong::Unknown { allowed } => {
                let allowed = allowed.join(", ");
                write!(
                    f,
                    "unknown key {key} (from {origin}), allowed are {allowed}"
                )
            }
            Wrong::Value {
                value: Some(value),
                expected,
            } => write!(f, "{key} is {value} (from {origin}), allowed is {expected}"),
            Wrong::Value {
                value: None,
                expected,
            } => write!(f, "{key} (from {origin}) is wrong, allowed is {expected}"),
        }
    }
}
