//! The messages of Execute's answer as HTTP/2 data: what programs wrote is passed on, not copied.
//!
//! tonic's own encoder copies each message into a buffer of its own. For a loud program that copy,
//! and the fresh memory that it goes to, was a fifth of what the server did.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{BufMut, Bytes, BytesMut};
use hyper::{
    body::{Body, Frame},
    http::HeaderMap,
};
use prost::{
    Message,
    encoding::{WireType, encode_key, encode_varint},
};
use tokio_stream::Stream;
use tonic::Status;

use crate::proto::v1::{ExecuteResponse, execute_response::Event};

/// What a message begins with: whether it is compressed, and its length (gRPC over HTTP/2,
/// "Length-Prefixed-Message").
const PREFIX: usize = 5;
/// The fields' numbers in ExecuteResponse.
const STDOUT: u32 = 2;
const STDERR: u32 = 3;
/// Output of fewer bytes is copied: a frame of its own would cost more.
const PASSED_ON: usize = 4096;
/// So many bytes of small messages go together, at most, while there are more.
const TOGETHER: usize = 32 * 1024;

/// A response body of encoded messages, with the status after the last.
pub(super) struct Answers<S> {
    messages: S,
    encoded: BytesMut,
    /// Belongs behind `encoded`.
    output: Bytes,
    /// Follows once everything else has gone.
    end: Option<Status>,
    /// The status has gone, too.
    over: bool,
}

impl<S> Answers<S> {
    pub(super) fn new(messages: S) -> Self {
        Self {
            messages,
            encoded: BytesMut::new(),
            output: Bytes::new(),
            end: None,
            over: false,
        }
    }

    fn encode(&mut self, message: ExecuteResponse) {
        let length = message.encoded_len();
        self.encoded.reserve(PREFIX + length.min(PASSED_ON));
        // Not compressed.
        self.encoded.put_u8(0);
        // Below 4 GiB by far: none has as much as 4 MiB.
        self.encoded.put_u32(length as u32);
        let (field, output) = match message.event {
            Some(Event::Stdout(data)) if data.len() >= PASSED_ON => (STDOUT, data),
            Some(Event::Stderr(data)) if data.len() >= PASSED_ON => (STDERR, data),
            event => return ExecuteResponse { event }.encode_raw(&mut self.encoded),
        };
        encode_key(field, WireType::LengthDelimited, &mut self.encoded);
        encode_varint(output.len() as u64, &mut self.encoded);
        self.output = output;
    }
}

impl<S> Body for Answers<S>
where
    S: Stream<Item = Result<ExecuteResponse, Status>> + Unpin,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        while this.output.is_empty() && this.end.is_none() && this.encoded.len() < TOGETHER {
            match Pin::new(&mut this.messages).poll_next(cx) {
                Poll::Ready(Some(Ok(message))) => this.encode(message),
                Poll::Ready(Some(Err(status))) => this.end = Some(status),
                Poll::Ready(None) => this.end = Some(Status::ok("")),
                Poll::Pending if this.encoded.is_empty() => return Poll::Pending,
                Poll::Pending => break,
            }
        }
        let data = if this.encoded.is_empty() {
            std::mem::take(&mut this.output)
        } else {
            this.encoded.split().freeze()
        };
        if !data.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        if std::mem::replace(&mut this.over, true) {
            return Poll::Ready(None);
        }
        let status = this.end.take().unwrap_or_else(|| Status::ok(""));
        let mut trailers = HeaderMap::new();
        status.add_header(&mut trailers)?;
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.over
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use tokio_stream::StreamExt;

    use super::*;
    use crate::proto::v1::Started;

    type Answer = Result<ExecuteResponse, Status>;

    fn answer(event: Event) -> ExecuteResponse {
        ExecuteResponse { event: Some(event) }
    }

    /// The body's data, frame by frame, and the status at its end.
    async fn frames(answers: impl Stream<Item = Answer> + Unpin) -> (Vec<Bytes>, Status) {
        let mut body = Answers::new(answers);
        let mut data = Vec::new();
        loop {
            let frame = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await;
            match frame.unwrap().unwrap().into_data() {
                Ok(bytes) => data.push(bytes),
                Err(trailers) => {
                    assert!(body.is_end_stream());
                    let trailers = trailers.into_trailers().unwrap();
                    return (data, Status::from_header_map(&trailers).unwrap());
                }
            }
        }
    }

    /// As the gRPC specification has it, by prost alone.
    fn expected(messages: &[ExecuteResponse]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for message in messages {
            bytes.push(0);
            bytes.extend((message.encoded_len() as u32).to_be_bytes());
            message.encode(&mut bytes).unwrap();
        }
        bytes
    }

    #[tokio::test]
    async fn messages_of_any_size_are_what_prost_makes_of_them() {
        let sizes = [0, 1, PASSED_ON - 1, PASSED_ON, 70_000, 3, 512 * 1024];
        let mut messages = vec![answer(Event::Started(Started {
            execution_id: "id".into(),
            ..Started::default()
        }))];
        for size in sizes {
            messages.push(answer(Event::Stdout(vec![1; size].into())));
            messages.push(answer(Event::Stderr(vec![2; size].into())));
        }
        messages.push(ExecuteResponse { event: None });
        let (data, status) = frames(tokio_stream::iter(messages.clone()).map(Ok)).await;
        assert_eq!(status.code(), tonic::Code::Ok);
        assert!(data.concat() == expected(&messages));
    }

    #[tokio::test]
    async fn large_output_is_not_copied() {
        let output = Bytes::from(vec![7; PASSED_ON]);
        let message = answer(Event::Stdout(output.clone()));
        let (data, _) = frames(tokio_stream::iter([Ok(message)])).await;
        assert_eq!(data[1].as_ptr(), output.as_ptr());
    }

    #[tokio::test]
    async fn small_messages_share_a_frame_and_an_error_follows_them() {
        let message = answer(Event::Stdout(Bytes::from_static(b"a")));
        let answers = [
            Ok(message.clone()),
            Ok(message.clone()),
            Err(Status::invalid_argument("a second start")),
        ];
        let (data, status) = frames(tokio_stream::iter(answers)).await;
        assert_eq!(data, [expected(&[message.clone(), message])]);
        assert_eq!(status.code(), tonic::Code::InvalidArgument);
        assert_eq!(status.message(), "a second start");
    }
}
