//! What a sandbox says that its cells display.

use bytes::{Buf, BytesMut};
use prost::Message;

use super::delimited::{Malformed, whole};
use crate::{execution::Display, proto::agent};

/// One display, encoded: its forms, of 3 MiB, and what is said about them.
const MAX_DISPLAY: usize = (3 << 20) + (256 << 10);
/// How many of a cell are delivered; a client has to keep each of them.
const MAX_DISPLAYS: u32 = 10_000;
/// The longest metadata in bytes.
const MAX_METADATA: usize = 64 << 10;
/// How many forms it has at most, those that are too large included.
const MAX_FORMS: usize = 64;
/// The longest MIME type in bytes, as RFC 6838, 4.2 has it for both of its halves.
const MAX_MIME_TYPE: usize = 255;

/// The stream is not what an agent sends.
#[derive(Debug, thiserror::Error)]
#[error("displays: {0}")]
pub(super) struct BadDisplays(&'static str);

/// Reads the stream of displays.
pub(super) struct DisplayReader {
    bytes: BytesMut,
    left: u32,
    /// How many there were beyond [`MAX_DISPLAYS`].
    pub(super) omitted: u32,
}

impl DisplayReader {
    pub(super) fn new() -> Self {
        Self {
            bytes: BytesMut::new(),
            left: MAX_DISPLAYS,
            omitted: 0,
        }
    }

    pub(super) fn push(&mut self, data: &[u8]) {
        self.bytes.extend_from_slice(data);
    }

    /// The next one, once it has come whole.
    pub(super) fn next(&mut self) -> Result<Option<Display>, BadDisplays> {
        loop {
            let whole = whole(&self.bytes, MAX_DISPLAY).map_err(|malformed| {
                BadDisplays(match malformed {
                    Malformed::Length => "a length cannot be read",
                    Malformed::TooLong => "one is too large",
                })
            })?;
            let Some((prefix, length)) = whole else {
                return Ok(None);
            };
            self.bytes.advance(prefix);
            let message = self.bytes.split_to(length);
            if self.left == 0 {
                self.omitted = self.omitted.saturating_add(1);
                continue;
            }
            self.left -= 1;
            // Of a slice, so that its forms are copied: a small one must not keep a large buffer alive.
            let display = agent::Display::decode(&message[..]);
            return check(display.map_err(|_| BadDisplays("one cannot be read"))?).map(Some);
        }
    }
}

fn check(display: agent::Display) -> Result<Display, BadDisplays> {
    let agent::Display {
        forms,
        metadata,
        is_result,
        omitted,
        stdout_offset,
        stderr_offset,
        is_answered: _,
    } = display;
    let mut mime_types = forms
        .iter()
        .map(|it| &it.mime_type)
        .chain(omitted.iter().map(|it| &it.mime_type));
    if !(1..=MAX_FORMS).contains(&(forms.len() + omitted.len())) {
        return Err(BadDisplays("one has no forms, or too many"));
    }
    if metadata.len() > MAX_METADATA {
        return Err(BadDisplays("metadata is too long"));
    }
    if mime_types.any(|it| it.len() > MAX_MIME_TYPE) {
        return Err(BadDisplays("a MIME type is too long"));
    }
    let forms = forms.into_iter();
    let omitted = omitted.into_iter();
    Ok(Display {
        data: forms.map(|it| (it.mime_type, it.data)).collect(),
        metadata,
        is_result,
        omitted: omitted.map(|it| (it.mime_type, it.bytes)).collect(),
        offsets: [stdout_offset, stderr_offset],
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn display(mime_type: &str, data: Vec<u8>) -> agent::Display {
        agent::Display {
            forms: vec![agent::Form {
                mime_type: mime_type.to_owned(),
                data: data.into(),
            }],
            ..agent::Display::default()
        }
    }

    #[test]
    fn displays_come_whole_however_they_are_cut() {
        let large = vec![b'x'; 3 << 20];
        let sent = [
            display("text/plain", large.clone()),
            display("a/b", vec![1]),
        ];
        let bytes: Vec<u8> = sent
            .iter()
            .flat_map(Message::encode_length_delimited_to_vec)
            .collect();
        let mut reader = DisplayReader::new();
        let mut got = Vec::new();
        for piece in bytes.chunks(1_000_001) {
            reader.push(piece);
            while let Some(display) = reader.next().ok().unwrap() {
                got.push(display);
            }
        }
        assert_eq!(got[0].data["text/plain"], large);
        assert_eq!(got[1].data["a/b"][..], [1]);
    }

    #[test]
    fn many_more_than_a_client_can_want_are_counted() {
        let one = display("a/b", vec![1]).encode_length_delimited_to_vec();
        let mut reader = DisplayReader::new();
        reader.push(&one.repeat(MAX_DISPLAYS as usize + 7));
        let mut got = 0;
        while reader.next().ok().unwrap().is_some() {
            got += 1;
        }
        assert_eq!((got, reader.omitted), (MAX_DISPLAYS, 7));
    }

    #[test]
    fn a_lying_agent_is_found_out() {
        let many = agent::Display {
            forms: vec![agent::Form::default(); MAX_FORMS + 1],
            ..agent::Display::default()
        };
        for lie in [
            display(&"m".repeat(256), Vec::new()),
            display("a/b", vec![0; MAX_DISPLAY]),
            many,
            agent::Display::default(),
            agent::Display {
                metadata: "m".repeat(MAX_METADATA + 1),
                ..display("a/b", Vec::new())
            },
        ] {
            let mut reader = DisplayReader::new();
            reader.push(&lie.encode_length_delimited_to_vec());
            assert!(reader.next().is_err());
        }
    }
}
