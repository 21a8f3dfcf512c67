//! The output files that a sandbox says it has, checked piece by piece.

use bytes::{Buf, Bytes, BytesMut};
use prost::Message;

use super::delimited::{Malformed, whole};
use crate::proto::agent::FileChunk;

/// One piece, encoded: the agent sends 48 KiB of content with a path and a few numbers.
const MAX_PIECE: usize = 128 * 1024;
const MAX_PATH: usize = 4096;
/// What the agent returns at most. Files without content cost nothing of the budget.
const MAX_FILES: u32 = 1000;

/// One piece of an output file.
#[derive(Clone)]
pub struct OutputChunk {
    /// Relative to the working directory, without '.', '..' and empty components.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// Of the whole file, in bytes.
    pub size: u64,
    /// Where `content` belongs.
    pub offset: u64,
    /// The bytes.
    pub content: Bytes,
    /// Whether it is the file's last piece.
    pub last: bool,
}

/// Reads the stream of output files.
pub(super) struct FileReader {
    bytes: BytesMut,
    budget: u64,
    files_left: u32,
    current: Option<(String, u64, u64)>,
}

/// The stream is not what an agent sends.
#[derive(Debug, thiserror::Error)]
#[error("output files: {0}")]
pub(super) struct BadFiles(&'static str);

impl FileReader {
    /// `budget`: bytes of content in all.
    pub(super) fn new(budget: u64) -> Self {
        Self {
            bytes: BytesMut::new(),
            budget,
            files_left: MAX_FILES,
            current: None,
        }
    }

    pub(super) fn push(&mut self, data: &[u8]) {
        self.bytes.extend_from_slice(data);
    }

    /// Whether [`Self::next`] has something to say without a further [`Self::push`].
    pub(super) fn has_next(&self) -> bool {
        !matches!(self.whole(), Ok(None))
    }

    /// The next whole piece.
    pub(super) fn next(&mut self) -> Result<Option<OutputChunk>, BadFiles> {
        let Some((prefix, length)) = self.whole()? else {
            return Ok(None);
        };
        self.bytes.advance(prefix);
        let piece = self.bytes.split_to(length);
        let chunk =
            FileChunk::decode(&piece[..]).map_err(|_| BadFiles("a piece cannot be read"))?;
        self.check(chunk).map(Some)
    }

    fn whole(&self) -> Result<Option<(usize, usize)>, BadFiles> {
        whole(&self.bytes, MAX_PIECE).map_err(|malformed| {
            BadFiles(match malformed {
                Malformed::Length => "a length cannot be read",
                Malformed::TooLong => "a piece is too large",
            })
        })
    }

    fn check(&mut self, chunk: FileChunk) -> Result<OutputChunk, BadFiles> {
        let length = chunk.content.len() as u64;
        let (path, size, offset) = match self.current.take() {
            Some(current) => current,
            None => {
                check_path(&chunk.path)?;
                self.files_left = self
                    .files_left
                    .checked_sub(1)
                    .ok_or(BadFiles("there are too many"))?;
                self.budget = self
                    .budget
                    .checked_sub(chunk.size)
                    .ok_or(BadFiles("they are larger than their limit"))?;
                (chunk.path.clone(), chunk.size, 0)
            }
        };
        let end = offset + length;
        if chunk.path != path || chunk.size != size || chunk.offset != offset {
            return Err(BadFiles("pieces of files are mixed"));
        }
        if end > size || chunk.last != (end == size) || (length == 0 && !chunk.last) {
            return Err(BadFiles("a file has not the size that it says"));
        }
        if !chunk.last {
            self.current = Some((path, size, end));
        }
        Ok(OutputChunk {
            path: chunk.path,
            mode: chunk.mode & 0o777,
            size,
            offset,
            content: chunk.content,
            last: chunk.last,
        })
    }
}

fn check_path(path: &str) -> Result<(), BadFiles> {
    let good = path.len() <= MAX_PATH
        && !path.contains('\0')
        && path
            .split('/')
            .all(|part| !part.is_empty() && part != "." && part != "..");
    good.then_some(())
        .ok_or(BadFiles("a path leaves its directory"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(path: &str, size: u64, offset: u64, content: &'static str) -> FileChunk {
        FileChunk {
            path: path.into(),
            mode: 0o100_644,
            size,
            offset,
            content: Bytes::from(content),
            last: offset + content.len() as u64 == size,
        }
    }

    fn read(budget: u64, chunks: &[FileChunk]) -> Result<Vec<OutputChunk>, BadFiles> {
        let mut reader = FileReader::new(budget);
        let mut all = Vec::new();
        for byte in chunks
            .iter()
            .flat_map(Message::encode_length_delimited_to_vec)
        {
            reader.push(&[byte]);
            while let Some(chunk) = reader.next()? {
                all.push(chunk);
            }
        }
        Ok(all)
    }

    #[test]
    fn files_come_whole_however_they_are_cut() {
        let chunks = [
            chunk("a/b", 3, 0, "ab"),
            chunk("a/b", 3, 2, "c"),
            chunk("empty", 0, 0, ""),
        ];
        let got = read(3, &chunks).ok().unwrap();
        assert_eq!(got.len(), 3);
        assert_eq!((got[1].offset, got[1].last, got[1].mode), (2, true, 0o644));
    }

    #[test]
    fn a_lying_agent_is_found_out() {
        for lie in [
            chunk("../x", 1, 0, "x"),
            chunk("/etc/x", 1, 0, "x"),
            chunk("a", 1, 1, ""),
            chunk("a", 9, 0, "x"),
            chunk("a", 2, 0, ""),
            FileChunk {
                last: true,
                ..chunk("a", 2, 0, "x")
            },
            FileChunk {
                last: false,
                ..chunk("a", 1, 0, "x")
            },
        ] {
            assert!(read(4, &[lie]).is_err());
        }
        assert!(read(9, &[chunk("a", 3, 0, "ab"), chunk("b", 3, 2, "c")]).is_err());
        let mut reader = FileReader::new(9);
        reader.push(&[0xff; 11]);
        assert!(reader.next().is_err());
    }

    #[test]
    fn empty_files_do_not_come_without_end() {
        let mut files: Vec<_> = (0..=MAX_FILES)
            .map(|i| chunk(&i.to_string(), 0, 0, ""))
            .collect();
        assert!(read(0, &files).is_err());
        files.pop();
        assert_eq!(read(0, &files).ok().unwrap().len(), MAX_FILES as usize);
    }

    #[test]
    fn what_has_come_whole_is_known_to_be_there() {
        let mut reader = FileReader::new(0);
        let piece = chunk("a", 0, 0, "").encode_length_delimited_to_vec();
        reader.push(&[&piece[..], &piece[..], &piece[..3]].concat());
        for _ in 0..2 {
            assert!(reader.has_next());
            assert!(matches!(reader.next(), Ok(Some(_))));
        }
        assert!(!reader.has_next());
    }
}
