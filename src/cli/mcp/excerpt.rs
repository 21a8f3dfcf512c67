//! Text of any length as its beginning and its end: what the reader pays for is bounded.

use std::collections::VecDeque;

use crate::cli::client::printable;

/// Bytes that are kept of the beginning, and of the end.
const EACH: usize = 8 * 1024;
/// Characters of a name.
const MAX_NAME: usize = 300;

/// What was written to one stream, or what is in one file.
#[derive(Default)]
pub(super) struct Excerpt {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    total: u64,
}

impl Excerpt {
    pub(super) fn of(bytes: &[u8]) -> Self {
        let mut excerpt = Self::default();
        excerpt.push(bytes);
        excerpt
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.total += bytes.len() as u64;
        let (head, rest) = bytes.split_at(bytes.len().min(EACH - self.head.len()));
        self.head.extend_from_slice(head);
        let newest = &rest[rest.len().saturating_sub(EACH)..];
        let over = (self.tail.len() + newest.len()).saturating_sub(EACH);
        self.tail.drain(..over);
        self.tail.extend(newest);
    }

    /// How many bytes there were in all.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// How many of them [`Self::text`] does not have.
    pub(super) fn left_out(&self) -> u64 {
        self.parts().2
    }

    /// The beginning, what is left out in words, and the end. What is not UTF-8 is replaced by U+FFFD.
    pub(super) fn text(&self) -> String {
        let (head, tail, left_out) = self.parts();
        if left_out == 0 {
            return String::from_utf8_lossy(&[head, &tail].concat()).into_owned();
        }
        format!(
            "{}\n[... {left_out} of {} bytes are left out here ...]\n{}",
            String::from_utf8_lossy(head),
            self.total,
            String::from_utf8_lossy(&tail)
        )
    }

    /// Whether [`Self::text`] replaces nothing.
    pub(super) fn is_utf8(&self) -> bool {
        let (head, tail, left_out) = self.parts();
        if left_out == 0 {
            return str::from_utf8(&[head, &tail].concat()).is_ok();
        }
        str::from_utf8(head).is_ok() && str::from_utf8(&tail).is_ok()
    }

    /// Head and tail, without halves of characters where something between them is missing.
    fn parts(&self) -> (&[u8], Vec<u8>, u64) {
        let tail: Vec<u8> = self.tail.iter().copied().collect();
        if self.total == (self.head.len() + tail.len()) as u64 {
            return (&self.head, tail, 0);
        }
        let head = &self.head[..whole(&self.head)];
        let begun = tail.iter().take(3).take_while(|it| **it & 0xc0 == 0x80);
        let tail = tail[begun.count()..].to_vec();
        let left_out = self.total - (head.len() + tail.len()) as u64;
        (head, tail, left_out)
    }
}

/// A name of a sandbox's as it can be shown, with its beginning alone if it is longer than names are.
pub(super) fn name(text: &str) -> String {
    let text = printable(text);
    match text.char_indices().nth(MAX_NAME) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

/// How many bytes there are before a character that only begins at the end.
pub(super) fn whole(bytes: &[u8]) -> usize {
    let last = bytes.len().saturating_sub(3);
    let begins = (last..bytes.len())
        .rev()
        .find(|at| bytes[*at] & 0xc0 != 0x80);
    match begins {
        Some(at) if needs(bytes[at]) > bytes.len() - at => at,
        _ => bytes.len(),
    }
}

/// The bytes as text, if they are that as they are. If `more` of them follow, the last character may be cut: the
/// text ends before it.
pub(super) fn text_of(bytes: &[u8], more: bool) -> Option<&str> {
    let text = match str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) if more && error.error_len().is_none() && error.valid_up_to() > 0 => {
            str::from_utf8(&bytes[..error.valid_up_to()]).ok()?
        }
        Err(_) => return None,
    };
    (!text.contains('\0')).then_some(text)
}

/// How long a character is, by its first byte.
fn needs(first: u8) -> usize {
    match first {
        0xf0..=0xf7 => 4,
        0xe0..=0xef => 3,
        0xc0..=0xdf => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_fits_is_whole_and_what_does_not_has_its_beginning_and_its_end() {
        let mut excerpt = Excerpt::of(b"one\n");
        excerpt.push("zw\u{f6}lf\n".as_bytes());
        assert_eq!(
            (excerpt.text().as_str(), excerpt.left_out()),
            ("one\nzw\u{f6}lf\n", 0)
        );

        let mut excerpt = Excerpt::default();
        for number in 0..100_000 {
            excerpt.push(format!("{number}\n").as_bytes());
        }
        let text = excerpt.text();
        assert!(text.starts_with("0\n1\n2\n") && text.ends_with("99998\n99999\n"));
        assert!(text.len() < 2 * EACH + 100);
        let words = format!(
            "[... {} of 588890 bytes are left out here ...]",
            excerpt.left_out()
        );
        assert!(text.contains(&words));
    }

    #[test]
    fn text_is_never_altered() {
        for (bytes, more, text) in [
            ("caf\u{e9}".as_bytes(), false, Some("caf\u{e9}")),
            (b"caf\xe9", false, None),
            // The first byte of a longer character, too.
            (b"caf\xe9", true, Some("caf")),
            (b"caf\xe9!", true, None),
            (b"\xc3", true, None),
            (b"a\0", false, None),
            (b"", false, Some("")),
        ] {
            assert_eq!(text_of(bytes, more), text, "{bytes:?}");
        }
        let long = [&[b'x'; 3 * EACH][..], b"\xe9"].concat();
        assert!(!Excerpt::of(&long).is_utf8());
        assert!(Excerpt::of("\u{e9}".repeat(3 * EACH).as_bytes()).is_utf8());
    }

    #[test]
    fn names_are_as_long_as_names_are() {
        assert_eq!(name("a\n\u{e9}"), "a\\n\u{e9}");
        assert_eq!(name(&"\u{e9}".repeat(MAX_NAME)), "\u{e9}".repeat(MAX_NAME));
        let cut = format!("{}...", "\u{e9}".repeat(MAX_NAME));
        assert_eq!(name(&"\u{e9}".repeat(4000)), cut);
    }

    #[test]
    fn no_character_is_cut() {
        for shift in 0..4 {
            let bytes = format!("{}{}", "x".repeat(shift), "\u{1f600}".repeat(10_000));
            let excerpt = Excerpt::of(bytes.as_bytes());
            assert!(!excerpt.text().contains('\u{fffd}'));
        }
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference_and_nothing_is_counted_twice(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..9000), 0..6)
        ) {
            let mut pushed = Excerpt::default();
            for piece in &pieces {
                pushed.push(piece);
            }
            let all = pieces.concat();
            let whole = Excerpt::of(&all);
            prop_assert_eq!(pushed.text(), whole.text());
            prop_assert_eq!(pushed.total(), all.len() as u64);
            let kept = (pushed.head.len() + pushed.tail.len()) as u64;
            prop_assert!(pushed.left_out() <= pushed.total() - kept + 6);
            prop_assert_eq!(pushed.left_out() == 0, all.len() <= 2 * EACH);
        }
    }
}
