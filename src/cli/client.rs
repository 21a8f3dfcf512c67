//! The connection to a running server, and its errors in words.

use std::{
    env,
    error::Error,
    fmt::{Display, Write},
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use clap::Args;
use tonic::{
    Code, Request, Status,
    metadata::AsciiMetadataValue,
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};
use tonic_types::StatusExt;

/// Large enough that a fast program's output is not held up by acknowledgements, and small enough
/// that what is on its way stays in the processor's caches: with 2 MiB, tonic's default, a loud
/// program is a quarter slower.
const STREAM_WINDOW: u32 = 512 * 1024;
/// As large as it can be: each stream has its own bound above. h2 ends a connection on which more small
/// frames wait than half of this window allows, and a program that writes byte by byte makes such frames.
const CONNECTION_WINDOW: u32 = (1 << 31) - 1;
/// HTTP/2's default, 16 KiB, costs the server a system call for each of them.
const MAX_FRAME: u32 = 256 * 1024;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How often the server is asked for a sign of life, and how long it may take. Without that a call to a server
/// that has fallen silent, or to a machine that is gone, would wait for ever.
const KEEPALIVE: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Which server, and how to be let in.
#[derive(Args)]
pub(super) struct ServerArgs {
    /// The server; https:// where it has a certificate.
    #[arg(
        long,
        value_name = "URL",
        env = "SANDPOOL_ADDRESS",
        default_value = "http://127.0.0.1:50051"
    )]
    address: String,
    /// File with the bearer token, read for each call; the variable SANDPOOL_TOKEN may hold it instead.
    #[arg(long, value_name = "PATH", env = "SANDPOOL_TOKEN_FILE")]
    token_file: Option<PathBuf>,
    /// PEM file of the certificates to trust, instead of the system's.
    #[arg(long, value_name = "PATH", env = "SANDPOOL_CA")]
    ca: Option<PathBuf>,
    /// PEM file of the certificate to show, where the server wants one.
    #[arg(
        long,
        value_name = "PATH",
        env = "SANDPOOL_CLIENT_CERTIFICATE",
        requires = "client_key"
    )]
    client_certificate: Option<PathBuf>,
    /// PEM file of its private key.
    #[arg(
        long,
        value_name = "PATH",
        env = "SANDPOOL_CLIENT_KEY",
        requires = "client_certificate"
    )]
    client_key: Option<PathBuf>,
}

/// A connection whose calls show the token.
pub(super) type Connection = InterceptedService<Channel, Bearer>;

/// Adds the token to a call, if there is one.
#[derive(Clone)]
pub(super) enum Bearer {
    Nobody,
    Fixed(AsciiMetadataValue),
    /// Read for each call: a session may outlive a token that its owner renews, as Kubernetes does.
    File(Arc<Path>),
}

impl Bearer {
    fn header(&self) -> Result<Option<AsciiMetadataValue>, ClientError> {
        match self {
            Self::Nobody => Ok(None),
            Self::Fixed(header) => Ok(Some(header.clone())),
            Self::File(path) => header_of(path).map(Some),
        }
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let header = self.header();
        let header = header.map_err(|error| Status::unauthenticated(error.to_string()))?;
        if let Some(header) = header {
            request.metadata_mut().insert("authorization", header);
        }
        Ok(request)
    }
}

fn header_of(path: &Path) -> Result<AsciiMetadataValue, ClientError> {
    let token = read(path)?;
    authorization(&String::from_utf8_lossy(&token), path.display())
}

fn authorization(token: &str, origin: impl Display) -> Result<AsciiMetadataValue, ClientError> {
    let token = token.trim();
    let header = format!("Bearer {token}").parse().ok();
    let mut header: AsciiMetadataValue =
        header
            .filter(|_| !token.is_empty())
            .ok_or_else(|| ClientError::Token {
                origin: origin.to_string(),
            })?;
    header.set_sensitive(true);
    Ok(header)
}

/// Why the server did not do it.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    #[error("{address} is not a server's address, such as http://127.0.0.1:50051: {reason}")]
    Address { address: String, reason: String },
    #[error("cannot read {path}: {source}")]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("the token of {origin} cannot be sent: it is empty or holds what no header can")]
    Token { origin: String },
    #[error("cannot reach a server at {address}: {reason} (is `sandpool serve` running?)")]
    Unreachable { address: String, reason: String },
    #[error("the server's answer cannot be shown as JSON: {reason}")]
    Unprintable { reason: String },
    #[error("{}", describe(.0))]
    Refused(Box<Status>),
}

impl From<Status> for ClientError {
    fn from(status: Status) -> Self {
        Self::Refused(Box::new(status))
    }
}

impl ServerArgs {
    /// A connection that has been made.
    pub(super) async fn connect(&self) -> Result<Connection, ClientError> {
        let address = if self.address.contains("://") {
            self.address.clone()
        } else {
            format!("http://{}", self.address)
        };
        let bad = |error: &dyn Error| ClientError::Address {
            address: address.clone(),
            reason: root_cause(error),
        };
        let bearer = self.bearer()?;
        let mut endpoint = Endpoint::from_shared(address.clone()).map_err(|error| bad(&error))?;
        if address.starts_with("https:") {
            endpoint = endpoint
                .tls_config(self.tls()?)
                .map_err(|error| bad(&error))?;
        }
        let channel = endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(MAX_FRAME)
            .connect()
            .await
            .map_err(|error| ClientError::Unreachable {
                address,
                reason: root_cause(&error),
            })?;
        Ok(InterceptedService::new(channel, bearer))
    }

    fn bearer(&self) -> Result<Bearer, ClientError> {
        let Some(path) = &self.token_file else {
            return match env::var("SANDPOOL_TOKEN") {
                Ok(token) => authorization(&token, "SANDPOOL_TOKEN").map(Bearer::Fixed),
                Err(_) => Ok(Bearer::Nobody),
            };
        };
        // What cannot be sent is said before anything is asked of a server.
        let header = header_of(path)?;
        Ok(match path.is_file() {
            true => Bearer::File(path.as_path().into()),
            // A pipe says it once.
            false => Bearer::Fixed(header),
        })
    }

    fn tls(&self) -> Result<ClientTlsConfig, ClientError> {
        let mut tls = ClientTlsConfig::new();
        tls = match &self.ca {
            Some(path) => tls.ca_certificate(Certificate::from_pem(read(path)?)),
            None => tls.with_native_roots(),
        };
        if let (Some(certificate), Some(key)) = (&self.client_certificate, &self.client_key) {
            tls = tls.identity(Identity::from_pem(read(certificate)?, read(key)?));
        }
        Ok(tls)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, ClientError> {
    fs::read(path).map_err(|source| ClientError::Unreadable {
        path: path.to_owned(),
        source,
    })
}

/// The innermost error says what happened; those around it say "transport error".
fn root_cause(error: &dyn Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// The code, the message and each field that was wrong, over several lines.
fn describe(status: &Status) -> String {
    let bad = status.get_details_bad_request();
    // A message that tells of each field, for clients that show nothing else, is not told twice.
    let told = bad.as_ref().is_some_and(|bad| {
        let mut fields = bad.field_violations.iter();
        fields.all(|violation| status.message().contains(&violation.description))
    });
    let message = if told {
        "the request is wrong".to_owned()
    } else {
        printable(status.message())
    };
    let mut text = format!("{}: {message}", name(status.code()));
    if let Some(bad) = bad {
        for violation in bad.field_violations {
            let field = printable(&violation.field);
            let _ = write!(text, "\n  {field}: {}", printable(&violation.description));
        }
    }
    if let Some(delay) = status.get_details_retry_info().and_then(|i| i.retry_delay) {
        let _ = write!(text, "\n  try again in {delay:?}");
    }
    text
}

fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

/// Text that a sandbox may have had a hand in, without what a terminal would obey.
pub(super) fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            let escaped = c.is_control().then(|| c.escape_default());
            let plain = escaped.is_none().then_some(c);
            escaped.into_iter().flatten().chain(plain)
        })
        .collect()
}

#[cfg(test)]
impl ServerArgs {
    /// As of a command line.
    pub(super) fn of(words: &[&str]) -> Self {
        use clap::Parser;

        #[derive(Parser)]
        struct Line {
            #[command(flatten)]
            server: ServerArgs,
        }
        Line::try_parse_from(["sandpool"].iter().chain(words))
            .unwrap()
            .server
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn a_refusal_names_each_field() {
        let details =
            ErrorDetails::with_bad_request_violation("spec.limits.timeout", "at most 600s");
        let status = Status::with_error_details(Code::InvalidArgument, "1 bad field", details);
        assert_eq!(
            ClientError::from(status).to_string(),
            "INVALID_ARGUMENT: 1 bad field\n  spec.limits.timeout: at most 600s"
        );
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(printable("a\x1b[2J\nä\u{9b}"), "a\\u{1b}[2J\\nä\\u{9b}");
    }
}
