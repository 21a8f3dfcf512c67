//! A small HTTP server: one short answer for each connection.

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{sleep, timeout},
};

/// Connections at once. Further ones wait to be accepted.
const MAX_CONNECTIONS: usize = 64;
/// How long one may take, from its acceptance to the last byte of its answer.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(5);
/// The largest head of a request, in bytes: the smallest limit that hyper takes.
const MAX_HEAD: usize = 8 << 10;
/// An accept that fails lacks descriptors, as a rule: this long they have to become free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What is answered.
pub(super) type Page = Response<Full<Bytes>>;

/// Answers at one address.
pub(super) struct HttpServer {
    listener: TcpListener,
    connections: JoinSet<()>,
}

impl HttpServer {
    pub(super) fn new(listener: TcpListener) -> Self {
        Self {
            listener,
            connections: JoinSet::new(),
        }
    }

    /// Answers until `service` ends. Nothing is left of any connection, or of `answer`, then.
    pub(super) async fn answer_during<T, A>(
        mut self,
        service: impl Future<Output = T>,
        answer: A,
    ) -> T
    where
        A: Fn(&Request<Incoming>) -> Page + Clone + Send + 'static,
    {
        let result = tokio::select! {
            result = service => result,
            never = self.accept(answer) => match never {},
        };
        self.connections.shutdown().await;
        result
    }

    async fn accept<A>(&mut self, answer: A) -> Infallible
    where
        A: Fn(&Request<Incoming>) -> Page + Clone + Send + 'static,
    {
        loop {
            tokio::select! {
                accepted = self.listener.accept(), if self.connections.len() < MAX_CONNECTIONS => {
                    match accepted {
                        Ok((stream, _)) => {
                            self.connections.spawn(connection(stream, answer.clone()));
                        }
                        Err(error) => {
                            tracing::warn!(%error, "a connection for metrics was not accepted");
                            sleep(ACCEPT_PAUSE).await;
                        }
                    }
                }
                Some(_) = self.connections.join_next() => {}
            }
        }
    }
}

async fn connection(stream: TcpStream, answer: impl Fn(&Request<Incoming>) -> Page) {
    let service = service_fn(move |request| {
        let page = answer(&request);
        async { Ok::<_, Infallible>(page) }
    });
    let connection = http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    // Whoever is slower than that, or sends what is not HTTP, has had its chance.
    let _ = timeout(CONNECTION_TIMEOUT, connection).await;
}
