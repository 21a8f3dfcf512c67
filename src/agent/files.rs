//! Input files in, output files out.

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, Write},
    os::unix::{
        ffi::OsStrExt,
        fs::{OpenOptionsExt, PermissionsExt},
    },
    path::{Path, PathBuf},
};

use bytes::Bytes;
use glob::{MatchOptions, glob_with};
use prost::Message;
use sha2::{Digest, Sha256};

use crate::proto::agent::{FileChunk, KnownFile};

/// How many files one execution returns at most.
const MAX_OUTPUT_FILES: usize = 1000;
/// Content of one chunk.
const CHUNK: usize = 48 * 1024;

/// Writes one piece of an input file; the pieces of a file come in order.
pub(super) fn write(chunk: &FileChunk) -> io::Result<()> {
    let path = Path::new(&chunk.path);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let mut file = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(chunk.offset == 0)
        .append(chunk.offset > 0)
        // A pipe would wait for its other end.
        .custom_flags(libc::O_NONBLOCK)
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    file.write_all(&chunk.content)?;
    if chunk.last {
        file.set_permissions(fs::Permissions::from_mode(chunk.mode))?;
    }
    Ok(())
}

/// The regular files that a program left, by the caller's globs.
pub(super) struct OutputFiles {
    root: PathBuf,
    paths: std::vec::IntoIter<PathBuf>,
    /// By path, which is relative to the root.
    known: HashMap<String, KnownFile>,
    open: Option<Open>,
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
}

impl OutputFiles {
    /// Finds what matches. `known`: what does not count while it is so. `budget`: bytes of content in all.
    pub(super) fn find(root: &str, patterns: &[String], known: &[KnownFile], budget: u64) -> Self {
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
            .take(MAX_OUTPUT_FILES + 1)
            .collect();
        paths.sort();
        paths.dedup();
        let omitted = u32::from(paths.len() > MAX_OUTPUT_FILES);
        paths.truncate(MAX_OUTPUT_FILES);
        Self {
            root: root.into(),
            paths: paths.into_iter(),
            known: known
                .iter()
                .map(|it| (it.path.clone(), it.clone()))
                .collect(),
            open: None,
            budget,
            omitted,
        }
    }

    /// The next piece, encoded with its length before it.
    pub(super) fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            if self.open.is_none() {
                let path = self.paths.next()?;
                match self.open(&path) {
                    Some(open) if open.is(&self.known).unwrap_or(false) => {}
                    Some(open) if open.size <= self.budget => {
                        self.budget -= open.size;
                        self.open = Some(open);
                    }
                    _ => self.omitted += 1,
                }
            }
            if let Some(open) = &mut self.open {
                let chunk = open.read();
                if chunk.last {
                    self.open = None;
                }
                return Some(chunk.encode_length_delimited_to_vec());
            }
        }
    }

    fn open(&self, path: &Path) -> Option<Open> {
        // Whatever the name has become meanwhile: no link is followed, no pipe waited for.
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(path)
            .ok()?;
        let meta = file.metadata().ok().filter(fs::Metadata::is_file)?;
        Some(Open {
            file,
            path: path.strip_prefix(&self.root).ok()?.to_str()?.to_owned(),
            mode: meta.permissions().mode() & 0o777,
            size: meta.len(),
            offset: 0,
        })
    }
}

impl Open {
    /// Whether it is as it is known. Its time on the way to that would not tell: gVisor changes none for what is
    /// written by a shared mapping.
    fn is(&self, known: &HashMap<String, KnownFile>) -> io::Result<bool> {
        let Some(known) = known.get(&self.path).filter(|it| it.size == self.size) else {
            return Ok(false);
        };
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; CHUNK];
        // No further than it went when its size was taken: it may grow meanwhile.
        let mut content = (&self.file).take(self.size);
        loop {
            match content.read(&mut buffer)? {
                0 => break,
                read => hasher.update(&buffer[..read]),
            }
        }
        (&self.file).rewind()?;
        Ok(hasher.finalize()[..] == known.sha256[..])
    }

    /// A file that shrinks while it is read is filled up with zeroes: its size is announced.
    fn read(&mut self) -> FileChunk {
        let length = usize::try_from(self.size - self.offset)
            .unwrap_or(CHUNK)
            .min(CHUNK);
        let mut content = vec![0; length];
        let mut filled = 0;
        while filled < length {
            match self.file.read(&mut content[filled..]) {
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
        std::iter::from_fn(|| files.next())
            .map(|bytes| FileChunk::decode_length_delimited(bytes.as_slice()).unwrap())
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
