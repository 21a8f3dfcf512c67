//! The connection to the API server.

use std::{error::Error, time::Duration};

use hyper_util::{
    client::legacy::{Client as HyperClient, connect::HttpConnector},
    rt::TokioExecutor,
};
use kube::{Client, Config, client::ConfigExt};
use tokio::time::timeout;
use tower::{BoxError, ServiceBuilder};

/// No single request takes longer.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an answer may take to begin; a watch's or an exec's may then last.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(35);
/// After so much silence the other side's kernel is asked whether it is there; twice as long without
/// an answer is the end of the connection.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
#[error("cannot make a client for the Kubernetes API at {server}: {reason}")]
pub struct ClientError {
    /// The API server's address.
    pub server: String,
    /// What is wrong with the configuration.
    pub reason: String,
}

/// A client for what `config` says, without the layers of kube's own: TCP_NODELAY is set, since an
/// exec's small messages would wait for each other's acknowledgements otherwise (44 ms instead of
/// 0.07 ms), and nothing is retried, which would keep an exec waiting for minutes.
///
/// # Errors
/// When the certificates or the credentials that `config` names cannot be used.
pub fn client(config: Config) -> Result<Client, ClientError> {
    let server = config.cluster_url.to_string();
    let failed = |error: kube::Error| ClientError {
        server: server.clone(),
        reason: error.to_string(),
    };
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
    // A watch and an exec that waits say nothing for minutes: a network that lost them has to be asked.
    tcp.set_keepalive(Some(KEEPALIVE));
    tcp.set_keepalive_interval(Some(KEEPALIVE / 3));
    tcp.set_keepalive_retries(Some(3));
    // And what was sent must be acknowledged.
    tcp.set_tcp_user_timeout(Some(KEEPALIVE * 2));
    let tls = config
        .rustls_https_connector_with_connector(tcp)
        .map_err(failed)?;
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer().map_err(failed)?)
        .map_err(BoxError::from)
        .timeout(ANSWER_TIMEOUT)
        .map_err(BoxError::from)
        .service(
            HyperClient::builder(TokioExecutor::new())
                // Not more than that may turn out to be dead, one after the other.
                .pool_max_idle_per_host(2)
                .build(tls),
        );
    Ok(Client::new(service, config.default_namespace))
}

/// Why the API server did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// It said no, or could not be reached.
    #[error("{}", said(.0))]
    Refused(#[from] kube::Error),
    /// It did not answer in time.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
}

/// The API server's own words or, where it said none, each error with what caused it.
fn said(error: &kube::Error) -> String {
    if let kube::Error::Api(status) = error
        && !status.message.is_empty()
    {
        return status.message.clone();
    }
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        // kube repeats some of them.
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = error.source();
    }
    text
}

impl RequestError {
    /// HTTP's status code, where there was an answer.
    pub(super) fn code(&self) -> Option<u16> {
        match self {
            Self::Refused(kube::Error::Api(status)) => Some(status.code),
            _ => None,
        }
    }
}

/// Waits for the answer to a request, `limit` at most.
pub(super) async fn answer<T>(
    limit: Duration,
    request: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, RequestError> {
    timeout(limit, request)
        .await
        .map_err(|_| RequestError::Timeout(limit))?
        .map_err(RequestError::from)
}

#[cfg(test)]
mod tests {
    use std::io;

    use kube::core::Status;

    use super::*;

    #[test]
    fn a_refusal_is_told_in_the_api_servers_words() {
        let status = Status::failure("exceeded quota", "Forbidden").with_code(403);
        let error = RequestError::from(kube::Error::Api(status.boxed()));
        assert_eq!(error.to_string(), "exceeded quota");
        assert_eq!(error.code(), Some(403));
    }

    #[test]
    fn where_there_was_no_answer_the_cause_is_told() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot connect")]
        struct Outer(#[source] io::Error);

        let cause = Outer(io::Error::other("nobody listens"));
        let error = RequestError::from(kube::Error::Service(cause.into()));
        let text = error.to_string();
        assert!(text.ends_with("cannot connect: nobody listens"), "{text}");
    }
}
