//! Two maps: the environment, whose values are secret, and the labels, which are for the log.

use std::collections::{BTreeMap, HashMap};

use crate::api::violations::{Violations, quoted};

/// Most variables of one execution.
pub const MAX_ENV_ENTRIES: usize = 1024;

/// All names and values together, each with its '=' and NUL, in bytes. No variable can then be
/// longer than the 128 KiB that Linux and gVisor take.
pub const MAX_ENV_BYTES: usize = 128 * 1024;

/// Most labels of one execution.
pub const MAX_LABELS: usize = 32;

/// Longest key of a label, in characters.
pub const MAX_LABEL_KEY_CHARS: usize = 63;

/// Longest value of a label, in characters.
pub const MAX_LABEL_VALUE_CHARS: usize = 256;

pub(super) fn env(
    given: HashMap<String, String>,
    violations: &mut Violations,
) -> BTreeMap<String, String> {
    if given.len() > MAX_ENV_ENTRIES {
        violations.add(
            "env",
            format!(
                "has {} variables, where at most {MAX_ENV_ENTRIES} are allowed: put the rest into a file",
                given.len()
            ),
        );
        return BTreeMap::new();
    }
    // Sorted first, so that the same spec is refused with the same text each time.
    let env = BTreeMap::from_iter(given);
    let bytes: usize = env
        .iter()
        .map(|(name, value)| name.len() + value.len() + "=\0".len())
        .sum();
    if bytes > MAX_ENV_BYTES {
        violations.add(
            "env",
            format!(
                "takes {bytes} bytes in all, where at most {MAX_ENV_BYTES} are allowed: put large values into files"
            ),
        );
    }
    for (name, value) in &env {
        let field = || format!("env[{}]", quoted(name));
        if name.is_empty() {
            violations.add(field(), "has an empty name: name the variable");
        }
        if name.contains('=') {
            violations.add(
                field(),
                "has '=' in its name: the name ends before it, what follows is the value",
            );
        }
        if name.contains('\0') {
            violations.add(field(), "has a NUL in its name: leave it out");
        }
        if value.contains('\0') {
            violations.add(
                field(),
                "has a NUL in its value, which no variable can: leave it out",
            );
        }
    }
    env
}

pub(super) fn labels(
    given: HashMap<String, String>,
    violations: &mut Violations,
) -> BTreeMap<String, String> {
    if given.len() > MAX_LABELS {
        violations.add(
            "labels",
            format!(
                "has {} labels, where at most {MAX_LABELS} are allowed",
                given.len()
            ),
        );
        return BTreeMap::new();
    }
    let labels = BTreeMap::from_iter(given);
    for (key, value) in &labels {
        let field = || format!("labels[{}]", quoted(key));
        if key.is_empty() {
            violations.add(field(), "has an empty key: name the label");
        }
        for (part, text, max) in [
            ("key", key, MAX_LABEL_KEY_CHARS),
            ("value", value, MAX_LABEL_VALUE_CHARS),
        ] {
            let length = text.chars().count();
            if length > max {
                violations.add(
                    field(),
                    format!("has a {part} of {length} characters, where at most {max} are allowed"),
                );
            }
            // They go to the log as they are: a line break would forge an entry.
            if text.chars().any(char::is_control) {
                violations.add(
                    field(),
                    format!("has a control character in its {part}: leave it out"),
                );
            }
        }
    }
    labels
}
