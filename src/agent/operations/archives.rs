//! Whole directories as tar archives.
//!
//! The library reads and writes as others do, so each archive has a thread of its own, with a piece under way
//! between it and the execution's streams. It ends when the other side does.

use std::{
    error::Error,
    fs::{self, File},
    io::{self, BufWriter, Read, Write},
    path::{Component, Path, PathBuf},
    thread,
};

use bytes::{Buf, Bytes};
use tar::{Archive, Builder, EntryType, Header};
use tokio::sync::{mpsc, oneshot};

use super::{Failure, PIECE};
use crate::{agent::execution::Execution, proto::agent::FileStatus};

/// Gives an archive of all that is in a directory.
pub(super) async fn pack(streams: &Execution, directory: PathBuf) -> Result<(), Failure> {
    if !directory.is_dir() {
        return Err(FileStatus::NotADirectory.into());
    }
    let (to_streams, mut pieces) = mpsc::channel(1);
    let done = on_a_thread(move || {
        let mut builder = Builder::new(BufWriter::with_capacity(PIECE, Outlet(to_streams)));
        add_all(&mut builder, &directory, Path::new(""))?;
        builder.into_inner()?.flush()
    })?;
    while let Some(piece) = pieces.recv().await {
        streams.put(piece).await;
    }
    Ok(ended(done).await?)
}

/// Takes an archive, and unpacks it into a directory.
pub(super) async fn unpack(streams: &Execution, directory: PathBuf) -> Result<(), Failure> {
    let (to_archive, pieces) = mpsc::channel::<Bytes>(1);
    let done = on_a_thread(move || {
        let inlet = Inlet {
            pieces,
            piece: Bytes::new(),
        };
        unpack_all(Archive::new(inlet), &directory)
    })?;
    while let Some(piece) = streams.take_input().await {
        let length = piece.len();
        if to_archive.send(piece).await.is_err() {
            // It has ended, or failed.
            break;
        }
        streams.has_taken(length);
    }
    drop(to_archive);
    ended(done).await.map_err(|error| failure(&error))
}

/// What the library says is wrong: the system's own error is its cause, if there is one; else it is the archive.
fn failure(error: &io::Error) -> Failure {
    let mut innermost: &(dyn Error + 'static) = error;
    loop {
        let system = innermost
            .downcast_ref::<io::Error>()
            .and_then(io::Error::raw_os_error);
        if let Some(number) = system {
            return io::Error::from_raw_os_error(number).into();
        }
        match innermost.source() {
            Some(source) => innermost = source,
            None => return Failure::new(FileStatus::BadArchive, innermost.to_string()),
        }
    }
}

fn on_a_thread<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<oneshot::Receiver<T>> {
    let (sender, done) = oneshot::channel();
    let thread = thread::Builder::new();
    thread.spawn(move || {
        // The operation may have been given up.
        let _ = sender.send(work());
    })?;
    Ok(done)
}

async fn ended(done: oneshot::Receiver<io::Result<()>>) -> io::Result<()> {
    let crashed = |_| Err(io::Error::other("the thread crashed"));
    done.await.unwrap_or_else(crashed)
}

/// Adds all that is in `directory`, which the archive calls `name`. Sockets, pipes and what has gone meanwhile are
/// left out.
fn add_all<W: Write>(builder: &mut Builder<W>, directory: &Path, name: &Path) -> io::Result<()> {
    let mut entries: Vec<_> = fs::read_dir(directory)?.collect::<Result<_, _>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let (path, name) = (entry.path(), name.join(entry.file_name()));
        let Ok(metadata) = fs::symlink_metadata(&path) else {
            continue;
        };
        let mut header = Header::new_gnu();
        header.set_metadata(&metadata);
        if metadata.is_dir() {
            builder.append_data(&mut header, &name, io::empty())?;
            add_all(builder, &path, &name)?;
        } else if metadata.is_symlink() {
            header.set_size(0);
            let target = fs::read_link(&path)?;
            builder.append_link(&mut header, &name, target)?;
        } else if metadata.is_file()
            && let Ok(file) = File::open(&path)
        {
            // One that grows or shrinks meanwhile has the size that it is said to have.
            let content = file.chain(io::repeat(0)).take(metadata.len());
            builder.append_data(&mut header, &name, content)?;
        }
    }
    Ok(())
}

fn unpack_all(mut archive: Archive<Inlet>, directory: &Path) -> io::Result<()> {
    archive.set_preserve_mtime(true);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let kind = entry.header().entry_type();
        let name = || String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let is_known = matches!(
            kind,
            EntryType::Regular | EntryType::Directory | EntryType::Symlink | EntryType::Link
        );
        if !is_known {
            let words = format!("{:?} is neither a file nor a directory nor a link", name());
            return Err(io::Error::other(words));
        }
        let words = format!("{:?} leads out of the directory", name());
        let path = entry.path()?;
        let names = path
            .components()
            .filter(|it| matches!(it, Component::Normal(_)));
        let path = directory.join(names.collect::<PathBuf>());
        match entry.unpack_in(directory) {
            Ok(true) => {}
            Ok(false) => return Err(io::Error::other(words)),
            Err(error) => {
                if kind == EntryType::Regular {
                    remove_partial(&path, directory);
                }
                return Err(error);
            }
        }
    }
    Ok(())
}

/// Takes a file away that does not fit, or whose end did not come; not what a link leads to.
fn remove_partial(path: &Path, directory: &Path) {
    let (Some(Ok(parent)), Ok(directory)) = (
        path.parent().map(Path::canonicalize),
        directory.canonicalize(),
    ) else {
        return;
    };
    if parent.starts_with(directory) {
        // It may not have been begun.
        let _ = fs::remove_file(path);
    }
}

/// Where an archive is written to.
struct Outlet(mpsc::Sender<Bytes>);

impl Write for Outlet {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let piece = Bytes::copy_from_slice(data);
        match self.0.blocking_send(piece) {
            Ok(()) => Ok(data.len()),
            Err(_) => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Where an archive is read from.
struct Inlet {
    pieces: mpsc::Receiver<Bytes>,
    piece: Bytes,
}

impl Read for Inlet {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.pieces.blocking_recv() {
                Some(piece) => self.piece = piece,
                None => return Ok(0),
            }
        }
        let length = buffer.len().min(self.piece.len());
        self.piece.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}
