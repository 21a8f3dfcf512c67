//! What a websocket message of an exec holds: the remote command protocol, without any I/O.
//!
//! Each binary message is a channel number and that channel's bytes. The protocol is written down
//! in Kubernetes' sources only (k8s.io/apimachinery/pkg/util/remotecommand/constants.go and
//! k8s.io/client-go/tools/remotecommand); its version 5 adds the message that closes a channel.

use bytes::{BufMut, Bytes, BytesMut};
use serde::Deserialize;

/// The websocket subprotocol: earlier ones cannot close stdin.
pub(super) const PROTOCOL: &str = "v5.channel.k8s.io";

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const STATUS: u8 = 3;
const CLOSE: u8 = 255;

/// A status is a few hundred bytes; what is longer is none.
const MAX_STATUS: usize = 64 * 1024;

/// What came from the program, or about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Incoming {
    /// The program's output; never empty.
    Stdout(Bytes),
    /// The program's errors; never empty.
    Stderr(Bytes),
    /// How the program ended, as the kubelet says. Nothing comes after it.
    End(End),
    /// A message that says nothing: each channel begins with an empty one, before the API server
    /// has reached the node.
    Nothing,
}

/// How a program ended, as the kubelet says. "Success" proves little: a kubelet that loses its
/// connection to the API server yields it, too (kubernetes/kubernetes#137404).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// It exited.
    Exited(i32),
    /// It could not be run, or is no longer watched.
    Failed {
        /// Kubernetes' reason, such as `InternalError`; may be empty.
        reason: String,
        /// What Kubernetes says of it.
        message: String,
    },
}

/// Why a message is none of the protocol's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// It has no channel.
    #[error("an empty message")]
    Empty,
    /// It is text.
    #[error("a text message")]
    Text,
    /// The channel is not one that a program writes to.
    #[error("a message for channel {0}")]
    Channel(u8),
    /// The status is not one.
    #[error("a status that is none: {0}")]
    Status(String),
}

/// Takes a binary message apart. The bytes are the message's own, not copied.
///
/// # Errors
/// When it breaks the protocol.
pub(super) fn decode(mut message: Bytes) -> Result<Incoming, FrameError> {
    let Some(&channel) = message.first() else {
        return Err(FrameError::Empty);
    };
    let content = message.split_off(1);
    match channel {
        STDOUT | STDERR | STATUS if content.is_empty() => Ok(Incoming::Nothing),
        STDOUT => Ok(Incoming::Stdout(content)),
        STDERR => Ok(Incoming::Stderr(content)),
        STATUS => status(&content).map(Incoming::End),
        // A channel of the other side's was closed; the status is what ends an exec.
        CLOSE => Ok(Incoming::Nothing),
        channel => Err(FrameError::Channel(channel)),
    }
}

/// Begins a message of bytes for the program's stdin.
pub(super) fn begin_stdin(message: &mut BytesMut) {
    message.put_u8(STDIN);
}

/// The message that ends the program's stdin.
pub(super) fn close_stdin() -> Bytes {
    Bytes::from_static(&[CLOSE, STDIN])
}

/// `Status` of the API, as far as an exec fills it in.
#[derive(Deserialize)]
struct Status {
    status: String,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    message: String,
    #[serde(default)]
    details: Details,
}

#[derive(Default, Deserialize)]
struct Details {
    #[serde(default)]
    causes: Vec<Cause>,
}

#[derive(Deserialize)]
struct Cause {
    #[serde(default)]
    reason: String,
    #[serde(default)]
    message: String,
}

fn status(content: &[u8]) -> Result<End, FrameError> {
    let none = |why: String| FrameError::Status(why);
    if content.len() > MAX_STATUS {
        return Err(none(format!("{} bytes", content.len())));
    }
    let status: Status =
        serde_json::from_slice(content).map_err(|error| none(error.to_string()))?;
    if status.status == "Success" {
        return Ok(End::Exited(0));
    }
    let code = status
        .details
        .causes
        .iter()
        .find(|cause| cause.reason == "ExitCode")
        .and_then(|cause| cause.message.parse().ok());
    Ok(match code {
        Some(code) if status.reason == "NonZeroExitCode" => End::Exited(code),
        _ => End::Failed {
            reason: status.reason,
            message: status.message,
        },
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(channel: u8, content: &[u8]) -> Bytes {
        [&[channel], content].concat().into()
    }

    #[test]
    fn an_exit_code_is_taken_from_the_causes() {
        let status = br#"{"metadata":{},"status":"Failure","message":"command terminated with non-zero exit code",
            "reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"137"}]}}"#;
        assert_eq!(
            decode(message(STATUS, status)),
            Ok(Incoming::End(End::Exited(137)))
        );
        let status = br#"{"metadata":{},"status":"Success"}"#;
        assert_eq!(
            decode(message(STATUS, status)),
            Ok(Incoming::End(End::Exited(0)))
        );
    }

    #[test]
    fn a_failure_keeps_kubernetes_own_words() {
        let status = br#"{"status":"Failure","reason":"InternalError","message":"container not found (\"c\")"}"#;
        assert_eq!(
            decode(message(STATUS, status)),
            Ok(Incoming::End(End::Failed {
                reason: "InternalError".into(),
                message: "container not found (\"c\")".into(),
            }))
        );
    }

    #[test]
    fn a_status_that_is_none_is_an_error() {
        for status in [&b"Success"[..], b"{}", b"\xff", &[b' '; MAX_STATUS + 1]] {
            let decoded = decode(message(STATUS, status));
            assert!(matches!(decoded, Err(FrameError::Status(_))), "{decoded:?}");
        }
    }

    #[test]
    fn messages_of_no_channel_or_an_unknown_one_are_errors() {
        assert_eq!(decode(Bytes::new()), Err(FrameError::Empty));
        for channel in [STDIN, 4, 5, 254] {
            let decoded = decode(message(channel, b"x"));
            assert_eq!(decoded, Err(FrameError::Channel(channel)));
        }
    }

    proptest! {
        #[test]
        fn output_is_untouched(content in proptest::collection::vec(any::<u8>(), 1..9000)) {
            let expected = Bytes::from(content.clone());
            prop_assert_eq!(
                decode(message(STDOUT, &content)),
                Ok(Incoming::Stdout(expected.clone()))
            );
            prop_assert_eq!(decode(message(STDERR, &content)), Ok(Incoming::Stderr(expected)));
        }

        #[test]
        fn anything_is_decoded_or_refused(content in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode(content.into());
        }

        #[test]
        fn any_exit_code_comes_back(code in any::<i32>()) {
            let status = serde_json::json!({
                "status": "Failure",
                "reason": "NonZeroExitCode",
                "details": { "causes": [{ "reason": "ExitCode", "message": code.to_string() }] },
            });
            prop_assert_eq!(
                decode(message(STATUS, status.to_string().as_bytes())),
                Ok(Incoming::End(End::Exited(code)))
            );
        }
    }
}
