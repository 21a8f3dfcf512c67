//! Gathers what is wrong with values that are well-formed each by itself.

use std::{fmt::Display, path::Path};

/// What [`Check`] found: where, and what would be right.
pub(super) enum Finding {
    /// The value of `key` is none of those that `expected` describes.
    Value { key: String, expected: String },
    /// There is no `key`; there are `allowed`.
    Unknown { key: String, allowed: Vec<String> },
}

/// Gathers findings, so that one run names all of them.
#[derive(Default)]
pub(super) struct Check {
    pub(super) findings: Vec<Finding>,
}

impl Check {
    pub(super) fn problem(&mut self, key: impl Into<String>, expected: impl Into<String>) {
        self.findings.push(Finding::Value {
            key: key.into(),
            expected: expected.into(),
        });
    }

    pub(super) fn unknown(
        &mut self,
        key: impl Into<String>,
        allowed: impl IntoIterator<Item = impl Into<String>>,
    ) {
        self.findings.push(Finding::Unknown {
            key: key.into(),
            allowed: allowed.into_iter().map(Into::into).collect(),
        });
    }

    pub(super) fn range<T>(&mut self, key: impl Into<String>, value: T, least: T, most: T)
    where
        T: PartialOrd + Display,
    {
        if value < least || value > most {
            self.problem(key, format!("a number from {least} to {most}"));
        }
    }

    /// A path that may be missing.
    pub(super) fn absolute(&mut self, key: &str, path: Option<&Path>) {
        if path.is_some_and(|path| !path.is_absolute()) {
            self.problem(key, "an absolute path, or \"\"");
        }
    }
}
