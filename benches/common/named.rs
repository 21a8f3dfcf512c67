//! A sandbox that lives on, and files that go through it.

use std::time::Instant;

use bytes::Bytes;
use sandpool::proto::v1::{
    CreateContextRequest, CreateSandboxRequest, DeleteSandboxRequest, ReadFileRequest,
    WriteFileRequest, WriteFileStart, file_service_client::FileServiceClient,
    read_file_response::Event as Read, sandbox_service_client::SandboxServiceClient,
    write_file_request::Event as Write,
};
use tonic::transport::Channel;

use super::{Server, rates::rate};

/// Content of one message, as `sandpool cp` sends it.
const PIECE: usize = 256 * 1024;

pub struct Named {
    sandboxes: SandboxServiceClient<Channel>,
    files: FileServiceClient<Channel>,
    pub id: String,
}

impl Named {
    pub async fn create(server: &Server) -> Self {
        let mut sandboxes = SandboxServiceClient::new(server.channel.clone());
        let request = CreateSandboxRequest::default();
        let created = sandboxes.create_sandbox(request).await.unwrap();
        Self {
            sandboxes,
            files: FileServiceClient::new(server.channel.clone()),
            id: created.into_inner().sandbox_id,
        }
    }

    /// A context here; its id.
    pub async fn context(&self) -> String {
        let request = CreateContextRequest {
            sandbox_id: self.id.clone(),
            ..CreateContextRequest::default()
        };
        let created = self.sandboxes.clone().create_context(request).await;
        created.unwrap().into_inner().context_id
    }

    pub async fn delete(mut self) {
        let request = DeleteSandboxRequest {
            sandbox_id: self.id,
        };
        self.sandboxes.delete_sandbox(request).await.unwrap();
    }

    /// Writes a file of so many bytes: MB/s, from the call until the file is there.
    pub async fn write(&mut self, path: &str, bytes: usize) -> f64 {
        let piece = Bytes::from(vec![b'x'; PIECE]);
        let start = Write::Start(WriteFileStart {
            sandbox_id: self.id.clone(),
            path: path.into(),
            size: Some(bytes as u64),
            ..WriteFileStart::default()
        });
        let pieces = (0..bytes).step_by(PIECE);
        let pieces = pieces.map(move |at| Write::Content(piece.slice(..PIECE.min(bytes - at))));
        let events = [start].into_iter().chain(pieces);
        let requests = events.map(|event| WriteFileRequest { event: Some(event) });
        let begun = Instant::now();
        let written = self.files.write_file(tokio_stream::iter(requests)).await;
        let rate = rate(bytes, begun);
        assert_eq!(written.unwrap().into_inner().size, bytes as u64);
        rate
    }

    /// Reads a file of so many bytes: MB/s, from the call until all is there.
    pub async fn read(&mut self, path: &str, bytes: usize) -> f64 {
        let request = ReadFileRequest {
            sandbox_id: self.id.clone(),
            path: path.into(),
            ..ReadFileRequest::default()
        };
        let begun = Instant::now();
        let mut responses = self.files.read_file(request).await.unwrap().into_inner();
        let mut had = 0;
        while let Some(response) = responses.message().await.unwrap() {
            if let Some(Read::Content(piece)) = response.event {
                had += piece.len();
            }
        }
        let rate = rate(bytes, begun);
        assert_eq!(had, bytes);
        rate
    }
}
