//! Why a file operation failed.

use std::{io, path::Path};

use crate::proto::agent::FileStatus;

/// What the operation's exit code and stderr are.
pub(in crate::agent) struct Failure {
    pub(in crate::agent) status: FileStatus,
    pub(in crate::agent) words: String,
}

impl Failure {
    pub(super) fn new(status: FileStatus, words: impl Into<String>) -> Self {
        Self {
            status,
            words: words.into(),
        }
    }

    pub(in crate::agent) fn not_a_file(path: &Path) -> Self {
        let what = if path.is_dir() {
            "it is a directory"
        } else {
            "it is neither a file nor a directory"
        };
        Self::new(FileStatus::NotAFile, what)
    }
}

impl From<FileStatus> for Failure {
    fn from(status: FileStatus) -> Self {
        Self::new(status, "")
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        let status = match error.raw_os_error() {
            Some(libc::ENOENT) => FileStatus::NotFound,
            Some(libc::EEXIST) => FileStatus::AlreadyExists,
            Some(libc::ENOSPC | libc::EDQUOT | libc::EFBIG) => FileStatus::Full,
            Some(libc::ENOTDIR) => FileStatus::NotADirectory,
            Some(libc::EISDIR | libc::ENXIO) => FileStatus::NotAFile,
            Some(libc::ENOTEMPTY) => FileStatus::NotEmpty,
            Some(
                libc::EACCES
                | libc::EPERM
                | libc::EROFS
                | libc::ETXTBSY
                | libc::EBUSY
                | libc::EXDEV
                | libc::EINVAL,
            ) => FileStatus::Denied,
            _ => FileStatus::Other,
        };
        Self::new(status, error.to_string())
    }
}
