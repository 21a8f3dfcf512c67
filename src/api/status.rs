//! Errors as gRPC statuses: the only place where one becomes the other.
//!
//! A status is made of headers, and clients refuse a call's headers beyond some size (C++ and
//! Python from 8 KiB on, Go and Rust from 16 KiB), which would hide the error altogether. So the
//! texts are cut to a budget here.

use std::fmt::Write;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};

use super::{
    input::InputError,
    violations::{InvalidRequest, quoted},
};
use crate::{
    access::Denied,
    dispatch::{
        AlreadyExists, ContextBusy, ContextEnded, ContextNotCreated, LivesTooLong, NoContext,
        NoExecution, NoSandbox, NotCreated, Refused, SandboxBusy, TooManyContexts,
        TooManyExecutions, TooManySandboxes,
    },
    execution::FileStatus,
    pool::{LeaseError, ResizeError},
    sandbox::OperationError,
};

/// Bytes of violations in the details; they are sent as base64, one third longer.
const MAX_DETAILS_BYTES: usize = 3 * 1024;

/// Bytes of the message, which comes twice: in its own header (where a byte that is not ASCII
/// takes three) and within the details.
const MAX_MESSAGE_BYTES: usize = 512;

/// Why a call is refused before anything is leased.
///
/// A closed list: who adds a kind of refusal is asked by the compiler, below, for its status.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The caller is unknown, or may not do this.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// What is asked for is invalid.
    #[error(transparent)]
    Invalid(#[from] InvalidRequest),
    /// A message of an Execute call came where it may not.
    #[error(transparent)]
    Input(#[from] InputError),
    /// PoolService was asked for a pool that is not there. A spec that names one is
    /// [`InvalidRequest::unknown_pool`].
    #[error("there is no pool {}: ListPools lists them", quoted(name))]
    UnknownPool {
        /// What the client asked for.
        name: String,
    },
    /// The id of the execution is not new.
    #[error(transparent)]
    AlreadyExists(#[from] AlreadyExists),
    /// The caller has enough under way.
    #[error(transparent)]
    TooManyExecutions(#[from] TooManyExecutions),
    /// The caller has enough sandboxes.
    #[error(transparent)]
    TooManySandboxes(#[from] TooManySandboxes),
    /// There is no such sandbox, or it is another caller's.
    #[error("there is no sandbox {} of this caller{}", quoted(&.0.id), .0.why())]
    NoSandbox(#[from] NoSandbox),
    /// The caller has no such execution, or none any more.
    #[error(transparent)]
    NoExecution(#[from] NoExecution),
    /// An execution takes no input but its own call's, or has ended.
    #[error("it has ended, or takes input only from its own call: see keep_after_disconnect")]
    TakesNoInput,
    /// Another call reads the execution now.
    #[error("another call has attached to this execution: attach again to go on")]
    AttachedElsewhere,
    /// The execution that another call has asked for was never run.
    #[error("the call that asked for this execution ended before it was run: ask for it again")]
    GivenUp,
    /// Enough is done in the sandbox.
    #[error(transparent)]
    SandboxBusy(#[from] SandboxBusy),
    /// There is no such context in the sandbox.
    #[error(transparent)]
    NoContext(#[from] NoContext),
    /// The context takes no cells any more.
    #[error(transparent)]
    ContextEnded(#[from] ContextEnded),
    /// The context has no time for the cell.
    #[error(transparent)]
    ContextBusy(#[from] ContextBusy),
    /// The sandbox has enough contexts.
    #[error(transparent)]
    TooManyContexts(#[from] TooManyContexts),
    /// A context's interpreter did not start; how it ended.
    #[error("the context's interpreter did not start: {0}")]
    ContextNotStarted(String),
    /// A sandbox would live for too long.
    #[error(transparent)]
    LivesTooLong(#[from] LivesTooLong),
    /// The pool gives no sandbox.
    #[error(transparent)]
    Lease(#[from] LeaseError),
    /// The server's sandboxes may not be its own any more; the reason.
    #[error("{0}")]
    NotOwner(String),
    /// A file operation was not done.
    #[error("{}", operation_text(.0))]
    Operation(#[from] OperationError),
    /// The pool keeps its size.
    #[error(transparent)]
    Resize(#[from] ResizeError),
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::AlreadyExists(error) => error.into(),
            Refused::TooManyExecutions(error) => error.into(),
            Refused::TooManySandboxes(error) => error.into(),
            Refused::SandboxBusy(error) => error.into(),
            Refused::ContextBusy(error) => error.into(),
            Refused::ContextEnded(error) => error.into(),
            Refused::Lease(error) => error.into(),
            Refused::NotOwner(reason) => Self::NotOwner(reason),
        }
    }
}

impl From<NotCreated> for Refusal {
    fn from(error: NotCreated) -> Self {
        match error {
            NotCreated::Refused(refused) => refused.into(),
            NotCreated::Files(error) => error.into(),
        }
    }
}

impl From<ContextNotCreated> for Refusal {
    fn from(error: ContextNotCreated) -> Self {
        match error {
            ContextNotCreated::Refused(refused) => refused.into(),
            ContextNotCreated::TooMany(error) => error.into(),
            ContextNotCreated::NotStarted(how) => Self::ContextNotStarted(how),
        }
    }
}

impl Refusal {
    /// The status code.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Denied(Denied::Unauthenticated) => Code::Unauthenticated,
            Self::Denied(Denied::NotAllowed) => Code::PermissionDenied,
            Self::Denied(Denied::Unavailable) => Code::Unavailable,
            Self::Invalid(_) | Self::Input(_) => Code::InvalidArgument,
            Self::UnknownPool { .. }
            | Self::NoSandbox(_)
            | Self::NoExecution(_)
            | Self::NoContext(_) => Code::NotFound,
            Self::TakesNoInput | Self::ContextEnded(_) | Self::ContextNotStarted(_) => {
                Code::FailedPrecondition
            }
            Self::AlreadyExists(_) => Code::AlreadyExists,
            Self::TooManyExecutions(_)
            | Self::TooManySandboxes(_)
            | Self::SandboxBusy(_)
            | Self::ContextBusy(_)
            | Self::TooManyContexts(_)
            | Self::Lease(
                LeaseError::QueueFull { .. }
                | LeaseError::CallerQueueFull { .. }
                | LeaseError::QueueTimeout { .. },
            ) => Code::ResourceExhausted,
            Self::Lease(LeaseError::Drained | LeaseError::ShuttingDown)
            | Self::NotOwner(_)
            | Self::GivenUp
            | Self::Operation(OperationError::Lost(_)) => Code::Unavailable,
            Self::Operation(OperationError::Cancelled(_)) | Self::AttachedElsewhere => {
                Code::Aborted
            }
            Self::Operation(OperationError::Failed(status, _)) => file_code(*status),
            Self::LivesTooLong(_)
            | Self::Resize(ResizeError::NoSandboxes | ResizeError::MinIdleAboveMax { .. }) => {
                Code::InvalidArgument
            }
            Self::Resize(ResizeError::Drained) => Code::FailedPrecondition,
        }
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let code = refusal.code();
        match refusal {
            Refusal::Invalid(invalid) => bad_request(code, list(invalid)),
            Refusal::Input(error) => bad_field(code, error.field(), error.to_string()),
            Refusal::LivesTooLong(error) => bad_field(code, "lifetime", error.to_string()),
            Refusal::Lease(
                LeaseError::QueueFull { retry_after, .. }
                | LeaseError::CallerQueueFull { retry_after, .. },
            ) => Status::with_error_details(
                code,
                refusal.to_string(),
                ErrorDetails::with_retry_info(Some(retry_after)),
            ),
            Refusal::Resize(ResizeError::NoSandboxes) => {
                bad_field(code, "max_sandboxes", refusal.to_string())
            }
            Refusal::Resize(ResizeError::MinIdleAboveMax { .. }) => {
                bad_field(code, "min_idle", refusal.to_string())
            }
            Refusal::Denied(_)
            | Refusal::UnknownPool { .. }
            | Refusal::AlreadyExists(_)
            | Refusal::TooManyExecutions(_)
            | Refusal::TooManySandboxes(_)
            | Refusal::SandboxBusy(_)
            | Refusal::NoSandbox(_)
            | Refusal::NoExecution(_)
            | Refusal::NoContext(_)
            | Refusal::ContextEnded(_)
            | Refusal::ContextBusy(_)
            | Refusal::ContextNotStarted(_)
            | Refusal::TooManyContexts(_)
            | Refusal::TakesNoInput
            | Refusal::AttachedElsewhere
            | Refusal::GivenUp
            | Refusal::Operation(_)
            | Refusal::NotOwner(_)
            | Refusal::Lease(
                LeaseError::QueueTimeout { .. } | LeaseError::Drained | LeaseError::ShuttingDown,
            )
            | Refusal::Resize(ResizeError::Drained) => Status::new(code, refusal.to_string()),
        }
    }
}

const fn file_code(status: FileStatus) -> Code {
    match status {
        FileStatus::NotFound => Code::NotFound,
        FileStatus::AlreadyExists => Code::AlreadyExists,
        FileStatus::Full => Code::ResourceExhausted,
        FileStatus::NotADirectory
        | FileStatus::NotAFile
        | FileStatus::NotEmpty
        | FileStatus::Outside
        | FileStatus::Denied => Code::FailedPrecondition,
        FileStatus::BadArchive => Code::InvalidArgument,
        FileStatus::Other => Code::Unknown,
    }
}

/// What happened, and in the sandbox's words more of it.
fn operation_text(error: &OperationError) -> String {
    let OperationError::Failed(status, words) = error else {
        return error.to_string();
    };
    let what = match status {
        FileStatus::NotFound => "there is no such path",
        FileStatus::AlreadyExists => "there is such a path already",
        FileStatus::Full => "its volume is full",
        FileStatus::NotADirectory => "it is not a directory",
        FileStatus::NotAFile => "it has no content to read or write",
        FileStatus::NotEmpty => "the directory is not empty: remove it recursively",
        FileStatus::Outside => "it leads out of the sandbox's writable directories",
        FileStatus::Denied => "it is not possible there",
        FileStatus::BadArchive => "the archive cannot be unpacked",
        FileStatus::Other => "it cannot be done",
    };
    if words.is_empty() {
        what.to_owned()
    } else {
        format!("{what} ({words})")
    }
}

/// What fits, and how much does not.
struct Listed {
    violations: Vec<FieldViolation>,
    omitted: usize,
}

fn list(invalid: InvalidRequest) -> Listed {
    let InvalidRequest {
        root,
        violations,
        mut omitted,
    } = invalid;
    let mut bytes = 0;
    let mut listed = Vec::new();
    for violation in violations {
        let field = match root {
            "" => violation.field,
            root => format!("{root}.{}", violation.field),
        };
        bytes += field.len() + violation.text.len();
        // The first one is told whatever its size is: an error must say something.
        if bytes > MAX_DETAILS_BYTES && !listed.is_empty() {
            omitted += 1;
        } else {
            listed.push(FieldViolation::new(field, violation.text));
        }
    }
    Listed {
        violations: listed,
        omitted,
    }
}

fn bad_field(code: Code, field: &str, text: String) -> Status {
    bad_request(
        code,
        Listed {
            violations: vec![FieldViolation::new(field, text)],
            omitted: 0,
        },
    )
}

fn bad_request(code: Code, listed: Listed) -> Status {
    let message = message(&listed);
    Status::with_error_details(
        code,
        message,
        ErrorDetails::with_bad_request(listed.violations),
    )
}

/// The violations once more, as far as they fit: many clients show nothing but the message.
fn message(listed: &Listed) -> String {
    let mut message = String::new();
    let mut told = 0;
    for violation in &listed.violations {
        let text = format!("{} {}", violation.field, violation.description);
        if told > 0 && message.len() + text.len() > MAX_MESSAGE_BYTES {
            break;
        }
        if told > 0 {
            message.push_str("; ");
        }
        message.push_str(&text);
        told += 1;
    }
    let more = listed.violations.len() - told + listed.omitted;
    if more > 0 {
        // Writing to a String cannot fail.
        let _ = write!(message, "; and {more} more");
    }
    message
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::api::Violation;

    fn invalid(violations: Vec<(&str, &str)>) -> InvalidRequest {
        InvalidRequest {
            root: "spec",
            violations: violations
                .into_iter()
                .map(|(field, text)| Violation {
                    field: field.to_owned(),
                    text: text.to_owned(),
                })
                .collect(),
            omitted: 0,
        }
    }

    /// Bytes of the status's headers, names included.
    fn header_bytes(status: Status) -> usize {
        let response = status.into_http::<()>();
        let headers = response.headers();
        headers
            .iter()
            .map(|(name, value)| name.as_str().len() + value.len() + 32)
            .sum()
    }

    #[test]
    fn an_invalid_spec_is_an_invalid_argument_with_a_field_for_each_violation() {
        let error = invalid(vec![
            ("code.source", "is blank"),
            ("files[0].path", "is empty"),
        ]);
        let status = Status::from(Refusal::from(error));
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(
            status.message(),
            "spec.code.source is blank; spec.files[0].path is empty"
        );
        let fields: Vec<String> = status
            .get_details_bad_request()
            .unwrap()
            .field_violations
            .into_iter()
            .map(|violation| violation.field)
            .collect();
        assert_eq!(fields, ["spec.code.source", "spec.files[0].path"]);
    }

    #[test]
    fn fields_are_named_as_the_request_holds_them() {
        let error = invalid(vec![("program", "is missing")]).within("start");
        let status = Status::from(Refusal::from(error));
        let details = status.get_details_bad_request().unwrap();
        assert_eq!(details.field_violations[0].field, "start.program");
    }

    #[test]
    fn a_message_out_of_place_is_an_invalid_argument_with_its_field() {
        let status = Status::from(Refusal::from(InputError::StartedTwice));
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().starts_with("start came a second time: "));
        let details = status.get_details_bad_request().unwrap();
        assert_eq!(details.field_violations[0].field, "start");
    }

    #[test]
    fn a_pool_that_is_not_there_is_not_found() {
        let refusal = Refusal::UnknownPool {
            name: "gpu\n".to_owned(),
        };
        let status = Status::from(refusal);
        assert_eq!(status.code(), Code::NotFound);
        assert_eq!(
            status.message(),
            "there is no pool \"gpu\\n\": ListPools lists them"
        );
    }

    #[test]
    fn however_much_is_wrong_the_headers_stay_below_8_kib() {
        let field = format!("env[\"{}\"]", "é".repeat(40));
        let text = "ü".repeat(120);
        let mut error = invalid(vec![(field.as_str(), text.as_str()); 32]);
        error.omitted = 1_000_000;
        let status = Status::from(Refusal::from(error));
        assert!(status.message().ends_with(" more"), "{}", status.message());
        assert!(header_bytes(status) < 8 * 1024);
    }
}
