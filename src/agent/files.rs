//! Input files in, output files out.

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io::Write,
    os::unix::{
        ffi::OsStrExt,
        fs::{FileExt, OpenOptionsExt, PermissionsExt},
    },
    path::{Path, PathBuf},
};

use bytes::Bytes;
use glob::{MatchOptions, glob_with};
use prost::Message;
use sha2::{Digest, Sha256};

use super::operations::{Failure, resolve};
use crate::proto::agent::{FileChunk, KnownFile};

/// How many files one execution returns at most.
const MAX_OUTPUT_FILES: usize = 1000;
/// Content of one chunk.
const CHUNK: usize = 48 * 1024;

/// Writes one piece of an input file; the pieces of a file come in order. In a sandbox that lives on its path may have
/// links by now, which are followed as by file operations.
pub(super) fn write(chunk: &FileChunk) -> Result<(), Failure> {
    let path = resolve(&chunk.path)?.followed_if_there()?;
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let mut file = OpenOptions::new()
        .create(chunk.offset == 0)
        .write(true)
        .truncate(chunk.offset == 0)
        .append(chunk.offset > 0)
        // A pipe would wait for its other end.
        .custom_flags(libc::O_NONBLOCK)
        .open(&path)?;
    if !file.metadata()?.is_file() {
        return Err(Failure::not_a_file(&path));
    }
    if let Err(error) = file.write_all(&chunk.content) {
        // Not even a part of what does not fit. It may have been removed meanwhile.
        let _ = fs::remove_file(&path);
        return Err(error.into());
    }
    if chunk.last {
        file.set_permissions(fs::Permissions::from_mode(chunk.mode))?;
    }
    Ok(())
}

/// The regular files that a program left, by the caller's globs.
pub(super) struct OutputFiles<'a> {
    root: PathBuf,
    paths: std::vec::IntoIter<PathBuf>,
    /// By path, which is relative to the root.
    known: HashMap<&'a str, &'a KnownFile>,
    open: Option<Open>,
    /// What is left of both.
    places: usize,
    budget: u64,
    /// Matched files that were left out.
    pub(super) omitted: u32,
}

struct Open {
    file: File,
    path: String,
    mode: u32,
    size: u64,
    offset: u64,
    /// While it is compared with what is known of it.
    compared: Option<Sha256>,
}

/// What comes of a step.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The next piece, encoded with its length before it.
    Piece(Vec<u8>),
    /// Nothing, but there is more to do.
    Nothing,
}

impl<'a> OutputFiles<'a> {
    /// Finds what matches. `known`: what does not count while it is so. `budget`: bytes of content in all.
    pub(super) fn find(
        root: &str,
        patterns: &[String],
        known: &'a [KnownFile],
        budget: u64,
    ) -> Self {
        let options = MatchOptions {
            require_literal_separator: true,
            ..MatchOptions::default()
        };
        // A link within a path is not followed either: it leads to what is not below `root`.
        let real_root = fs::canonicalize(root).ok();
        let is_own = |path: &Path| {
            let real = fs::canonicalize(path).ok();
            let below = path.strip_prefix(root).ok();
            let expected = real_root
                .as_ref()
                .zip(below)
                .map(|(root, below)| root.join(below));
            expected.is_some() && real == expected
        };
        let is_hidden = |path: &Path| {
            let below = path.strip_prefix(root).unwrap_or(path);
            below.iter().any(|name| name.as_bytes().starts_with(b"."))
        };
        let mut paths: Vec<PathBuf> = patterns
            .iter()
            .flat_map(|pattern| {
                let says_dot = pattern.split('/').any(|name| name.starts_with('.'));
                let pattern = format!("{}/{pattern}", glob::Pattern::escape(root));
                // A bad pattern was refused by the server. The option of glob's for hidden names panics where one is
                // no text.
                let found = glob_with(&pattern, options).into_iter().flatten().flatten();
                found.filter(move |path| says_dot || !is_hidden(path))
            })
            .filter(|path| fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file()))
            .filter(|path| is_own(path))
            // Each known one may be as it was, and one more says that there are too many.
            .take(MAX_OUTPUT_FILES + known.len() + 1)
            .collect();
        paths.sort();
        paths.dedup();
        Self {
            root: root.into(),
            paths: paths.into_iter(),
            known: known.iter().map(|it| (it.path.as_str(), it)).collect(),
            open: None,
            places: MAX_OUTPUT_FILES,
            budget,
            omitted: 0,
        }
    }

    /// Goes on by a chunk of a file; none: there is no more.
    pub(super) fn step(&mut self) -> Option<Step> {
        let Some(mut open) = self.open.take() else {
            let path = self.paths.next()?;
            match self.open(&path) {
                Some(open) if open.compared.is_some() => self.open = Some(open),
                Some(open) => self.open = self.admit(open),
                None => self.omitted += 1,
            }
            return Some(Step::Nothing);
        };
        let chunk = open.read();
        let Some(hasher) = &mut open.compared else {
            self.open = (!chunk.last).then_some(open);
            return Some(Step::Piece(chunk.encode_length_delimited_to_vec()));
        };
        hasher.update(&chunk.content);
        if !chunk.last {
            self.open = Some(open);
            return Some(Step::Nothing);
        }
        // Times would not tell: gVisor changes none when a shared mapping is written.
        let content = hasher.finalize_reset();
        let known = self.known.get(open.path.as_str());
        if known.is_none_or(|known| content[..] != known.sha256[..]) {
            open.compared = None;
            open.offset = 0;
            self.open = self.admit(open);
        }
        Some(Step::Nothing)
    }

    /// A file that is no known one, if there is room for it.
    fn admit(&mut self, open: Open) -> Option<Open> {
        if self.places == 0 || open.size > self.budget {
            self.omitted += 1;
            return None;
        }
        self.places -= 1;
        self.budget -= open.size;
        Some(open)
    }

    fn open(&self, path: &Path) -> Option<Open> {
        // Whatever the name has become meanwhile: no link is followed, no pipe waited for.
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(path)
            .ok()?;
        let meta = file.metadata().ok().filter(fs::Metadata::is_file)?;
        let path = path.strip_prefix(&self.root).ok()?.to_str()?.to_owned();
        let known = self.known.get(path.as_str());
        Some(Open {
            compared: known
                .filter(|known| known.size == meta.len())
                .map(|_| Sha256::new()),
            file,
            path,
            mode: meta.permissions().mode() & 0o777,
            size: meta.len(),
            offset: 0,
        })
    }
}

impl Open {
    /// A file that shrinks while it is read is filled up with zeroes: its size is announced.
    fn read(&mut self) -> FileChunk {
        let length = usize::try_from(self.size - self.offset)
            .unwrap_or(CHUNK)
            .min(CHUNK);
        let mut content = vec![0; length];
        let mut filled = 0;
        while filled < length {
            let at = self.offset + filled as u64;
            match self.file.read_at(&mut content[filled..], at) {
                Ok(0) | Err(_) => break,
                Ok(n) => filled += n,
            }
        }
        let offset = self.offset;
        self.offset += length as u64;
        FileChunk {
            path: self.path.clone(),
            mode: self.mode,
            size: self.size,
            offset,
            content: Bytes::from(content),
            last: self.offset == self.size,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    fn all(files: &mut OutputFiles) -> Vec<FileChunk> {
        std::iter::from_fn(|| files.step())
            .filter_map(|step| match step {
                Step::Piece(bytes) => {
                    Some(FileChunk::decode_length_delimited(bytes.as_slice()).unwrap())
                }
                Step::Nothing => None,
            })
            .collect()
    }

    #[test]
    fn what_is_written_is_found_and_links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().to_str().unwrap();
        for (offset, content, last) in [(0, "ab", false), (2, "c", true)] {
            write(&FileChunk {
                path: format!("{root}/deep/er/x.txt"),
                mode: 0o640,
                size: 3,
                offset,
                content: Bytes::from(content),
                last,
            })
            .map_err(|failure| failure.words)
            .unwrap();
        }
        fs::write(format!("{root}/empty.txt"), "").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", format!("{root}/link.txt")).unwrap();
        std::os::unix::fs::symlink("deep/er", format!("{root}/linked")).unwrap();
        let mut files = OutputFiles::find(
            root,
            &["**/*.txt".into(), "*.txt".into(), "linked/*".into()],
            &[],
            3,
        );
        let chunks = all(&mut files);
        let paths: Vec<_> = chunks
            .iter()
            .map(|c| (c.path.as_str(), c.mode, c.size))
            .collect();
        assert_eq!(
            paths,
            [("deep/er/x.txt", 0o640, 3), ("empty.txt", 0o644, 0)]
        );
        assert_eq!(&chunks[0].content[..], b"abc");
        assert_eq!(files.omitted, 0);
    }

    #[test]
    fn what_is_over_the_budget_is_counted_and_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().to_str().unwrap();
        fs::write(format!("{root}/a"), "12345").unwrap();
        fs::write(format!("{root}/b"), "1").unwrap();
        let mut files = OutputFiles::find(root, &["*".into()], &[], 4);
        assert_eq!(all(&mut files).len(), 1);
        assert_eq!(files.omitted, 1);
    }

    #[test]
    fn what_is_known_takes_no_room_until_it_changes() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().to_str().unwrap();
        let path = |name: &str| format!("{root}/{name}");
        let known = ["changed", "grown", "same"].map(|name| {
            fs::write(path(name), "12345").unwrap();
            KnownFile {
                path: name.into(),
                size: 5,
                sha256: Sha256::digest("12345").to_vec().into(),
            }
        });
        fs::write(path("changed"), "54321").unwrap();
        fs::write(path("grown"), "123456").unwrap();
        fs::write(path("new"), "12345").unwrap();
        let mut files = OutputFiles::find(root, &["*".into()], &known, 16);
        let all = all(&mut files);
        let paths: Vec<_> = all.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(paths, ["changed", "grown", "new"]);
        assert_eq!(&all[0].content[..], b"54321");
        assert_eq!(files.omitted, 0);
    }

    #[test]
    fn a_thousand_files_come_besides_those_that_are_known() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().to_str().unwrap();
        let known: Vec<_> = (0..1000)
            .map(|number| {
                let path = format!("a{number}");
                fs::write(dir.path().join(&path), "").unwrap();
                KnownFile {
                    path,
                    size: 0,
                    sha256: Sha256::digest("").to_vec().into(),
                }
            })
            .collect();
        for number in 0..1002 {
            fs::write(dir.path().join(format!("z{number:04}")), "").unwrap();
        }
        let mut files = OutputFiles::find(root, &["*".into()], &known, 0);
        let all = all(&mut files);
        assert_eq!(all.len(), 1000);
        assert_eq!(all.last().unwrap().path, "z0999");
        assert_eq!(files.omitted, 1);
    }

    #[test]
    fn a_hidden_file_is_matched_by_a_dot_alone() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().to_str().unwrap();
        fs::write(dir.path().join(OsStr::from_bytes(b"deep\xff")), "").unwrap();
        for name in [".cache/deep/a", ".profile", "deep/.b", "deep/c"] {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        for (pattern, expected) in [
            ("**/*", &["deep/c"][..]),
            ("*", &[]),
            (".*", &[".profile"]),
            ("deep/.*", &["deep/.b"]),
            (".cache/**/*", &[".cache/deep/a"]),
            ("**/.*", &[".profile", "deep/.b"]),
        ] {
            let mut files = OutputFiles::find(root, &[pattern.into()], &[], 9);
            let paths: Vec<_> = all(&mut files).into_iter().map(|file| file.path).collect();
            assert_eq!(paths, expected, "{pattern}");
        }
    }
}
