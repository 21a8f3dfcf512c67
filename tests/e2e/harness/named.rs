//! Sandboxes that live on, and their files.

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::{Client, soon, v1};
use v1::{read_file_response::Event as Read, write_file_request::Event as Write};

/// A named sandbox, which is deleted by [`Self::delete`]; that of a test that fails ends a minute later.
pub struct Named {
    client: Client,
    pub id: String,
}

impl Client {
    /// Creates one in the pool that is for them.
    pub async fn named(&self) -> Named {
        self.named_with(|_| {}).await
    }

    /// The same, with something else asked for.
    pub async fn named_with(&self, change: impl FnOnce(&mut v1::CreateSandboxRequest)) -> Named {
        let created = self.try_named(change).await;
        let created = created.unwrap_or_else(|status| panic!("refused: {status}"));
        Named {
            client: self.clone(),
            id: created.sandbox_id,
        }
    }

    pub async fn try_named(
        &self,
        change: impl FnOnce(&mut v1::CreateSandboxRequest),
    ) -> Result<v1::Sandbox, Status> {
        let mut request = v1::CreateSandboxRequest {
            pool: "named".into(),
            ..Default::default()
        };
        change(&mut request);
        let created = soon("a sandbox", self.sandboxes.clone().create_sandbox(request)).await?;
        Ok(created.into_inner())
    }

    pub async fn get_named(&self, id: &str) -> Result<v1::Sandbox, Status> {
        let request = v1::GetSandboxRequest {
            sandbox_id: id.into(),
        };
        let found = soon("an answer", self.sandboxes.clone().get_sandbox(request)).await?;
        Ok(found.into_inner())
    }

    pub async fn delete_named(&self, id: &str) -> Result<(), Status> {
        let request = v1::DeleteSandboxRequest {
            sandbox_id: id.into(),
        };
        soon("its end", self.sandboxes.clone().delete_sandbox(request)).await?;
        Ok(())
    }

    /// Begins to write a file: what it is, and then what is sent. Dropped, the sender is its end.
    pub fn begin_write(
        &self,
        start: v1::WriteFileStart,
    ) -> (
        mpsc::Sender<Bytes>,
        impl Future<Output = Result<v1::PathInfo, Status>> + Send + 'static,
    ) {
        let (content, mut pieces) = mpsc::channel::<Bytes>(1);
        let (messages, requests) = mpsc::channel(1);
        let request = |event| v1::WriteFileRequest { event: Some(event) };
        tokio::spawn(async move {
            let mut sent = messages.send(request(Write::Start(start))).await;
            while let (Ok(()), Some(piece)) = (sent, pieces.recv().await) {
                sent = messages.send(request(Write::Content(piece))).await;
            }
        });
        let mut files = self.files.clone();
        let written = async move {
            let answer = files.write_file(ReceiverStream::new(requests)).await?;
            Ok(answer.into_inner())
        };
        (content, written)
    }
}

impl Named {
    pub async fn get(&self) -> v1::Sandbox {
        self.client.get_named(&self.id).await.unwrap()
    }

    pub async fn delete(self) {
        self.client.delete_named(&self.id).await.unwrap();
    }

    /// A context here.
    /// The same sandbox, for whoever that client is.
    pub fn seen_by(&self, client: &Client) -> Self {
        Self {
            client: client.clone(),
            id: self.id.clone(),
        }
    }

    pub async fn context(&self) -> v1::Context {
        let created = self.try_context(|_| {}).await;
        created.unwrap_or_else(|status| panic!("refused: {status}"))
    }

    pub async fn try_context(
        &self,
        change: impl FnOnce(&mut v1::CreateContextRequest),
    ) -> Result<v1::Context, Status> {
        let mut request = v1::CreateContextRequest {
            sandbox_id: self.id.clone(),
            ..Default::default()
        };
        change(&mut request);
        let mut sandboxes = self.client.sandboxes.clone();
        let created = soon("a context", sandboxes.create_context(request)).await?;
        Ok(created.into_inner())
    }

    pub async fn contexts(&self) -> Vec<v1::Context> {
        let request = v1::ListContextsRequest {
            sandbox_id: self.id.clone(),
        };
        let mut sandboxes = self.client.sandboxes.clone();
        let listed = soon("a list", sandboxes.list_contexts(request)).await;
        listed.unwrap().into_inner().contexts
    }

    pub async fn delete_context(&self, id: &str) -> Result<(), Status> {
        let request = v1::DeleteContextRequest {
            sandbox_id: self.id.clone(),
            context_id: id.into(),
        };
        let mut sandboxes = self.client.sandboxes.clone();
        soon("its end", sandboxes.delete_context(request)).await?;
        Ok(())
    }

    /// A file to be written here.
    pub fn file(&self, path: &str) -> v1::WriteFileStart {
        v1::WriteFileStart {
            sandbox_id: self.id.clone(),
            path: path.into(),
            ..Default::default()
        }
    }

    pub async fn write(&self, path: &str, content: &[u8]) -> Result<v1::PathInfo, Status> {
        self.write_as(self.file(path), content).await
    }

    pub async fn write_as(
        &self,
        start: v1::WriteFileStart,
        content: &[u8],
    ) -> Result<v1::PathInfo, Status> {
        let (pieces, written) = self.client.begin_write(start);
        let written = tokio::spawn(written);
        for piece in content.chunks(1 << 18) {
            // It may have failed already.
            let _ = pieces.send(Bytes::copy_from_slice(piece)).await;
        }
        drop(pieces);
        soon("its end", written).await.unwrap()
    }

    pub async fn begin_read(
        &self,
        path: &str,
        offset: u64,
        length: Option<u64>,
    ) -> Result<(v1::PathInfo, Streaming<v1::ReadFileResponse>), Status> {
        let request = v1::ReadFileRequest {
            sandbox_id: self.id.clone(),
            path: path.into(),
            offset,
            length,
        };
        let mut files = self.client.files.clone();
        let answer = soon("an answer", files.read_file(request)).await?;
        let mut responses = answer.into_inner();
        let first = soon("the info", responses.message()).await?;
        match first.and_then(|first| first.event) {
            Some(Read::Info(info)) => Ok((info, responses)),
            _ => panic!("the info comes first"),
        }
    }

    pub async fn read(&self, path: &str) -> Result<Vec<u8>, Status> {
        let (_, responses) = self.begin_read(path, 0, None).await?;
        content(responses).await
    }

    pub async fn stat(&self, path: &str) -> Result<v1::PathInfo, Status> {
        let request = v1::StatPathRequest {
            sandbox_id: self.id.clone(),
            path: path.into(),
        };
        let found = soon("an answer", self.client.files.clone().stat_path(request)).await?;
        Ok(found.into_inner())
    }

    pub async fn list(
        &self,
        path: &str,
        page_size: u32,
        page_token: &str,
    ) -> Result<v1::ListDirectoryResponse, Status> {
        let request = v1::ListDirectoryRequest {
            sandbox_id: self.id.clone(),
            path: path.into(),
            page_size,
            page_token: page_token.into(),
        };
        let mut files = self.client.files.clone();
        let page = soon("a page", files.list_directory(request)).await?;
        Ok(page.into_inner())
    }

    /// Of the default mode where that is 0.
    pub async fn make_directory(&self, path: &str, mode: u32) -> Result<v1::PathInfo, Status> {
        let request = v1::MakeDirectoryRequest {
            sandbox_id: self.id.clone(),
            path: path.into(),
            mode,
        };
        let mut files = self.client.files.clone();
        let made = soon("an answer", files.make_directory(request)).await?;
        Ok(made.into_inner())
    }

    pub async fn move_path(
        &self,
        from: &str,
        to: &str,
        replace: bool,
    ) -> Result<v1::PathInfo, Status> {
        let request = v1::MovePathRequest {
            sandbox_id: self.id.clone(),
            from: from.into(),
            to: to.into(),
            replace,
        };
        let moved = soon("an answer", self.client.files.clone().move_path(request)).await?;
        Ok(moved.into_inner())
    }

    pub async fn remove(&self, path: &str, recursive: bool) -> Result<(), Status> {
        let request = v1::RemovePathRequest {
            sandbox_id: self.id.clone(),
            path: path.into(),
            recursive,
        };
        soon("an answer", self.client.files.clone().remove_path(request)).await?;
        Ok(())
    }
}

/// All that comes of a file's content.
pub async fn content(mut responses: Streaming<v1::ReadFileResponse>) -> Result<Vec<u8>, Status> {
    let mut content = Vec::new();
    while let Some(response) = soon("content", responses.message()).await? {
        match response.event {
            Some(Read::Content(piece)) => content.extend_from_slice(&piece),
            _ => panic!("the info comes once"),
        }
    }
    Ok(content)
}

impl Named {
    /// Sends an archive in pieces.
    pub async fn upload(&self, path: &str, archive: &[u8]) -> Result<v1::PathInfo, Status> {
        use v1::upload_archive_request::Event;
        let start = Event::Start(v1::UploadArchiveStart {
            sandbox_id: self.id.clone(),
            path: path.into(),
        });
        let pieces = archive.chunks(100_000).map(Bytes::copy_from_slice);
        let events = [start].into_iter().chain(pieces.map(Event::Content));
        let requests: Vec<_> = events
            .map(|event| v1::UploadArchiveRequest { event: Some(event) })
            .collect();
        let mut files = self.client.files.clone();
        let sent = files.upload_archive(tokio_stream::iter(requests));
        Ok(soon("its end", sent).await?.into_inner())
    }

    /// An archive, whole.
    pub async fn download(&self, path: &str) -> Result<Vec<u8>, Status> {
        let request = v1::DownloadArchiveRequest {
            sandbox_id: self.id.clone(),
            path: path.into(),
        };
        let mut files = self.client.files.clone();
        let answer = soon("an answer", files.download_archive(request)).await?;
        let mut responses = answer.into_inner();
        let mut archive = Vec::new();
        while let Some(response) = soon("a piece", responses.message()).await? {
            archive.extend_from_slice(&response.content);
        }
        Ok(archive)
    }
}
