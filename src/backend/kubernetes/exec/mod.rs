//! Running a program in a pod over one websocket, as `kubectl exec` does.
//!
//! - `frames`: what a message holds, without I/O
//! - `stream`: a program's stdin and stdout as one byte stream
//! - here: asking the API server for it
//!
//! Not kube's own AttachedProcess: when its TCP connection drops, its reader waits for ever, and a
//! stream that nobody reads stops the others.

mod frames;
mod stream;

use base64::{Engine, prelude::BASE64_STANDARD};
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use kube::{Client, client::Body, core::Status};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

pub use self::{
    frames::{End, FrameError},
    stream::{Ended, ExecEnd, ExecStream},
};

/// How much of a refusal is read.
const MAX_REFUSAL: usize = 64 * 1024;

/// The byte stream of a program in a pod.
pub type PodStream = ExecStream<TokioIo<Upgraded>>;

/// A program to run, and where.
#[derive(Clone, Copy, Debug)]
pub struct Exec<'a> {
    /// The pod's namespace.
    pub namespace: &'a str,
    /// The pod's name.
    pub pod: &'a str,
    /// The container's name.
    pub container: &'a str,
    /// The program and its arguments; no shell is involved.
    pub command: &'a [&'a str],
}

/// Why no program runs.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// The server's account may not: it needs get, and from Kubernetes 1.35 create, on pods/exec.
    #[error("the API server forbids it: {0}")]
    Forbidden(String),
    /// There is no such pod, or not any more.
    #[error("the pod is not there: {0}")]
    NotFound(String),
    /// The API server answered, and not with a websocket.
    #[error("the API server refused with {code}: {message}")]
    Refused {
        /// HTTP's status code.
        code: u16,
        /// The API server's words.
        message: String,
    },
    /// The API server, or a proxy before it, does not speak version 5 of the protocol.
    #[error(
        "the API server speaks {0} and not {expected}, which Kubernetes 1.30 and later do",
        expected = frames::PROTOCOL
    )]
    Protocol(String),
    /// There was no answer.
    #[error("cannot reach the API server: {0}")]
    Unreachable(String),
}

/// Asks for a program in a pod, with its stdin, stdout and stderr.
///
/// That it succeeds does not mean that the program runs: the API server answers before it has
/// reached the node. What goes wrong later ends the stream, with an [`ExecEnd`].
///
/// # Errors
/// See [`ExecError`]. There is no time limit: drop the future to give up.
pub async fn open(client: &Client, exec: Exec<'_>) -> Result<PodStream, ExecError> {
    let key = BASE64_STANDARD.encode(rand::random::<[u8; 16]>());
    let request = request(exec, &key)?;
    let response = client
        .send(request)
        .await
        .map_err(|error| ExecError::Unreachable(error.to_string()))?;
    let response = accepted(response, &key).await?;
    let upgraded = hyper::upgrade::on(response)
        .await
        .map_err(|error| ExecError::Unreachable(error.to_string()))?;
    Ok(ExecStream::over(TokioIo::new(upgraded)).await)
}

/// RFC 6455, section 4.1.
fn request(exec: Exec<'_>, key: &str) -> Result<Request<Body>, ExecError> {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("container", exec.container);
    for stream in ["stdin", "stdout", "stderr"] {
        query.append_pair(stream, "true");
    }
    for word in exec.command {
        query.append_pair("command", word);
    }
    let Exec { namespace, pod, .. } = exec;
    let path = format!(
        "/api/v1/namespaces/{namespace}/pods/{pod}/exec?{}",
        query.finish()
    );
    Request::get(path)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_VERSION, "13")
        .header(header::SEC_WEBSOCKET_KEY, key)
        .header(header::SEC_WEBSOCKET_PROTOCOL, frames::PROTOCOL)
        .body(Body::empty())
        // A name that no URL can hold is no pod's.
        .map_err(|error| ExecError::NotFound(error.to_string()))
}

/// RFC 6455, section 4.2.2: what makes an answer the promised websocket.
async fn accepted(response: Response<Body>, key: &str) -> Result<Response<Body>, ExecError> {
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(refusal(response).await);
    }
    let headers = response.headers();
    let is = |name, value: &str| text(headers, name).eq_ignore_ascii_case(value);
    if !is(header::UPGRADE, "websocket")
        || text(headers, header::SEC_WEBSOCKET_ACCEPT) != derive_accept_key(key.as_bytes())
    {
        return Err(ExecError::Protocol("no websocket".into()));
    }
    let protocol = text(headers, header::SEC_WEBSOCKET_PROTOCOL);
    if protocol != frames::PROTOCOL {
        return Err(ExecError::Protocol(format!("{protocol:?}")));
    }
    Ok(response)
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> &str {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}

async fn refusal(response: Response<Body>) -> ExecError {
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_REFUSAL);
    let body = body.collect().await.map(|body| body.to_bytes());
    let body = body.unwrap_or_default();
    // A Status of Kubernetes, or the words of a proxy on the way.
    let (message, details) = match serde_json::from_slice::<Status>(&body) {
        Ok(status) => (status.message, status.details),
        Err(_) => (String::from_utf8_lossy(&body).into_owned(), None),
    };
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => ExecError::Forbidden(message),
        // Not of the path, say, nor by a proxy.
        StatusCode::NOT_FOUND if details.is_some_and(|about| about.kind == "pods") => {
            ExecError::NotFound(message)
        }
        _ => ExecError::Refused {
            code: status.as_u16(),
            message,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

    /// The right answer to [`KEY`], but for one header.
    fn answer(header: &str, value: &str) -> Response<Body> {
        let accept = derive_accept_key(KEY.as_bytes());
        let mut headers = vec![
            ("upgrade", "websocket"),
            ("sec-websocket-accept", accept.as_str()),
            ("sec-websocket-protocol", frames::PROTOCOL),
        ];
        headers.retain(|(name, _)| *name != header);
        headers.push((header, value));
        let mut response = Response::builder().status(StatusCode::SWITCHING_PROTOCOLS);
        for (name, value) in headers {
            response = response.header(name, value);
        }
        response.body(Body::empty()).unwrap()
    }

    #[tokio::test]
    async fn a_server_that_speaks_otherwise_is_told_apart() {
        for (header, value, speaks) in [
            ("upgrade", "SPDY/3.1", "no websocket"),
            ("sec-websocket-accept", "of another key", "no websocket"),
            (
                "sec-websocket-protocol",
                "v4.channel.k8s.io",
                "\"v4.channel.k8s.io\"",
            ),
            ("sec-websocket-protocol", "", "\"\""),
        ] {
            let answered = accepted(answer(header, value), KEY).await;
            let Err(ExecError::Protocol(words)) = answered else {
                panic!("{header}: {value}: {answered:?}");
            };
            assert_eq!(words, speaks);
        }
        assert!(accepted(answer("upgrade", "WebSocket"), KEY).await.is_ok());
    }

    #[tokio::test]
    async fn a_connection_that_ends_without_a_word_was_cut() {
        let (server, api_server) = tokio::io::duplex(64);
        let mut stream = ExecStream::over(server).await;
        drop(api_server);
        let mut read = [0; 8];
        let read = tokio::io::AsyncReadExt::read(&mut stream, &mut read).await;
        let error = read.unwrap_err();
        let end = error.get_ref().and_then(|it| it.downcast_ref::<ExecEnd>());
        assert!(matches!(end, Some(ExecEnd::Cut(_))), "{end:?}");
    }

    #[tokio::test]
    async fn an_api_server_that_cannot_be_reached_is_told() {
        let service = tower::service_fn(|_: Request<Body>| async {
            Err::<Response<Body>, _>(std::io::Error::from(std::io::ErrorKind::ConnectionReset))
        });
        let exec = Exec {
            namespace: "a",
            pod: "b",
            container: "c",
            command: &["d"],
        };
        let opened = open(&Client::new(service, "a"), exec).await;
        assert!(matches!(opened, Err(ExecError::Unreachable(_))));
    }
}
