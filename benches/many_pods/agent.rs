//! The other end of an exec: an agent that says what one says, and runs nothing.

use std::pin::Pin;

use bytes::BytesMut;
use futures_util::{SinkExt, StreamExt};
use hyper::server::conn::http2;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    service::TowerToHyperService,
};
use sandpool::proto::agent::{
    Acknowledged, Exited, ForgetRequest, ForgetResponse, FromAgent, Opened, PingRequest,
    PingResponse, PrepareRequest, PrepareResponse, Started, ToAgent,
    agent_service_server::{AgentService, AgentServiceServer},
    exited,
    from_agent::Message as Said,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex};
use tokio_stream::Stream;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        protocol::{Role, WebSocketConfig},
    },
};
use tonic::{Request, Response, Status, Streaming};

/// Between the websocket and HTTP/2.
const BUFFER: usize = 4096;

/// Serves one connection until it ends.
pub(crate) async fn serve<S>(connection: S)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    // Thousands of these are in one process.
    let config = WebSocketConfig::default().read_buffer_size(BUFFER);
    let socket = WebSocketStream::from_raw_socket(connection, Role::Server, Some(config)).await;
    let (ours, theirs) = duplex(BUFFER);
    tokio::spawn(carry(socket, ours));
    let service = TowerToHyperService::new(AgentServiceServer::new(Agent));
    // The server under test may hang up whenever it likes.
    let _ = http2::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(theirs), service)
        .await;
}

/// A program's stdin is channel 0, its stdout channel 1.
async fn carry<S: AsyncRead + AsyncWrite + Unpin>(socket: WebSocketStream<S>, bytes: DuplexStream) {
    let (mut to_client, mut from_client) = socket.split();
    let (mut stdout, mut stdin) = tokio::io::split(bytes);
    let inwards = async {
        while let Some(Ok(message)) = from_client.next().await {
            if let Message::Binary(data) = message
                && data.first() == Some(&0)
                && stdin.write_all(&data[1..]).await.is_err()
            {
                return;
            }
        }
    };
    let outwards = async {
        loop {
            let mut message = BytesMut::from(&[1_u8][..]);
            match stdout.read_buf(&mut message).await {
                Ok(1..) => {}
                _ => return,
            }
            if to_client
                .send(Message::Binary(message.freeze()))
                .await
                .is_err()
            {
                return;
            }
        }
    };
    tokio::select! {
        () = inwards => {}
        () = outwards => {}
    }
}

struct Agent;

#[async_trait::async_trait]
impl AgentService for Agent {
    async fn prepare(
        &self,
        _request: Request<PrepareRequest>,
    ) -> Result<Response<PrepareResponse>, Status> {
        Ok(Response::new(PrepareResponse {
            boot_log: "Starting gVisor...".into(),
            kernel: "script".into(),
            ..PrepareResponse::default()
        }))
    }

    async fn ping(&self, _: Request<PingRequest>) -> Result<Response<PingResponse>, Status> {
        Ok(Response::new(PingResponse {}))
    }

    async fn forget(&self, _: Request<ForgetRequest>) -> Result<Response<ForgetResponse>, Status> {
        Ok(Response::new(ForgetResponse {}))
    }

    type ExecuteStream = Pin<Box<dyn Stream<Item = Result<FromAgent, Status>> + Send>>;

    async fn execute(
        &self,
        request: Request<Streaming<ToAgent>>,
    ) -> Result<Response<Self::ExecuteStream>, Status> {
        let mut messages = request.into_inner();
        // Open, and the start.
        for _ in 0..2 {
            if messages.message().await?.is_none() {
                return Err(Status::invalid_argument("nothing was asked"));
            }
        }
        let opened = Opened {
            acknowledged: Some(Acknowledged {
                control_sequence: 1,
                input_offset: 0,
            }),
        };
        let exited = Exited {
            end: Some(exited::End::Code(0)),
            ..Exited::default()
        };
        let said = [
            Said::Opened(opened),
            Said::Started(Started::default()),
            Said::Exited(exited),
        ];
        let said = said.map(|message| {
            Ok(FromAgent {
                message: Some(message),
            })
        });
        Ok(Response::new(Box::pin(tokio_stream::iter(said))))
    }
}
