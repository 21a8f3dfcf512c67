//! A byte stream that says what it was told to, and takes whatever it is given.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How a stream ends once all has been said.
#[derive(Clone, Copy)]
pub(super) enum End {
    Closed,
    Reset,
    /// It stays open, and nothing comes.
    Silent,
}

/// One connection.
pub(super) struct Script {
    /// Said at once.
    pub(super) greeting: Bytes,
    /// Said once a request has come: before, an answer to it would be an error.
    pub(super) answer: Bytes,
    /// Bytes that come at once, at most; not 0.
    pub(super) piece: usize,
    pub(super) end: End,
    request: RequestFinder,
    reader: Option<Waker>,
}

impl Script {
    pub(super) fn new(greeting: Bytes, answer: Bytes, piece: usize, end: End) -> Self {
        Self {
            greeting,
            answer,
            piece: piece.max(1),
            end,
            request: RequestFinder::default(),
            reader: None,
        }
    }
}

impl AsyncRead for Script {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let said = if !this.greeting.is_empty() {
            &mut this.greeting
        } else if this.request.found || this.answer.is_empty() {
            &mut this.answer
        } else {
            this.reader = Some(cx.waker().clone());
            return Poll::Pending;
        };
        let length = said.len().min(this.piece).min(buf.remaining());
        if length > 0 {
            buf.put_slice(&said[..length]);
            said.advance(length);
            return Poll::Ready(Ok(()));
        }
        match this.end {
            End::Closed => Poll::Ready(Ok(())),
            End::Reset => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            End::Silent => Poll::Pending,
        }
    }
}

impl AsyncWrite for Script {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.request.push(data);
        if self.request.found
            && let Some(reader) = self.reader.take()
        {
            reader.wake();
        }
        Poll::Ready(Ok(data.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Finds the first HEADERS frame among the frames of a client (RFC 9113, 3.4 and 4.1).
#[derive(Default)]
struct RequestFinder {
    found: bool,
    waiting: Vec<u8>,
    preface_gone: bool,
}

impl RequestFinder {
    const PREFACE: usize = 24;

    fn push(&mut self, data: &[u8]) {
        if self.found {
            return;
        }
        self.waiting.extend_from_slice(data);
        if !self.preface_gone && self.waiting.len() >= Self::PREFACE {
            self.waiting.drain(..Self::PREFACE);
            self.preface_gone = true;
        }
        while self.preface_gone && self.waiting.len() >= 9 {
            let head = &self.waiting;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            self.found |= head[3] == 1;
            if self.found || head.len() < 9 + length {
                return;
            }
            self.waiting.drain(..9 + length);
        }
    }
}
