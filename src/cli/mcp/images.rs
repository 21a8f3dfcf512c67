//! Which bytes are an image that a client can show, and how much of them an answer holds.

use base64::{Engine, prelude::BASE64_STANDARD};
use rmcp::model::ContentBlock;

/// The largest image: as much as a display can have.
pub(super) const MAX_IMAGE: usize = 3 << 20;
/// What is said of one that is larger.
pub(super) const TOO_LARGE: &str = "an image of more than 3 MiB, which is not shown: save it smaller, with fewer dots per inch or as JPEG";
/// All images of one answer.
const MAX_ALL: usize = 6 << 20;
const MAX_COUNT: usize = 10;

/// The MIME type by the content, since what a file or a display calls itself is the sandbox's claim.
pub(super) fn mime_type(content: &[u8]) -> Option<&'static str> {
    match content {
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Some("image/png"),
        [0xff, 0xd8, 0xff, ..] => Some("image/jpeg"),
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some("image/gif"),
        [
            b'R',
            b'I',
            b'F',
            b'F',
            _,
            _,
            _,
            _,
            b'W',
            b'E',
            b'B',
            b'P',
            ..,
        ] => Some("image/webp"),
        _ => None,
    }
}

/// Images of one answer, in order.
#[derive(Default)]
pub(super) struct Images {
    blocks: Vec<ContentBlock>,
    bytes: usize,
}

impl Images {
    /// Whether it was taken: it is an image, and there is room for it.
    pub(super) fn add(&mut self, content: &[u8]) -> bool {
        let Some(mime_type) = mime_type(content) else {
            return false;
        };
        let bytes = self.bytes + content.len();
        if content.len() > MAX_IMAGE || bytes > MAX_ALL || self.blocks.len() == MAX_COUNT {
            return false;
        }
        self.bytes = bytes;
        let data = BASE64_STANDARD.encode(content);
        self.blocks.push(ContentBlock::image(data, mime_type));
        true
    }

    pub(super) fn count(&self) -> usize {
        self.blocks.len()
    }

    pub(super) fn into_blocks(self) -> Vec<ContentBlock> {
        self.blocks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PNG: &[u8] = b"\x89PNG\r\n\x1a\n....";

    #[test]
    fn an_image_is_known_by_its_first_bytes() {
        for (content, expected) in [
            (PNG, Some("image/png")),
            (&b"\xff\xd8\xff\xe0"[..], Some("image/jpeg")),
            (b"GIF89a", Some("image/gif")),
            (b"RIFF\0\0\0\0WEBPVP8 ", Some("image/webp")),
            (b"RIFF\0\0\0\0WAVE", None),
            (b"<svg/>", None),
            (b"", None),
        ] {
            assert_eq!(mime_type(content), expected);
        }
    }

    #[test]
    fn an_answer_holds_so_many_and_so_much() {
        let mut images = Images::default();
        assert!(!images.add(b"text"));
        for _ in 0..MAX_COUNT {
            assert!(images.add(PNG));
        }
        assert!(!images.add(PNG));

        let mut images = Images::default();
        let large = [PNG, &vec![0; MAX_IMAGE - PNG.len()]].concat();
        assert!(images.add(&large) && images.add(&large) && !images.add(PNG));
        assert!(!Images::default().add(&[&large[..], b"."].concat()));
    }
}
