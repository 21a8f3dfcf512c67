//! FileService: files of sandboxes that live on.

use std::{pin::Pin, sync::Arc};

use bytes::Bytes;
use tokio::{sync::mpsc, task::yield_now};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Extensions, Request, Response, Status, Streaming};

use super::{access::identity, status::Refusal, translate::path, violations::InvalidRequest};
use crate::{
    dispatch::{Dispatcher, NamedSandbox},
    execution::{FileOperation, WriteHow},
    proto::v1::{
        self, file_service_server::FileService, read_file_response::Event as ReadEvent,
        upload_archive_request::Event as UploadEvent, write_file_request::Event as WriteEvent,
    },
    sandbox::{FileOutput, Input, OperationError},
};

/// How many entries of a directory a page has: of a request that does not say, and at most.
const PAGE: u32 = 1000;
const MAX_PAGE: u32 = 10_000;
/// Bytes of entries on a page: with it, an answer stays below the 4 MiB that clients take.
const MAX_PAGE_BYTES: usize = 3 << 20;
/// Most bytes of content in one message.
const MAX_CONTENT_BYTES: usize = 1 << 20;
const DEFAULT_FILE_MODE: u32 = 0o644;
const DEFAULT_DIRECTORY_MODE: u32 = 0o755;
/// Messages on their way, in either direction.
const MESSAGES: usize = 2;

/// Reads and writes files.
pub struct Files {
    /// Where the sandboxes are.
    pub dispatcher: Arc<Dispatcher>,
}

impl Files {
    fn find(&self, extensions: &Extensions, id: &str) -> Result<Arc<NamedSandbox>, Refusal> {
        let caller = &identity(extensions)?.name;
        Ok(self.dispatcher.sandbox(caller, id)?)
    }

    /// Does what takes no content and gives infos.
    async fn infos(
        &self,
        sandbox: Arc<NamedSandbox>,
        operation: FileOperation,
    ) -> Result<Infos, Status> {
        let mut operation = self
            .dispatcher
            .operate(sandbox, operation)
            .map_err(Refusal::from)?;
        let infos = collect(&mut operation.output).await;
        operation.ended().await.map_err(Refusal::from)?;
        Ok(infos)
    }

    /// Does what takes content and gives one info. `size`: how much content there must be, if that is known.
    async fn take<M: Message>(
        &self,
        mut messages: Streaming<M>,
        sandbox: Arc<NamedSandbox>,
        operation: FileOperation,
        size: Option<u64>,
    ) -> Result<Response<v1::PathInfo>, Status> {
        let operation = self.dispatcher.operate(sandbox, operation);
        let mut operation = operation.map_err(Refusal::from)?;
        let content = operation.input.clone();
        let send = async {
            send_content(&mut messages, &content, size).await?;
            // A call that was cancelled looks as one that was ended: this is where the first is dropped
            // (hyper looks for a reset whenever its handler waits).
            yield_now().await;
            // All is there. The operation may have ended before, and says why.
            let _ = content.send(Input::Close).await;
            std::future::pending::<Result<(), Status>>().await
        };
        let mut infos = tokio::select! {
            infos = collect(&mut operation.output) => infos.infos,
            // Dropped, the operation is given up.
            wrong = send => return Err(wrong.err().unwrap_or_else(nothing_said)),
        };
        operation.ended().await.map_err(Refusal::from)?;
        infos.pop().map(Response::new).ok_or_else(nothing_said)
    }

    /// Does what gives a stream.
    async fn give<R: Send + 'static>(
        &self,
        sandbox: Arc<NamedSandbox>,
        operation: FileOperation,
        response: fn(FileOutput) -> R,
    ) -> Result<ReceiverStream<Result<R, Status>>, Status> {
        let operation = self.dispatcher.operate(sandbox, operation);
        let mut operation = operation.map_err(Refusal::from)?;
        // What fails at once is the call's own error, and no stream's.
        let first = operation.output.recv().await;
        let (to_client, responses) = mpsc::channel(MESSAGES);
        if first.is_none() {
            operation.ended().await.map_err(Refusal::from)?;
            return Ok(ReceiverStream::new(responses));
        }
        // Ends with the operation, or when the client goes away.
        tokio::spawn(async move {
            let mut next = first;
            while let Some(output) = next {
                if to_client.send(Ok(response(output))).await.is_err() {
                    return;
                }
                next = operation.output.recv().await;
            }
            if let Err(error) = operation.ended().await {
                // The client may have gone.
                let _ = to_client.send(Err(Refusal::from(error).into())).await;
            }
        });
        Ok(ReceiverStream::new(responses))
    }

    async fn one_info(
        &self,
        sandbox: Arc<NamedSandbox>,
        operation: FileOperation,
    ) -> Result<Response<v1::PathInfo>, Status> {
        let mut infos = self.infos(sandbox, operation).await?.infos;
        infos.pop().map(Response::new).ok_or_else(nothing_said)
    }
}

/// A message of a call that sends content.
trait Message {
    /// What it is, if it is anything.
    fn content(self) -> Option<Content>;
}

enum Content {
    Start,
    Piece(Bytes),
}

impl Message for v1::WriteFileRequest {
    fn content(self) -> Option<Content> {
        Some(match self.event? {
            WriteEvent::Start(_) => Content::Start,
            WriteEvent::Content(piece) => Content::Piece(piece),
        })
    }
}

impl Message for v1::UploadArchiveRequest {
    fn content(self) -> Option<Content> {
        Some(match self.event? {
            UploadEvent::Start(_) => Content::Start,
            UploadEvent::Content(piece) => Content::Piece(piece),
        })
    }
}

/// The infos, as many as fit into an answer.
async fn collect(received: &mut mpsc::Receiver<FileOutput>) -> Infos {
    let mut infos = Vec::new();
    let mut all = true;
    let mut bytes = 0;
    while let Some(output) = received.recv().await {
        if let FileOutput::Info(info) = output {
            bytes += info.path.len() + info.target.len() + 64;
            all &= bytes <= MAX_PAGE_BYTES;
            if all {
                infos.push(path::info(info));
            }
        }
    }
    Infos { infos, all }
}

struct Infos {
    infos: Vec<v1::PathInfo>,
    /// Whether none was left out.
    all: bool,
}

fn nothing_said() -> Status {
    Refusal::Operation(OperationError::Lost("it says nothing of the path".into())).into()
}

#[async_trait::async_trait]
impl FileService for Files {
    type ReadFileStream = Pin<Box<dyn Stream<Item = Result<v1::ReadFileResponse, Status>> + Send>>;

    async fn read_file(
        &self,
        request: Request<v1::ReadFileRequest>,
    ) -> Result<Response<Self::ReadFileStream>, Status> {
        let (_, extensions, request) = request.into_parts();
        let sandbox = self.find(&extensions, &request.sandbox_id)?;
        let operation = FileOperation::Read {
            path: path::path("path", &request.path).map_err(Refusal::from)?,
            offset: request.offset,
            length: request.length,
        };
        let responses = self.give(sandbox, operation, |output| v1::ReadFileResponse {
            event: Some(match output {
                FileOutput::Info(info) => ReadEvent::Info(path::info(info)),
                FileOutput::Content(content) => ReadEvent::Content(content),
            }),
        });
        Ok(Response::new(Box::pin(responses.await?)))
    }

    async fn write_file(
        &self,
        request: Request<Streaming<v1::WriteFileRequest>>,
    ) -> Result<Response<v1::PathInfo>, Status> {
        let (_, extensions, mut messages) = request.into_parts();
        let first = messages.message().await?.and_then(|message| message.event);
        let Some(WriteEvent::Start(start)) = first else {
            return Err(no_start());
        };
        let sandbox = self.find(&extensions, &start.sandbox_id)?;
        let size = start.size;
        let operation = write(start).map_err(Refusal::from)?;
        self.take(messages, sandbox, operation, size).await
    }

    async fn upload_archive(
        &self,
        request: Request<Streaming<v1::UploadArchiveRequest>>,
    ) -> Result<Response<v1::PathInfo>, Status> {
        let (_, extensions, mut messages) = request.into_parts();
        let first = messages.message().await?.and_then(|message| message.event);
        let Some(UploadEvent::Start(start)) = first else {
            return Err(no_start());
        };
        let sandbox = self.find(&extensions, &start.sandbox_id)?;
        let operation = FileOperation::Unpack {
            path: path::path("start.path", &start.path).map_err(Refusal::from)?,
        };
        self.take(messages, sandbox, operation, None).await
    }

    type DownloadArchiveStream =
        Pin<Box<dyn Stream<Item = Result<v1::DownloadArchiveResponse, Status>> + Send>>;

    async fn download_archive(
        &self,
        request: Request<v1::DownloadArchiveRequest>,
    ) -> Result<Response<Self::DownloadArchiveStream>, Status> {
        let (_, extensions, request) = request.into_parts();
        let sandbox = self.find(&extensions, &request.sandbox_id)?;
        let operation = FileOperation::Pack {
            path: path::path("path", &request.path).map_err(Refusal::from)?,
        };
        let responses = self.give(sandbox, operation, |output| v1::DownloadArchiveResponse {
            content: match output {
                FileOutput::Content(content) => content,
                FileOutput::Info(_) => Bytes::new(),
            },
        });
        Ok(Response::new(Box::pin(responses.await?)))
    }

    async fn list_directory(
        &self,
        request: Request<v1::ListDirectoryRequest>,
    ) -> Result<Response<v1::ListDirectoryResponse>, Status> {
        let (_, extensions, request) = request.into_parts();
        let sandbox = self.find(&extensions, &request.sandbox_id)?;
        let limit = match request.page_size {
            0 => PAGE,
            size => size.min(MAX_PAGE),
        };
        let operation = FileOperation::List {
            path: path::path("path", &request.path).map_err(Refusal::from)?,
            after: request.page_token,
            // One more tells whether there is a next page.
            limit: limit + 1,
        };
        let Infos {
            infos: mut entries,
            all,
        } = self.infos(sandbox, operation).await?;
        let more = !all || entries.len() > limit as usize;
        entries.truncate(limit as usize);
        let last = entries.last().filter(|_| more);
        let name = last.and_then(|last| last.path.rsplit('/').next());
        Ok(Response::new(v1::ListDirectoryResponse {
            next_page_token: name.unwrap_or_default().to_owned(),
            entries,
        }))
    }

    async fn stat_path(
        &self,
        request: Request<v1::StatPathRequest>,
    ) -> Result<Response<v1::PathInfo>, Status> {
        let (_, extensions, request) = request.into_parts();
        let sandbox = self.find(&extensions, &request.sandbox_id)?;
        let path = path::path("path", &request.path).map_err(Refusal::from)?;
        self.one_info(sandbox, FileOperation::Stat { path }).await
    }

    async fn make_directory(
        &self,
        request: Request<v1::MakeDirectoryRequest>,
    ) -> Result<Response<v1::PathInfo>, Status> {
        let (_, extensions, request) = request.into_parts();
        let sandbox = self.find(&extensions, &request.sandbox_id)?;
        let operation = FileOperation::MakeDirectory {
            path: path::path("path", &request.path).map_err(Refusal::from)?,
            mode: path::mode("mode", request.mode, DEFAULT_DIRECTORY_MODE)
                .map_err(Refusal::from)?,
        };
        self.one_info(sandbox, operation).await
    }

    async fn move_path(
        &self,
        request: Request<v1::MovePathRequest>,
    ) -> Result<Response<v1::PathInfo>, Status> {
        let (_, extensions, request) = request.into_parts();
        let sandbox = self.find(&extensions, &request.sandbox_id)?;
        let operation = FileOperation::Move {
            from: path::path("from", &request.from).map_err(Refusal::from)?,
            to: path::path("to", &request.to).map_err(Refusal::from)?,
            replace: request.replace,
        };
        self.one_info(sandbox, operation).await
    }

    async fn remove_path(
        &self,
        request: Request<v1::RemovePathRequest>,
    ) -> Result<Response<v1::RemovePathResponse>, Status> {
        let (_, extensions, request) = request.into_parts();
        let sandbox = self.find(&extensions, &request.sandbox_id)?;
        let operation = FileOperation::Remove {
            path: path::path("path", &request.path).map_err(Refusal::from)?,
            recursive: request.recursive,
        };
        self.infos(sandbox, operation).await?;
        Ok(Response::new(v1::RemovePathResponse {}))
    }
}

fn write(start: v1::WriteFileStart) -> Result<FileOperation, InvalidRequest> {
    use v1::write_file_start::How;
    let how = match How::try_from(start.how) {
        Ok(How::Replace) => WriteHow::Replace,
        Ok(How::Create) => WriteHow::Create,
        Ok(How::Update) => WriteHow::At(start.offset),
        Err(_) => {
            let text = format!("{} is unknown: give REPLACE, CREATE or UPDATE", start.how);
            return Err(InvalidRequest::of("start.how", text));
        }
    };
    if start.offset != 0 && !matches!(how, WriteHow::At(_)) {
        let text = format!("{} is for UPDATE only: leave it out", start.offset);
        return Err(InvalidRequest::of("start.offset", text));
    }
    Ok(FileOperation::Write {
        path: path::path("start.path", &start.path)?,
        mode: path::mode("start.mode", start.mode, DEFAULT_FILE_MODE)?,
        how,
    })
}

/// Passes the content on; an error says what is wrong with it, or that the client has gone.
async fn send_content<M: Message>(
    messages: &mut Streaming<M>,
    content: &mpsc::Sender<Input>,
    size: Option<u64>,
) -> Result<(), Status> {
    let mut sent = 0;
    while let Some(message) = messages.message().await? {
        let piece = match message.content() {
            Some(Content::Piece(piece)) => piece,
            Some(Content::Start) => {
                return Err(wrong(
                    "start",
                    "came a second time: make another call for another file",
                ));
            }
            None => return Err(wrong("event", "is missing: set content")),
        };
        if piece.len() > MAX_CONTENT_BYTES {
            let text = format!(
                "has {} bytes, where at most {MAX_CONTENT_BYTES} are allowed in a message: send it in pieces",
                piece.len()
            );
            return Err(wrong("content", &text));
        }
        sent += piece.len() as u64;
        if size.is_some_and(|size| sent > size) {
            return Err(not_of_size(sent, size));
        }
        if content.send(Input::Data(piece)).await.is_err() {
            // The operation has ended, and says why.
            std::future::pending::<()>().await;
        }
    }
    if size.is_some_and(|size| sent < size) {
        return Err(not_of_size(sent, size));
    }
    Ok(())
}

fn not_of_size(sent: u64, size: Option<u64>) -> Status {
    let size = size.unwrap_or_default();
    let text = format!("{size} is not what was sent, which is {sent} bytes: nothing was written");
    wrong("start.size", &text)
}

fn no_start() -> Status {
    wrong("start", "is missing: the first message must be start")
}

fn wrong(field: &str, text: &str) -> Status {
    Refusal::from(InvalidRequest::of(field, text.to_owned())).into()
}
