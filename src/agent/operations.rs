//! File operations: what the agent does itself, with a program's streams.

mod archives;
mod errors;
mod paths;

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io,
    os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use prost::Message;
use tokio::task::yield_now;

pub(super) use self::errors::Failure;
use self::paths::info;
pub(super) use self::paths::resolve;
use super::execution::Execution;
use crate::proto::agent::{
    FileOperation, FileStatus, ListDirectory, MakeDirectory, MovePath, PathInfo, ReadFile,
    RemovePath, StatPath, WriteFile, file_operation::Operation, write_file::How,
};

/// What is read or written at a time. The agent's one thread does nothing else meanwhile.
const PIECE: usize = 128 * 1024;

/// Does what is asked for, with the execution's streams.
pub(super) async fn perform(streams: &Execution, operation: FileOperation) -> Result<(), Failure> {
    match operation.operation {
        Some(Operation::Read(it)) => read(streams, it).await,
        Some(Operation::Write(it)) => write(streams, it).await,
        Some(Operation::List(it)) => list(streams, it).await,
        Some(Operation::Stat(StatPath { path })) => {
            let place = resolve(&path)?;
            tell(streams, info(&place.itself)?).await
        }
        Some(Operation::MakeDirectory(it)) => make_directory(streams, it).await,
        Some(Operation::Move(it)) => move_path(streams, it).await,
        Some(Operation::Remove(it)) => remove(it),
        Some(Operation::Pack(it)) => archives::pack(streams, resolve(&it.path)?.followed()?).await,
        Some(Operation::Unpack(it)) => {
            let path = resolve(&it.path)?.followed_if_there()?;
            fs::create_dir_all(&path)?;
            archives::unpack(streams, path.clone()).await?;
            tell(streams, info(&path)?).await
        }
        None => Err(Failure::new(
            FileStatus::Other,
            "this agent does not know the operation",
        )),
    }
}

async fn tell(streams: &Execution, info: PathInfo) -> Result<(), Failure> {
    streams
        .put(info.encode_length_delimited_to_vec().into())
        .await;
    Ok(())
}

async fn read(streams: &Execution, request: ReadFile) -> Result<(), Failure> {
    let path = resolve(&request.path)?.followed()?;
    // A pipe would wait for its other end.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(&path)?;
    if !file.metadata()?.is_file() {
        return Err(Failure::not_a_file(&path));
    }
    tell(streams, info(&path)?).await?;
    let mut offset = request.offset;
    let mut left = request.length.unwrap_or(u64::MAX);
    while left > 0 {
        let mut piece = vec![0; usize::try_from(left).unwrap_or(PIECE).min(PIECE)];
        let read = file.read_at(&mut piece, offset)?;
        if read == 0 {
            break;
        }
        piece.truncate(read);
        offset += read as u64;
        left -= read as u64;
        streams.put(piece.into()).await;
        yield_now().await;
    }
    Ok(())
}

/// A file that vanishes unless it is given its name.
struct Unfinished {
    file: File,
    path: PathBuf,
    done: bool,
}

impl Unfinished {
    /// Beside what it is to become.
    fn create(beside: &Path, mode: u32) -> Result<Self, Failure> {
        let name = beside.file_name().unwrap_or_default();
        // Of a long name only a part fits with what makes it another one.
        let name: String = name.to_string_lossy().chars().take(40).collect();
        for number in 0_u32.. {
            let path = beside.with_file_name(format!(".{name}.{number}.part"));
            let file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(mode)
                .open(&path);
            match file {
                Ok(file) => {
                    return Ok(Self {
                        file,
                        path,
                        done: false,
                    });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(FileStatus::AlreadyExists.into())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.done {
            // A program may have removed it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

async fn write(streams: &Execution, request: WriteFile) -> Result<(), Failure> {
    let place = resolve(&request.path)?;
    if matches!(request.how, Some(How::Create(_))) && place.kind.is_some() {
        return Err(FileStatus::AlreadyExists.into());
    }
    let path = place.followed_if_there()?;
    if path.is_dir() {
        return Err(Failure::not_a_file(&path));
    }
    if let Some(How::Offset(offset)) = request.how {
        let file = OpenOptions::new()
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(&path)?;
        if !file.metadata()?.is_file() {
            return Err(Failure::not_a_file(&path));
        }
        fill(streams, &file, offset).await?;
        return tell(streams, info(&path)?).await;
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let mut unfinished = Unfinished::create(&path, request.mode)?;
    fill(streams, &unfinished.file, 0).await?;
    // What the process's umask has taken away.
    rustix::fs::fchmod(&unfinished.file, request.mode.into()).map_err(io::Error::from)?;
    if matches!(request.how, Some(How::Create(_))) {
        // Unlike rename, it never replaces.
        fs::hard_link(&unfinished.path, &path)?;
    } else {
        fs::rename(&unfinished.path, &path)?;
        unfinished.done = true;
    }
    tell(streams, info(&path)?).await
}

/// Writes all input into a file.
async fn fill(streams: &Execution, file: &File, mut offset: u64) -> Result<(), Failure> {
    while let Some(piece) = streams.take_input().await {
        file.write_all_at(&piece, offset)?;
        offset += piece.len() as u64;
        streams.has_taken(piece.len());
        yield_now().await;
    }
    Ok(())
}

async fn list(streams: &Execution, request: ListDirectory) -> Result<(), Failure> {
    let path = resolve(&request.path)?.followed()?;
    // By the text that clients see of them, of which the next page goes on.
    let mut names = Vec::new();
    for entry in fs::read_dir(&path)? {
        let name = entry?.file_name();
        let text = name.to_string_lossy().into_owned();
        if text > request.after {
            names.push((text, name));
        }
    }
    names.sort_unstable();
    let mut left = request.limit;
    for names in names.chunks(100) {
        let mut piece = Vec::new();
        for (_, name) in names {
            // It may have gone meanwhile.
            if let Some(info) = info(&path.join(name)).ok().filter(|_| left > 0) {
                piece.extend(info.encode_length_delimited_to_vec());
                left -= 1;
            }
        }
        streams.put(piece.into()).await;
        if left == 0 {
            break;
        }
        yield_now().await;
    }
    Ok(())
}

async fn make_directory(streams: &Execution, request: MakeDirectory) -> Result<(), Failure> {
    let path = resolve(&request.path)?.followed_if_there()?;
    let made = path.ancestors().take_while(|it| !it.exists());
    let made: Vec<_> = made.map(Path::to_owned).collect();
    fs::DirBuilder::new()
        .recursive(true)
        .mode(request.mode)
        .create(&path)?;
    // What the process's umask has taken away.
    for directory in made {
        fs::set_permissions(directory, Permissions::from_mode(request.mode))?;
    }
    tell(streams, info(&path)?).await
}

async fn move_path(streams: &Execution, request: MovePath) -> Result<(), Failure> {
    let from = resolve(&request.from)?;
    let to = resolve(&request.to)?;
    if from.kind.is_none() {
        return Err(FileStatus::NotFound.into());
    }
    if to.kind.is_some() && !request.replace {
        return Err(FileStatus::AlreadyExists.into());
    }
    fs::rename(&from.itself, &to.itself)?;
    tell(streams, info(&to.itself)?).await
}

fn remove(request: RemovePath) -> Result<(), Failure> {
    let place = resolve(&request.path)?;
    let path = &place.itself;
    if paths::is_root(path) {
        return Err(Failure::new(
            FileStatus::Denied,
            "it is one of the sandbox's volumes",
        ));
    }
    let is_directory = fs::symlink_metadata(path)?.is_dir();
    match (is_directory, request.recursive) {
        (false, _) => fs::remove_file(path)?,
        (true, false) => fs::remove_dir(path)?,
        (true, true) => fs::remove_dir_all(path)?,
    }
    Ok(())
}
