//! Standard input, whose end is the end of the session.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, ReadBuf};
use tokio_util::sync::CancellationToken;

/// Cancels the session when there is nothing more to read. The SDK alone would wait for calls that still run.
pub(super) struct Watched<R> {
    inner: R,
    end: CancellationToken,
}

impl<R> Watched<R> {
    pub(super) fn new(inner: R, end: CancellationToken) -> Self {
        Self { inner, end }
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Watched<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(context, buffer);
        if let Poll::Ready(result) = &read
            && (result.is_err() || buffer.filled().len() == before)
        {
            self.end.cancel();
        }
        read
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn the_end_of_input_cancels_and_nothing_before_it_does() {
        let end = CancellationToken::new();
        let mut input = Watched::new(&b"ab"[..], end.clone());
        let mut buffer = [0; 2];
        input.read_exact(&mut buffer).await.unwrap();
        assert!(!end.is_cancelled());
        assert_eq!(input.read(&mut buffer).await.unwrap(), 0);
        assert!(end.is_cancelled());
    }
}
