//! What is done with files of a sandbox, other than by its programs.

/// One operation. All paths are absolute and normalised, and lie in one of the sandbox's
/// [`paths::VOLUMES`](super::paths::VOLUMES).
pub enum FileOperation {
    /// Gives a file's info and then its content.
    Read {
        /// The file.
        path: String,
        /// From here on, in bytes.
        offset: u64,
        /// So many bytes; `None`: to the end.
        length: Option<u64>,
    },
    /// Takes a file's content, and gives its info.
    Write {
        /// The file.
        path: String,
        /// Permission bits of a new file, 1 to 0o777.
        mode: u32,
        /// What becomes of an old one.
        how: WriteHow,
    },
    /// Gives the infos of a directory's entries, by name.
    List {
        /// The directory.
        path: String,
        /// Only names after this one.
        after: String,
        /// At most so many.
        limit: u32,
    },
    /// Gives the info of a path; a link is not followed.
    Stat {
        /// The path.
        path: String,
    },
    /// Makes a directory and those above it, and gives its info. It may be there already.
    MakeDirectory {
        /// The directory.
        path: String,
        /// Permission bits, 1 to 0o777.
        mode: u32,
    },
    /// Gives a path another name, and gives its info.
    Move {
        /// What is moved.
        from: String,
        /// Its new name.
        to: String,
        /// Whether a file that is there is replaced.
        replace: bool,
    },
    /// Gives a directory's content as a tar archive.
    Pack {
        /// The directory.
        path: String,
    },
    /// Takes a tar archive, unpacks it into a directory, and gives that directory's info.
    Unpack {
        /// The directory, which need not be there.
        path: String,
    },
    /// Removes a path.
    Remove {
        /// What is removed; of a link, the link.
        path: String,
        /// Whether a directory goes with all that is in it.
        recursive: bool,
    },
}

/// What becomes of the file that is written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteHow {
    /// A new one takes its place once all is written.
    Replace,
    /// There must be none.
    Create,
    /// It is written into, from this offset on; there must be one.
    At(u64),
}

/// Why an operation failed: the sandbox's claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileStatus {
    /// There is no such file, or no such directory above it.
    NotFound,
    /// It is there already.
    AlreadyExists,
    /// The volume is full.
    Full,
    /// It is no directory.
    NotADirectory,
    /// It has no content: a directory, a socket, a device.
    NotAFile,
    /// The directory is not empty.
    NotEmpty,
    /// A link leads out of the volumes.
    Outside,
    /// Its permissions do not allow it.
    Denied,
    /// It is no archive, or holds what is not unpacked.
    BadArchive,
    /// Something else.
    Other,
}

/// What is known of a path: the sandbox's claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathInfo {
    /// Where it is, absolute; links above it are followed.
    pub path: String,
    /// What it is.
    pub kind: PathKind,
    /// In bytes.
    pub size: u64,
    /// Permission bits.
    pub mode: u32,
    /// Nanoseconds since 1970.
    pub modified_ns: i64,
    /// Where a link leads to.
    pub target: String,
}

/// What a path is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Link,
    /// A socket, a device, a pipe.
    Special,
}
