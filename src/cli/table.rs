//! Columns for people.

use super::say::say;

/// The rows below their head, each column as wide as its widest cell; `least`: what a column has
/// anyway, such as for what comes later.
pub(super) struct Table<const N: usize> {
    head: [&'static str; N],
    widths: [usize; N],
}

impl<const N: usize> Table<N> {
    pub(super) fn new(head: [&'static str; N], least: [usize; N], rows: &[[String; N]]) -> Self {
        let mut widths = least;
        for (width, name) in widths.iter_mut().zip(head) {
            *width = (*width).max(name.chars().count());
        }
        for row in rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        Self { head, widths }
    }

    /// Prints the head and the rows, as far as anyone reads them.
    pub(super) fn print(&self, rows: &[[String; N]]) {
        let lines = rows.iter().map(|row| self.line(row));
        let _ = [self.head()]
            .into_iter()
            .chain(lines)
            .all(|line| say(&line));
    }

    pub(super) fn head(&self) -> String {
        self.line(&self.head.map(str::to_owned))
    }

    pub(super) fn line(&self, row: &[String; N]) -> String {
        let cells: Vec<String> = row
            .iter()
            .zip(&self.widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        cells.join("  ").trim_end().to_owned()
    }
}
