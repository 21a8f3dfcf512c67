//! Output files: their paths and content come from the sandbox, so neither is trusted.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::fd::OwnedFd,
    path::{Component, Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, CWD, Mode, OFlags, mkdirat, openat, unlinkat},
    io::Errno,
};

use super::super::client::printable;
use crate::proto::v1::OutputFile;

/// More levels than any honest path has.
const MAX_DEPTH: usize = 64;

/// Why an output file was not written.
#[derive(Debug, thiserror::Error)]
pub(super) enum FilesError {
    #[error("--output-dir {}: {source}", path.display())]
    Directory { path: PathBuf, source: io::Error },
    #[error("output file {0} would be outside of --output-dir: refused")]
    Outside(String),
    #[error("output file {0}: its pieces do not fit together")]
    OutOfOrder(String),
    #[error("cannot write output file {path}: {source}")]
    Write { path: String, source: io::Error },
}

/// Writes output files below one directory, whatever their names are.
pub(super) struct FileSink {
    directory: OwnedFd,
    current: Option<Current>,
}

struct Current {
    path: String,
    file: File,
    written: u64,
}

impl FileSink {
    /// Below `directory`, which is made if it is not there.
    pub(super) fn open(directory: &Path) -> Result<Self, FilesError> {
        let failed = |source| FilesError::Directory {
            path: directory.to_owned(),
            source,
        };
        fs::create_dir_all(directory).map_err(failed)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory =
            openat(CWD, directory, flags, Mode::empty()).map_err(|error| failed(error.into()))?;
        Ok(Self {
            directory,
            current: None,
        })
    }

    /// Writes the next piece.
    pub(super) fn write(&mut self, piece: &OutputFile) -> Result<(), FilesError> {
        let shown = || printable(&piece.path);
        let failed = |source: io::Error| FilesError::Write {
            path: shown(),
            source,
        };
        let mut current = match self.current.take() {
            Some(current) if current.path == piece.path => current,
            None if piece.offset == 0 => Current {
                path: piece.path.clone(),
                file: self.create(piece)?,
                written: 0,
            },
            Some(_) | None => return Err(FilesError::OutOfOrder(shown())),
        };
        if current.written != piece.offset {
            return Err(FilesError::OutOfOrder(shown()));
        }
        current.file.write_all(&piece.content).map_err(failed)?;
        current.written += piece.content.len() as u64;
        if !piece.last {
            self.current = Some(current);
        }
        Ok(())
    }

    /// A new file in place of whatever but a directory has its name. No link is followed, whether
    /// it was there before or another piece's path hopes for one.
    fn create(&self, piece: &OutputFile) -> Result<File, FilesError> {
        let shown = || printable(&piece.path);
        let parts = parts(&piece.path).ok_or_else(|| FilesError::Outside(shown()))?;
        let mode = if piece.mode == 0 { 0o644 } else { piece.mode };
        create_below(&self.directory, &parts, mode & 0o777).map_err(|errno| match errno {
            Errno::LOOP | Errno::NOTDIR => FilesError::Outside(shown()),
            errno => FilesError::Write {
                path: shown(),
                source: errno.into(),
            },
        })
    }
}

/// The names on the way to the file; `None` for a path that leads out, or nowhere.
fn parts(path: &str) -> Option<Vec<&str>> {
    let parts: Option<Vec<&str>> = Path::new(path)
        .components()
        .filter(|part| *part != Component::CurDir)
        .map(|part| match part {
            Component::Normal(name) => name.to_str(),
            _ => None,
        })
        .collect();
    let honest = |parts: &Vec<&str>| {
        !parts.is_empty()
            && parts.len() <= MAX_DEPTH
            && !path.contains('\0')
            && !path.ends_with('/')
    };
    parts.filter(honest)
}

fn create_below(directory: &OwnedFd, parts: &[&str], mode: u32) -> Result<File, Errno> {
    let Some((name, above)) = parts.split_last() else {
        return Err(Errno::NOENT);
    };
    let enter = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut parent = directory.try_clone().map_err(|_| Errno::MFILE)?;
    for part in above {
        match mkdirat(&parent, *part, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
        parent = openat(&parent, *part, enter, Mode::empty())?;
    }
    match unlinkat(&parent, *name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(errno) => return Err(errno),
    }
    let make = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(&parent, *name, make, Mode::from_raw_mode(mode))?;
    Ok(File::from(file))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use tempfile::TempDir;

    use super::*;

    fn piece(path: &str, offset: u64, content: &'static [u8], last: bool) -> OutputFile {
        OutputFile {
            path: path.to_owned(),
            mode: 0o4755,
            size: 0,
            offset,
            content: content.into(),
            last,
        }
    }

    fn sink() -> (TempDir, PathBuf, FileSink) {
        let outer = TempDir::new().unwrap();
        let directory = outer.path().join("out");
        let sink = FileSink::open(&directory).unwrap();
        (outer, directory, sink)
    }

    #[test]
    fn pieces_become_files_with_their_permissions_and_never_setuid() {
        let (_outer, directory, mut sink) = sink();
        sink.write(&piece("a/b/c.bin", 0, b"one", false)).unwrap();
        sink.write(&piece("a/b/c.bin", 3, b"two", true)).unwrap();
        sink.write(&piece("./empty", 0, b"", true)).unwrap();
        let file = directory.join("a/b/c.bin");
        assert_eq!(fs::read(&file).unwrap(), b"onetwo");
        let mode = fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o7000, 0);
        assert_eq!(mode & 0o700, 0o700);
        assert_eq!(fs::read(directory.join("empty")).unwrap(), b"");
    }

    #[test]
    fn a_path_that_leads_out_or_nowhere_is_refused() {
        let (outer, _, mut sink) = sink();
        let deep = "d/".repeat(MAX_DEPTH) + "f";
        for path in [
            "",
            ".",
            "..",
            "/etc/x",
            "../x",
            "a/../../x",
            "a/..",
            "x/",
            "a\0b",
            &deep,
        ] {
            let refused = sink.write(&piece(path, 0, b"x", true));
            assert!(matches!(refused, Err(FilesError::Outside(_))), "{path:?}");
        }
        assert!(!outer.path().join("x").exists());
    }

    #[test]
    fn no_link_is_followed() {
        let (outer, directory, mut sink) = sink();
        let outside = outer.path().join("outside");
        fs::create_dir(&outside).unwrap();
        let target = outside.join("target");
        fs::write(&target, "kept").unwrap();
        symlink(&outside, directory.join("link")).unwrap();
        symlink(&target, directory.join("file")).unwrap();
        let refused = sink.write(&piece("link/target", 0, b"x", true));
        assert!(matches!(refused, Err(FilesError::Outside(_))));
        sink.write(&piece("file", 0, b"new", true)).unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"kept");
        assert_eq!(fs::read(directory.join("file")).unwrap(), b"new");
    }

    #[test]
    fn pieces_out_of_order_or_mixed_are_refused() {
        let mixed = [piece("a", 0, b"x", false), piece("b", 0, b"x", true)];
        let gap = [piece("a", 0, b"x", false), piece("a", 2, b"x", true)];
        let late = [piece("a", 0, b"x", true), piece("a", 1, b"x", true)];
        for [first, second] in [mixed, gap, late] {
            let (_outer, _, mut sink) = sink();
            sink.write(&first).unwrap();
            let refused = sink.write(&second);
            assert!(matches!(refused, Err(FilesError::OutOfOrder(_))));
        }
    }
}
