//! gRPC over a sandbox's byte stream.
//!
//! The agent is the h2 server, and after user code has run it may be anyone. So everything that
//! it can make grow is bounded here: headers, frames, messages, resets and windows.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use hyper::{
    body::Incoming,
    client::conn::http2::{self, SendRequest},
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::sync::watch;
use tonic::{body::Body, codegen::http};

use crate::{backend::BoxedByteStream, proto::agent::agent_service_client::AgentServiceClient};

/// h2's windows are larger than what the protocol's own credit lets the agent send (see
/// `inbox`), so that an unread stream never stops another one.
const STREAM_WINDOW: u32 = 16 << 20;
const CONNECTION_WINDOW: u32 = 32 << 20;
const MAX_FRAME: u32 = 64 * 1024;
const MAX_HEADER_LIST: u32 = 16 * 1024;
const MAX_MESSAGE: usize = 1 << 20;
const MAX_SEND_BUFFER: usize = 256 * 1024;
const MAX_RESETS: usize = 32;
/// A frozen agent is noticed after the two together. Thousands that wait are asked, too, and each time
/// costs the server a tenth of a millisecond.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// One h2 connection to an agent. It is never made again by itself: a cut is seen by who uses it.
#[derive(Clone)]
pub struct Channel {
    requests: SendRequest<Body>,
    /// Its sender is dropped when the connection has ended.
    ended: watch::Receiver<()>,
}

impl Channel {
    /// Shakes hands over `stream`. The connection lives as long as the channel and its calls do.
    ///
    /// # Errors
    /// When the other end does not speak h2.
    pub async fn connect(stream: BoxedByteStream) -> Result<Self, hyper::Error> {
        let (requests, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(MAX_FRAME)
            .max_header_list_size(MAX_HEADER_LIST)
            .max_send_buf_size(MAX_SEND_BUFFER)
            .max_concurrent_reset_streams(MAX_RESETS)
            .keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            // Between two programs of a sandbox that lives on, too.
            .keep_alive_while_idle(true)
            .handshake(TokioIo::new(stream))
            .await?;
        let (open, ended) = watch::channel(());
        tokio::spawn(async move {
            // Its users see an error of their own.
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection to a sandbox ended");
            }
            drop(open);
        });
        Ok(Self { requests, ended })
    }

    /// Whether the connection has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.ended.has_changed().is_err()
    }

    /// Waits for the connection's end.
    pub(super) async fn ended(&self) {
        // Nothing is ever sent.
        let _: Result<(), _> = self.ended.clone().changed().await;
    }

    /// The agent's service, with bounded messages.
    pub(super) fn agent(&self) -> AgentServiceClient<Self> {
        let origin = http::Uri::from_static("http://agent");
        AgentServiceClient::with_origin(self.clone(), origin).max_decoding_message_size(MAX_MESSAGE)
    }
}

impl tower::Service<http::Request<Body>> for Channel {
    type Response = http::Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.requests.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(self.requests.send_request(request))
    }
}
