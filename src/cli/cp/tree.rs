//! Whole directories: as archives, which are made and unpacked on a thread.

use std::{
    fs,
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use bytes::{Buf, Bytes};
use tar::{Archive, Builder, EntryType};
use tokio::{sync::mpsc, task::spawn_blocking};
use tokio_stream::wrappers::ReceiverStream;

use super::{CpError, MESSAGES, PIECE, Progress, Remote, local};
use crate::{
    cli::{
        client::{ClientError, Connection},
        say::complain,
    },
    proto::v1::{
        DownloadArchiveRequest, UploadArchiveRequest, UploadArchiveStart,
        file_service_client::FileServiceClient, upload_archive_request::Event,
    },
};

/// Sends all that is in a directory.
pub(super) async fn upload(
    mut client: FileServiceClient<Connection>,
    from: &Path,
    to: Remote,
) -> Result<(), CpError> {
    let (messages, requests) = mpsc::channel(MESSAGES);
    let message = |event| UploadArchiveRequest { event: Some(event) };
    let start = UploadArchiveStart {
        sandbox_id: to.sandbox_id,
        path: to.path,
    };
    // There is room: the queue is new.
    let _ = messages.send(message(Event::Start(start))).await;
    let directory = from.to_owned();
    let progress = Progress::new(from.display().to_string(), None);
    let send = async {
        let packed = spawn_blocking(move || {
            let outlet = io::BufWriter::with_capacity(PIECE, Outlet(messages, progress));
            let mut builder = Builder::new(outlet);
            builder.follow_symlinks(false);
            builder.append_dir_all(".", &directory)?;
            builder.into_inner()?.flush()
        });
        match packed.await {
            // The server has ended the call, and says why.
            Ok(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
                std::future::pending().await
            }
            Ok(packed) => packed.map_err(local(from)),
            Err(error) => Err(local(from)(error.into())),
        }
    };
    let write = async {
        let written = client.upload_archive(ReceiverStream::new(requests)).await;
        written.map_err(|status| CpError::Client(status.into()))
    };
    tokio::try_join!(write, send).map(|(_, ())| ())
}

/// Fetches all that is in a directory: files and directories, and nothing that leads anywhere else.
pub(super) async fn download(
    mut client: FileServiceClient<Connection>,
    from: Remote,
    to: &Path,
) -> Result<(), CpError> {
    let mut progress = Progress::new(format!("{}:{}", from.sandbox_id, from.path), None);
    let request = DownloadArchiveRequest {
        sandbox_id: from.sandbox_id,
        path: from.path,
    };
    let answer = client.download_archive(request).await;
    let mut responses = answer.map_err(ClientError::from)?.into_inner();
    let (pieces, received) = mpsc::channel::<Bytes>(MESSAGES);
    let directory = to.to_owned();
    let unpack = spawn_blocking(move || unpack(received, &directory));
    while let Some(response) = responses.message().await.map_err(ClientError::from)? {
        progress.add(response.content.len());
        if pieces.send(response.content).await.is_err() {
            break;
        }
    }
    drop((pieces, progress));
    let left_out = match unpack.await {
        Ok(unpacked) => unpacked.map_err(local(to))?,
        Err(error) => return Err(local(to)(error.into())),
    };
    if left_out > 0 {
        complain(format_args!("{left_out} links were left out"));
    }
    Ok(())
}

/// How many entries were left out.
fn unpack(received: mpsc::Receiver<Bytes>, directory: &PathBuf) -> io::Result<u32> {
    fs::create_dir_all(directory)?;
    let mut left_out = 0;
    let mut archive = Archive::new(Inlet(received, Bytes::new()));
    for entry in archive.entries()? {
        let mut entry = entry?;
        let kind = entry.header().entry_type();
        let is_taken = matches!(kind, EntryType::Regular | EntryType::Directory);
        // False: its name leads out of the directory.
        if !is_taken || !entry.unpack_in(directory)? {
            left_out += 1;
        }
    }
    Ok(left_out)
}

/// Where an archive is written to.
struct Outlet(mpsc::Sender<UploadArchiveRequest>, Progress);

impl Write for Outlet {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let event = Some(Event::Content(Bytes::copy_from_slice(data)));
        let sent = self.0.blocking_send(UploadArchiveRequest { event });
        sent.map_err(|_| io::ErrorKind::BrokenPipe)?;
        self.1.add(data.len());
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Where an archive is read from.
struct Inlet(mpsc::Receiver<Bytes>, Bytes);

impl Read for Inlet {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.1.is_empty() {
            match self.0.blocking_recv() {
                Some(piece) => self.1 = piece,
                None => return Ok(0),
            }
        }
        let length = buffer.len().min(self.1.len());
        self.1.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}
