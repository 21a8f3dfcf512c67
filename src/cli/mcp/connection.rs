//! The connection to the server, which is made anew when it breaks: one attempt is for all who wait for it.

use std::{
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::Mutex;

use crate::cli::client::{ClientError, Connection, ServerArgs};

/// Makes connections when there is none that works.
pub(super) struct Connector {
    server: ServerArgs,
    newest: Mutex<Attempt>,
    /// The number of the last attempt that has ended, which is read without the lock.
    ended: AtomicU64,
}

/// Attempts are counted from 1.
#[derive(Default)]
struct Attempt {
    number: u64,
    outcome: Option<Result<Connection, Arc<ClientError>>>,
}

/// A connection, and which attempt it came of.
pub(super) struct Link {
    connection: Connection,
    number: u64,
}

impl Link {
    pub(super) fn connection(&self) -> Connection {
        self.connection.clone()
    }
}

impl Connector {
    pub(super) fn new(server: ServerArgs) -> Self {
        Self {
            server,
            newest: Mutex::default(),
            ended: AtomicU64::new(0),
        }
    }

    /// The connection that there is, or a new one.
    pub(super) async fn link(&self) -> Result<Link, Arc<ClientError>> {
        self.newer_than(0).await
    }

    /// One that is newer than a broken one: somebody else may have made it meanwhile.
    pub(super) async fn instead_of(&self, broken: &Link) -> Result<Link, Arc<ClientError>> {
        self.newer_than(broken.number).await
    }

    /// One that nobody has used.
    pub(super) async fn fresh(&self) -> Result<Connection, ClientError> {
        self.server.connect().await
    }

    async fn newer_than(&self, broken: u64) -> Result<Link, Arc<ClientError>> {
        let ended = self.ended.load(Ordering::Relaxed);
        let mut newest = self.newest.lock().await;
        let number = newest.number;
        match &newest.outcome {
            Some(Ok(connection)) if number > broken => {
                let connection = connection.clone();
                return Ok(Link { connection, number });
            }
            // It has failed while this one waited.
            Some(Err(error)) if number > ended => return Err(error.clone()),
            _ => {}
        }
        let made = self.server.connect().await.map_err(Arc::new);
        let number = number + 1;
        *newest = Attempt {
            number,
            outcome: Some(made.clone()),
        };
        self.ended.store(number, Ordering::Relaxed);
        made.map(|connection| Link { connection, number })
    }
}

/// Whether a call failed before anything of it was sent.
pub(super) fn was_not_sent(error: &(dyn Error + 'static)) -> bool {
    let mut causes = std::iter::successors(Some(error), |cause| (*cause).source());
    causes.any(|cause| {
        let of_http = cause.downcast_ref::<hyper::Error>();
        cause.is::<tonic::ConnectError>() || of_http.is_some_and(hyper::Error::is_canceled)
    })
}

#[cfg(test)]
mod tests {
    use std::io;

    use bytes::Bytes;
    use http_body_util::Empty;
    use hyper::{Request, client::conn::http2};
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use tokio::{io::duplex, net::TcpListener};
    use tonic::Status;

    use super::*;

    fn connector(address: &str) -> Connector {
        Connector::new(ServerArgs::of(&["--address", address]))
    }

    #[tokio::test]
    async fn who_waits_for_an_attempt_that_fails_gets_its_failure_and_the_next_tries_again() {
        let connector = connector("127.0.0.1:1");
        let (one, other) = tokio::join!(connector.link(), connector.link());
        assert!(one.is_err() && other.is_err());
        assert_eq!(connector.newest.lock().await.number, 1);
        assert!(connector.link().await.is_err());
        assert_eq!(connector.newest.lock().await.number, 2);
    }

    #[tokio::test]
    async fn a_broken_connection_is_replaced_once() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let connector = connector(&listener.local_addr().unwrap().to_string());
        let broken = connector.link().await.unwrap();
        assert_eq!(connector.link().await.unwrap().number, 1);
        let (one, other) =
            tokio::join!(connector.instead_of(&broken), connector.instead_of(&broken));
        assert_eq!((one.unwrap().number, other.unwrap().number), (2, 2));
        assert_eq!(connector.link().await.unwrap().number, 2);
    }

    #[tokio::test]
    async fn what_was_not_sent_is_told_from_what_may_have_been() {
        let (ours, _theirs) = duplex(4096);
        let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(ours));
        let (mut requests, connection) = handshake.await.unwrap();
        drop(connection);
        let request = Request::new(Empty::<Bytes>::new());
        let error = requests.send_request(request).await.unwrap_err();
        let status = Status::from_error(Box::new(error));
        assert!(was_not_sent(status.source().unwrap()));
        assert!(!was_not_sent(&io::Error::other("it broke")));
    }
}
