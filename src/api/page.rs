//! Listings by pages.

use std::collections::{BTreeMap, HashMap};

/// How many entries a page has: as many as are asked for, and `usual` of a request that does not say.
pub(super) fn size(asked: u32, usual: u32, most: u32) -> usize {
    // A u32 fits into a usize on every platform that the server runs on.
    match asked {
        0 => usual as usize,
        size => size.min(most) as usize,
    }
}

/// Cuts what was found to one page; the last entry on it, if others follow.
pub(super) fn cut<T>(found: &mut Vec<T>, size: usize) -> Option<&T> {
    let more = found.len() > size;
    found.truncate(size);
    found.last().filter(|_| more)
}

/// Whether something has all labels that are wanted.
pub(super) fn has_labels(
    labels: &BTreeMap<String, String>,
    wanted: &HashMap<String, String>,
) -> bool {
    wanted
        .iter()
        .all(|(key, value)| labels.get(key) == Some(value))
}
