//! An exec's stdin and stdout as one byte stream.

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes, BytesMut};
use futures_util::{Sink, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        self, Message,
        protocol::{Role, WebSocketConfig},
    },
};

use super::frames::{self, End, FrameError, Incoming};

/// What one message of the other side's holds at most; the API server sends 32 KiB in practice.
const MAX_MESSAGE: usize = 1 << 20;
/// Memory that each connection has all the time, and what one read takes at most: out of what TLS has
/// deciphered already, so a small one costs no system calls.
const READ_BUFFER: usize = 2 * 1024;
/// How much waits for a slow network before writing has to wait, too.
const WRITE_BUFFER: usize = 256 * 1024;
/// What one message to the program holds at most. The API server takes up to 32 MiB, the kubelet
/// hands on pieces of 32 KiB. The API server hands on each record of TLS that it receives, of at most 16 KiB
/// (RFC 8446, section 5.1), as a piece of its own: with its header and its channel the message fills two.
const MAX_STDIN_FRAME: usize = 32 * 1024 - 9;
/// How much of what the program said on stderr is kept for the error: its last bytes.
const MAX_STDERR: usize = 1024;

/// Why an exec's stream has ended: the one terminal event, told by reads and writes alike, inside
/// of an [`io::Error`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExecEnd {
    /// The program has ended, or so the kubelet says. A killed pod looks like this, too.
    #[error("the exec ended: {0}")]
    Ended(Ended),
    /// The connection ended without a word about the program, which may run on
    /// (kubernetes/kubernetes#89031).
    #[error("the exec's connection was cut: {0}")]
    Cut(String),
    /// The other side does not speak the protocol.
    #[error("the exec's connection carried {0}")]
    Protocol(#[from] FrameError),
}

/// What the kubelet and the program itself said at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// How it ended.
    pub end: End,
    /// The last bytes of its stderr, at most 1 KiB.
    pub stderr: String,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.end {
            End::Exited(code) => write!(f, "its program exited with {code}")?,
            End::Failed { reason, message } => write!(f, "{reason}: {message}")?,
        }
        if !self.stderr.is_empty() {
            write!(f, ": {}", self.stderr.trim_end())?;
        }
        Ok(())
    }
}

/// The stdin and stdout of a program that an exec runs.
///
/// It has no task of its own, and what it holds is bounded: one message of the other side's, 32 KiB
/// of stdin, 1 KiB of stderr. Reading drives all of it: pings are answered, stderr is taken, the end
/// is noticed.
/// What is written goes out when flushed, or when a message is full.
pub struct ExecStream<S> {
    socket: WebSocketStream<S>,
    /// What came and is not read yet.
    unread: Bytes,
    /// A message that is being put together: empty, or the channel and what was written.
    unsent: BytesMut,
    stderr: Vec<u8>,
    closed_stdin: bool,
    end: Option<ExecEnd>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> ExecStream<S> {
    /// A connection that has become a websocket with version 5 of the remote command protocol.
    pub async fn over(connection: S) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(0)
            .max_write_buffer_size(WRITE_BUFFER)
            .max_message_size(Some(MAX_MESSAGE))
            .max_frame_size(Some(MAX_MESSAGE));
        let socket = WebSocketStream::from_raw_socket(connection, Role::Client, Some(config)).await;
        Self {
            socket,
            unread: Bytes::new(),
            unsent: BytesMut::new(),
            stderr: Vec::new(),
            closed_stdin: false,
            end: None,
        }
    }

    fn ended(&mut self, end: ExecEnd) -> io::Error {
        self.unsent = BytesMut::new();
        let kind = match end {
            ExecEnd::Ended(_) => io::ErrorKind::BrokenPipe,
            ExecEnd::Cut(_) => io::ErrorKind::ConnectionReset,
            ExecEnd::Protocol(_) => io::ErrorKind::InvalidData,
        };
        let end = self.end.get_or_insert(end).clone();
        io::Error::new(kind, end)
    }

    fn check(&mut self) -> io::Result<()> {
        match self.end.clone() {
            Some(end) => Err(self.ended(end)),
            None => Ok(()),
        }
    }

    fn cut(&mut self, error: &tungstenite::Error) -> io::Error {
        self.ended(ExecEnd::Cut(error.to_string()))
    }

    /// Waits for the next message, and keeps what it brings.
    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let message = match ready!(Pin::new(&mut self.socket).poll_next(cx)) {
            Some(Ok(message)) => message,
            Some(Err(error)) => return Poll::Ready(Err(self.cut(&error))),
            None => return Poll::Ready(Err(self.ended(ExecEnd::Cut("it was closed".into())))),
        };
        let incoming = match message {
            Message::Binary(content) => frames::decode(content),
            // The answer to a ping is on its way already. After a close comes the stream's end.
            Message::Ping(_) | Message::Pong(_) | Message::Close(_) => Ok(Incoming::Nothing),
            Message::Text(_) | Message::Frame(_) => Err(FrameError::Text),
        };
        match incoming {
            Ok(Incoming::Stdout(content)) => self.unread = content,
            Ok(Incoming::Stderr(content)) => self.keep_stderr(&content),
            Ok(Incoming::Nothing) => {}
            Ok(Incoming::End(end)) => {
                let stderr = String::from_utf8_lossy(&self.stderr).into_owned();
                return Poll::Ready(Err(self.ended(ExecEnd::Ended(Ended { end, stderr }))));
            }
            Err(error) => return Poll::Ready(Err(self.ended(error.into()))),
        }
        Poll::Ready(Ok(()))
    }

    fn keep_stderr(&mut self, content: &[u8]) {
        let content = &content[content.len().saturating_sub(MAX_STDERR)..];
        self.stderr.extend_from_slice(content);
        let surplus = self.stderr.len().saturating_sub(MAX_STDERR);
        self.stderr.drain(..surplus);
    }

    /// Hands the message that was put together to the socket, once that takes one.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.unsent.is_empty() {
            return Poll::Ready(Ok(()));
        }
        if let Err(error) = ready!(Pin::new(&mut self.socket).poll_ready(cx)) {
            return Poll::Ready(Err(self.cut(&error)));
        }
        // The buffer goes with the message: an idle connection holds none.
        let message = Message::Binary(std::mem::take(&mut self.unsent).freeze());
        Poll::Ready(
            Pin::new(&mut self.socket)
                .start_send(message)
                .map_err(|error| self.cut(&error)),
        )
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for ExecStream<S> {
    /// Never ends as an end of file: how it ended is always told.
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.unread.is_empty() {
            this.check()?;
            ready!(this.poll_message(cx))?;
        }
        let length = this.unread.len().min(buf.remaining());
        buf.put_slice(&this.unread[..length]);
        this.unread.advance(length);
        if this.unread.is_empty() {
            // It would hold the whole message's memory.
            this.unread = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for ExecStream<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.check()?;
        if this.closed_stdin {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if this.unsent.len() > MAX_STDIN_FRAME {
            ready!(this.poll_send(cx))?;
        }
        if this.unsent.is_empty() {
            frames::begin_stdin(&mut this.unsent);
        }
        let length = buf.len().min(MAX_STDIN_FRAME + 1 - this.unsent.len());
        this.unsent.extend_from_slice(&buf[..length]);
        Poll::Ready(Ok(length))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.check()?;
        ready!(this.poll_send(cx))?;
        let flushed = ready!(Pin::new(&mut this.socket).poll_flush(cx));
        Poll::Ready(flushed.map_err(|error| this.cut(&error)))
    }

    /// Ends the program's stdin; its output can still be read.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        this.check()?;
        if !this.closed_stdin {
            ready!(this.poll_send(cx))?;
            this.closed_stdin = true;
            this.unsent.extend_from_slice(&frames::close_stdin());
        }
        self.poll_flush(cx)
    }
}
