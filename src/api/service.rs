//! ExecutionService as an HTTP service: tonic's own, but for how Execute's answer is encoded.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use hyper::http;
use tonic::{
    Request, Streaming,
    body::Body,
    codegen::{BoxFuture, Service},
    server::NamedService,
};
use tonic_prost::ProstDecoder;

use super::{Executions, answers::Answers};
use crate::proto::v1::execution_service_server::{
    ExecutionService, ExecutionServiceServer, SERVICE_NAME,
};

const EXECUTE: &str = "/sandpool.v1.ExecutionService/Execute";

/// Serves [`Executions`].
#[derive(Clone)]
pub struct ExecutionServer {
    executions: Arc<Executions>,
    tonic: ExecutionServiceServer<Executions>,
    max_message: usize,
}

impl ExecutionServer {
    /// Messages from clients may have `max_message` bytes.
    #[must_use]
    pub fn new(executions: Executions, max_message: usize) -> Self {
        let executions = Arc::new(executions);
        Self {
            tonic: ExecutionServiceServer::from_arc(executions.clone())
                .max_decoding_message_size(max_message),
            executions,
            max_message,
        }
    }
}

impl NamedService for ExecutionServer {
    const NAME: &'static str = SERVICE_NAME;
}

impl Service<http::Request<Body>> for ExecutionServer {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        // Compressed requests are refused, which tonic knows how to do.
        if request.uri().path() != EXECUTE || request.headers().contains_key("grpc-encoding") {
            return self.tonic.call(request);
        }
        let executions = self.executions.clone();
        let max_message = self.max_message;
        Box::pin(async move {
            let request = Request::from_http(request).map(|body| {
                Streaming::new_request(ProstDecoder::default(), body, None, Some(max_message))
            });
            Ok(match executions.execute(request).await {
                Ok(answer) => {
                    let answers = Answers::new(answer.into_inner());
                    let mut response = http::Response::new(Body::new(answers));
                    let grpc = http::HeaderValue::from_static("application/grpc");
                    response
                        .headers_mut()
                        .insert(http::header::CONTENT_TYPE, grpc);
                    response
                }
                Err(status) => status.into_http(),
            })
        })
    }
}
