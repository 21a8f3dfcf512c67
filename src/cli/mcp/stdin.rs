//! Standard input, line by line; its end is the end of the session.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::BytesMut;
use tokio::io::{AsyncRead, ReadBuf};
use tokio_util::sync::CancellationToken;

use super::lines::{KEPT, MAX_LINE, readable, too_long};

/// Bytes that are read at once.
const PIECE: usize = 8 << 10;

/// Hands on lines that can be parsed, and cancels the session when there is nothing more to read: the SDK alone would
/// wait for calls that still run.
pub(super) struct Input<R> {
    inner: R,
    end: CancellationToken,
    /// Of which the end was not read yet, or the beginning if it is too long.
    line: Vec<u8>,
    is_too_long: bool,
    /// Nothing is read before they are taken.
    lines: BytesMut,
}

impl<R> Input<R> {
    pub(super) fn new(inner: R, end: CancellationToken) -> Self {
        Self {
            inner,
            end,
            line: Vec::new(),
            is_too_long: false,
            lines: BytesMut::new(),
        }
    }

    /// Takes a piece of a line, or the rest with its end.
    fn push(&mut self, piece: &[u8]) {
        if self.line.len() + piece.len() > MAX_LINE {
            self.is_too_long = true;
            self.line.truncate(KEPT);
        }
        if !self.is_too_long {
            self.line.extend_from_slice(piece);
        }
        if piece.last() != Some(&b'\n') {
            return;
        }
        let line = std::mem::take(&mut self.line);
        let lines = if std::mem::take(&mut self.is_too_long) {
            too_long(&line)
        } else {
            readable(line.strip_suffix(b"\n").unwrap_or(&line))
        };
        for line in lines {
            self.lines.extend_from_slice(line.as_bytes());
            self.lines.extend_from_slice(b"\n");
        }
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Input<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.lines.is_empty() {
            let mut bytes = [0; PIECE];
            let mut piece = ReadBuf::new(&mut bytes);
            let read = ready!(Pin::new(&mut self.inner).poll_read(context, &mut piece));
            if read.is_err() || piece.filled().is_empty() {
                self.end.cancel();
                return Poll::Ready(read);
            }
            for piece in piece.filled().split_inclusive(|byte| *byte == b'\n') {
                self.push(piece);
            }
        }
        let taken = self.lines.len().min(buffer.remaining());
        buffer.put_slice(&self.lines.split_to(taken));
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn the_end_of_input_cancels_and_nothing_before_it_does() {
        let end = CancellationToken::new();
        let mut input = Input::new(&b"{}\n"[..], end.clone());
        let mut buffer = [0; 3];
        input.read_exact(&mut buffer).await.unwrap();
        assert!(!end.is_cancelled());
        assert_eq!(input.read(&mut buffer).await.unwrap(), 0);
        assert!(end.is_cancelled());
    }

    #[tokio::test]
    async fn lines_are_whole_whatever_they_are_read_with() {
        let mut sent = String::new();
        for number in 0..5_000 {
            writeln!(sent, "{{\"line\":{number}}}").unwrap();
        }
        let long = format!("{{\"id\":-1,\"x\":\"{}\"}}\n", "x".repeat(MAX_LINE));
        let all = [&sent, &long, &sent].map(String::as_str).concat();
        let mut input = Input::new(all.as_bytes(), CancellationToken::new());
        let mut read = String::new();
        input.read_to_string(&mut read).await.unwrap();
        assert!(read.starts_with(&sent) && read.ends_with(&sent));
        let told = &read[sent.len()..read.len() - sent.len()];
        assert!(told.contains("longer than 16777216 bytes") && told.contains("\"id\":-1"));
        assert_eq!(told.lines().count(), 1);
    }
}
