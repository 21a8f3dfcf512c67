//! Where a path leads to, links included.

use std::{
    fs::{self, FileType},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use super::Failure;
use crate::{
    agent::VOLUMES,
    proto::agent::{FileStatus, PathInfo, PathKind},
};

/// A path whose directory is the real one, without links.
pub(in crate::agent) struct Resolved {
    /// What the path names itself; a link is not followed.
    pub(super) itself: PathBuf,
    /// What it is, if it is there.
    pub(super) kind: Option<FileType>,
}

/// Finds out where a path is, whose file need not be there, nor need the directories above it.
pub(in crate::agent) fn resolve(path: &str) -> Result<Resolved, Failure> {
    let path = Path::new(path);
    if is_root(path) {
        return Ok(Resolved {
            itself: path.to_owned(),
            kind: Some(fs::metadata(path)?.file_type()),
        });
    }
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(FileStatus::Outside.into());
    };
    let itself = real(parent)?.join(name);
    inside(&itself)?;
    let kind = match fs::symlink_metadata(&itself) {
        Ok(metadata) => Some(metadata.file_type()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error.into()),
    };
    Ok(Resolved { itself, kind })
}

/// The real path of a directory, of which the last parts may not be there yet.
fn real(directory: &Path) -> Result<PathBuf, Failure> {
    match fs::canonicalize(directory) {
        Ok(real) => Ok(real),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // A link that leads nowhere is there.
            if fs::symlink_metadata(directory).is_ok() {
                return Err(error.into());
            }
            match (directory.parent(), directory.file_name()) {
                (Some(parent), Some(name)) => Ok(real(parent)?.join(name)),
                _ => Err(error.into()),
            }
        }
        Err(error) => Err(error.into()),
    }
}

impl Resolved {
    /// What it is or, if it is a link, what that leads to.
    pub(super) fn followed(self) -> Result<PathBuf, Failure> {
        let real = fs::canonicalize(&self.itself)?;
        inside(&real)?;
        Ok(real)
    }

    /// The same, and itself if nothing is there.
    pub(in crate::agent) fn followed_if_there(self) -> Result<PathBuf, Failure> {
        if self.kind.is_some() {
            self.followed()
        } else {
            Ok(self.itself)
        }
    }
}

pub(super) fn is_root(path: &Path) -> bool {
    VOLUMES.iter().any(|volume| path == Path::new(volume))
}

fn inside(path: &Path) -> Result<(), Failure> {
    if VOLUMES.iter().any(|volume| path.starts_with(volume)) {
        return Ok(());
    }
    let words = format!("a link leads to {}", path.display());
    Err(Failure::new(FileStatus::Outside, words))
}

/// What is told of a path; a link is not followed.
pub(super) fn info(path: &Path) -> Result<PathInfo, Failure> {
    let metadata = fs::symlink_metadata(path)?;
    let kind = metadata.file_type();
    let target = if kind.is_symlink() {
        fs::read_link(path)?.to_string_lossy().into_owned()
    } else {
        String::new()
    };
    Ok(PathInfo {
        path: path.to_string_lossy().into_owned(),
        kind: path_kind(kind).into(),
        size: metadata.len(),
        mode: metadata.mode() & 0o7777,
        modified_ns: metadata.mtime() * 1_000_000_000 + metadata.mtime_nsec(),
        target,
    })
}

fn path_kind(kind: FileType) -> PathKind {
    if kind.is_file() {
        PathKind::File
    } else if kind.is_dir() {
        PathKind::Directory
    } else if kind.is_symlink() {
        PathKind::Link
    } else {
        PathKind::Special
    }
}
