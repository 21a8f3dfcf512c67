//! What a cell shows: as a text on standard output, and in its other forms as files.

use std::fmt::Write;

use bytes::Bytes;

use super::files::{FileSink, FilesError};
use crate::{
    cli::client::printable,
    proto::v1::{Display, OutputFile},
};

const TEXT: &str = "text/plain";

/// How files of a MIME type end.
const ENDINGS: [(&str, &str); 9] = [
    ("text/html", "html"),
    ("text/markdown", "md"),
    ("text/latex", "tex"),
    ("image/svg+xml", "svg"),
    ("image/png", "png"),
    ("image/jpeg", "jpg"),
    ("application/json", "json"),
    ("application/javascript", "js"),
    ("application/pdf", "pdf"),
];

/// How a file of that type ends: the known way, or by the type's second half.
fn ending(mime_type: &str) -> String {
    let known = ENDINGS.iter().find(|(known, _)| *known == mime_type);
    let own = || {
        let (_, subtype) = mime_type.split_once('/').unwrap_or(("", mime_type));
        let letters = subtype.chars().take(64);
        letters
            .map(|it| if it.is_ascii_alphanumeric() { it } else { '-' })
            .collect()
    };
    known.map_or_else(own, |(_, ending)| (*ending).to_owned())
}

/// Counts displays, since their files are named by their numbers.
#[derive(Default)]
pub(super) struct Displays {
    shown: u32,
}

impl Displays {
    /// Writes a display's forms to files, if there is a place for them. Returns its text, and what is to be said
    /// of it.
    pub(super) fn show(
        &mut self,
        display: Display,
        sink: Option<&mut FileSink>,
    ) -> Result<(Bytes, String), FilesError> {
        self.shown += 1;
        let mut words = String::new();
        for omitted in &display.omitted {
            let mime_type = printable(&omitted.mime_type);
            // Writing to a String cannot fail.
            let _ = writeln!(words, "sandpool: {mime_type} is too large to be shown");
        }
        let mut data = display.data;
        let mut text = data.remove(TEXT).unwrap_or_default().to_vec();
        if !text.is_empty() {
            text.push(b'\n');
        }
        if let Some(sink) = sink {
            for (mime_type, content) in data {
                let ending = ending(&mime_type);
                sink.write(&OutputFile {
                    path: format!("display-{}.{ending}", self.shown),
                    mode: 0o644,
                    size: content.len() as u64,
                    offset: 0,
                    content,
                    last: true,
                })?;
            }
        }
        Ok((text.into(), words))
    }
}
