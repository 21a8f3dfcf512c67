//! `sandpool cp`: a file or a directory into a sandbox that lives on, or out of one.

mod tree;

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, IsTerminal, Read as _, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Args;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::{
    client::{ClientError, Connection, ServerArgs, printable},
    exit_code,
};
use crate::proto::v1::{
    ReadFileRequest, StatPathRequest, WriteFileRequest, WriteFileStart,
    file_service_client::FileServiceClient, path_info::Kind, read_file_response::Event as Read,
    write_file_request::Event as Content,
};

/// Bytes of content in one message.
const PIECE: usize = 256 * 1024;
/// Messages on their way to the server.
const MESSAGES: usize = 4;
/// How often progress is shown.
const SHOW_EVERY: Duration = Duration::from_millis(200);

#[derive(Args)]
#[command(override_usage = "sandpool cp [OPTIONS] LOCAL SANDBOX:PATH\n       \
                      sandpool cp [OPTIONS] SANDBOX:PATH LOCAL")]
pub(super) struct CpArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// A local file or directory, or SANDBOX:PATH: relative to /workspace, or in /workspace, /tmp or /home/sandbox.
    from: String,
    /// Where it goes; at a path that ends with / it keeps its name.
    to: String,
}

/// Why nothing was copied.
#[derive(Debug, thiserror::Error)]
enum CpError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("{path}: {source}", path = path.display())]
    Local { path: PathBuf, source: io::Error },
    #[error("one of the two must be SANDBOX:PATH, and the other one a local file")]
    NoSandbox,
    #[error("{0} names no file")]
    NoName(String),
    #[error("the server ended the file before its end")]
    Short,
}

/// A path in a sandbox.
struct Remote {
    sandbox_id: String,
    path: String,
}

impl Remote {
    /// SANDBOX:PATH, unless a slash comes first: then it is a local path.
    fn parse(text: &str) -> Option<Self> {
        let (sandbox, path) = text.split_once(':')?;
        (!sandbox.is_empty() && !sandbox.contains('/')).then(|| Self {
            sandbox_id: sandbox.to_owned(),
            path: path.to_owned(),
        })
    }
}

impl Remote {
    /// The same, with the name of `local` where only a directory is given.
    fn named_after(mut self, local: &Path) -> Result<Self, CpError> {
        if self.path.is_empty() || self.path.ends_with('/') {
            let name = local.file_name().and_then(|name| name.to_str());
            self.path += name.ok_or_else(|| CpError::NoName(local.display().to_string()))?;
        }
        Ok(self)
    }
}

pub(super) async fn main(args: CpArgs) -> ExitCode {
    exit_code(copy(args).await)
}

async fn copy(args: CpArgs) -> Result<(), CpError> {
    match (Remote::parse(&args.from), Remote::parse(&args.to)) {
        (None, Some(to)) => {
            let from = PathBuf::from(&args.from);
            let client = FileServiceClient::new(args.server.connect().await?);
            if from.is_dir() {
                return tree::upload(client, &from, to.named_after(&from)?).await;
            }
            upload(client, &from, to.named_after(&from)?).await
        }
        (Some(from), None) => {
            let to = PathBuf::from(&args.to);
            let into = args.to.ends_with('/') || to.is_dir();
            let to = if into {
                let name = from.path.rsplit('/').next().unwrap_or_default();
                if matches!(name, "" | "." | "..") {
                    return Err(CpError::NoName(args.from));
                }
                to.join(name)
            } else {
                to
            };
            let mut client = FileServiceClient::new(args.server.connect().await?);
            let stat = StatPathRequest {
                sandbox_id: from.sandbox_id.clone(),
                path: from.path.clone(),
            };
            let stat = client.stat_path(stat).await.map_err(ClientError::from)?;
            if stat.get_ref().kind() == Kind::Directory {
                return tree::download(client, from, &to).await;
            }
            download(client, from, &to).await
        }
        _ => Err(CpError::NoSandbox),
    }
}

fn local(path: &Path) -> impl Fn(io::Error) -> CpError {
    let path = path.to_owned();
    move |source| CpError::Local {
        path: path.clone(),
        source,
    }
}

async fn upload(
    mut client: FileServiceClient<Connection>,
    from: &Path,
    to: Remote,
) -> Result<(), CpError> {
    let failed = local(from);
    let mut file = File::open(from).map_err(&failed)?;
    let metadata = file.metadata().map_err(&failed)?;
    let (messages, requests) = mpsc::channel(MESSAGES);
    let message = |event| WriteFileRequest { event: Some(event) };
    let start = WriteFileStart {
        sandbox_id: to.sandbox_id,
        path: to.path,
        mode: metadata.permissions().mode() & 0o777,
        // So that half of it is never taken for the whole.
        size: metadata.is_file().then_some(metadata.len()),
        ..WriteFileStart::default()
    };
    let send = async {
        let mut progress = Progress::new(from.display().to_string(), Some(metadata.len()));
        let mut sent = messages.send(message(Content::Start(start))).await;
        // An error is the server's end of the call, which says why.
        while sent.is_ok() {
            let mut piece = vec![0; PIECE];
            let read = file.read(&mut piece).map_err(&failed)?;
            if read == 0 {
                break;
            }
            piece.truncate(read);
            progress.add(read);
            sent = messages.send(message(Content::Content(piece.into()))).await;
        }
        drop(messages);
        Ok(())
    };
    let write = async {
        let written = client.write_file(ReceiverStream::new(requests)).await;
        written.map_err(|status| CpError::Client(status.into()))
    };
    // Whichever fails first drops the other, and half a file is never seen.
    tokio::try_join!(write, send).map(|(_, ())| ())
}

async fn download(
    mut client: FileServiceClient<Connection>,
    from: Remote,
    to: &Path,
) -> Result<(), CpError> {
    let name = format!("{}:{}", from.sandbox_id, from.path);
    let request = ReadFileRequest {
        sandbox_id: from.sandbox_id,
        path: from.path,
        offset: 0,
        length: None,
    };
    let answer = client.read_file(request).await;
    let mut responses = answer.map_err(ClientError::from)?.into_inner();
    let failed = local(to);
    let mut part: Option<Part> = None;
    let mut progress = Progress::new(name, None);
    let (mut size, mut mode, mut length) = (0, 0o600, 0_u64);
    while let Some(response) = responses.message().await.map_err(ClientError::from)? {
        match (response.event, &mut part) {
            (Some(Read::Info(info)), None) => {
                (size, mode) = (info.size, info.mode & 0o777);
                progress.total = Some(size);
                part = Some(Part::beside(to).map_err(&failed)?);
            }
            (Some(Read::Content(piece)), Some(part)) => {
                part.file.write_all(&piece).map_err(&failed)?;
                length += piece.len() as u64;
                progress.add(piece.len());
            }
            _ => return Err(CpError::Short),
        }
    }
    let part = part.filter(|_| length >= size).ok_or(CpError::Short)?;
    part.becomes(to, mode).map_err(&failed)
}

/// A file that is not whole yet, which nobody else reads. It is removed unless it becomes the one that it
/// is to be.
struct Part {
    file: File,
    path: PathBuf,
    done: bool,
}

impl Part {
    fn beside(path: &Path) -> io::Result<Self> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let number = std::process::id();
        let path = path.with_file_name(format!(".{name}.{number}.part"));
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        Ok(Self {
            file,
            path,
            done: false,
        })
    }

    fn becomes(mut self, path: &Path, mode: u32) -> io::Result<()> {
        self.file.set_permissions(Permissions::from_mode(mode))?;
        fs::rename(&self.path, path)?;
        self.done = true;
        Ok(())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.done {
            // Whoever has removed it has saved us the work.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// A line on the terminal that tells how far it is.
struct Progress {
    name: String,
    /// Bytes in all; of a directory nobody knows.
    total: Option<u64>,
    done: u64,
    begun: Instant,
    shown: Option<Instant>,
    is_wanted: bool,
}

impl Progress {
    fn new(name: String, total: Option<u64>) -> Self {
        Self {
            name,
            total,
            done: 0,
            begun: Instant::now(),
            shown: None,
            is_wanted: io::stderr().is_terminal(),
        }
    }

    fn add(&mut self, bytes: usize) {
        self.done += bytes as u64;
        let due = self.shown.is_none_or(|at| at.elapsed() >= SHOW_EVERY);
        if self.is_wanted && due {
            self.shown = Some(Instant::now());
            self.show();
        }
    }

    fn show(&self) {
        let percent = self.total.map_or_else(String::new, |total| {
            let percent = (self.done * 100).checked_div(total).unwrap_or(100);
            format!("  {percent}%")
        });
        let done = self.done as f64 / f64::from(1 << 20);
        let rate = done / self.begun.elapsed().as_secs_f64().max(0.001);
        // Of a terminal that has gone nobody need be told.
        let _ = write!(
            io::stderr(),
            "\r\x1b[K{}{percent}  {done:.1} MiB  {rate:.1} MiB/s",
            printable(&self.name)
        );
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown.is_some() {
            self.show();
            let _ = writeln!(io::stderr());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sandbox_comes_before_a_colon_and_a_slash_makes_it_local() {
        let remote = Remote::parse("default-1:data/x.csv").map(|it| (it.sandbox_id, it.path));
        assert_eq!(
            remote,
            Some(("default-1".to_owned(), "data/x.csv".to_owned()))
        );
        for local in ["x.csv", "./a:b", "/tmp/a:b", ":x"] {
            assert!(Remote::parse(local).is_none(), "{local}");
        }
    }
}
