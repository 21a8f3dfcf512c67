//! Sizes of terminals.

use crate::{execution::TerminalSize, proto::v1};

const SIZES: std::ops::RangeInclusive<u32> = 1..=4096;

/// No terminal has so many rows, or columns. The text is a predicate: it follows the field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is {given}, where {first} to {last} are allowed", first = SIZES.start(), last = SIZES.end())]
pub struct BadSize {
    given: u32,
    is_rows: bool,
}

impl BadSize {
    /// Which of the two fields is at fault.
    #[must_use]
    pub const fn field(self, rows: &'static str, columns: &'static str) -> &'static str {
        if self.is_rows { rows } else { columns }
    }
}

/// Checks a size.
///
/// # Errors
/// The first that is wrong.
pub fn size(given: v1::Terminal) -> Result<TerminalSize, BadSize> {
    let v1::Terminal { rows, columns } = given;
    for (given, is_rows) in [(rows, true), (columns, false)] {
        if !SIZES.contains(&given) {
            return Err(BadSize { given, is_rows });
        }
    }
    Ok(TerminalSize { rows, columns })
}
