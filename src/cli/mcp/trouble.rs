//! Why a call was not done, in the words of the tools: the field, the value and the remedy.

use std::{fmt::Write, sync::Arc};

use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::cli::client::{ClientError, printable};

/// What is named of the server's own fields, as the tools have them.
const NAMES: [(&str, &str); 7] = [
    ("code.source", "code"),
    ("code.language", "language"),
    ("code.args", "args"),
    ("command.args", "args"),
    ("limits.timeout", "timeout_seconds"),
    ("idle_timeout", "idle_timeout_seconds"),
    ("lifetime", "lifetime_seconds"),
];

/// A call that is answered with an error that the caller can act on.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    #[error("{field}: {reason}")]
    Argument { field: String, reason: String },
    #[error("{0}")]
    Server(Arc<ClientError>),
    #[error("{}", refusal(.0))]
    Refused(Box<Status>),
    #[error(
        "the connection to the server broke: {0}. There is a new one. What the call had begun may have \
         been done or not: look, and repeat it"
    )]
    Broken(String),
    #[error(
        "the connection broke, and {0}. What the call had begun may have been done or not: look, and repeat it"
    )]
    Away(Arc<ClientError>),
    #[error(
        "the connection to the server broke: {0}. There is a new one, and nothing was begun: call again"
    )]
    NotSent(String),
    #[error(
        "the Python of this sandbox has ended, and its variables are gone: {0}. Nothing was run. Call \
         again: a new one takes the code"
    )]
    StateGone(String),
    #[error("{0} calls of this session are under way, which is the most: wait until one has ended")]
    TooManyCalls(usize),
    #[error("the server ended the call without saying how it ended: call again")]
    NoOutcome,
}

impl Trouble {
    /// What is wrong with `field`, and what to do about it.
    pub(super) fn argument(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Argument {
            field: field.into(),
            reason: reason.into(),
        }
    }

    /// Of a call whose arguments the tool has made of a line: they are named as that.
    pub(super) fn of_line(self) -> Self {
        let Self::Refused(status) = &self else {
            return self;
        };
        let bad = status.get_details_bad_request();
        let mut violations = bad.into_iter().flat_map(|bad| bad.field_violations);
        match violations.find(|it| own_name(&it.field).starts_with("args")) {
            Some(it) => Self::argument("command", printable(&it.description)),
            None => self,
        }
    }
}

/// The message with each field that was wrong, and what can be done.
fn refusal(status: &Status) -> String {
    let mut text = String::new();
    let bad = status.get_details_bad_request();
    let violations = bad.map(|bad| bad.field_violations).unwrap_or_default();
    for violation in &violations {
        let separator = if text.is_empty() { "" } else { "\n" };
        let field = printable(&own_name(&violation.field));
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "{separator}{field}: {}",
            printable(&violation.description)
        );
    }
    if violations.is_empty() {
        text = printable(status.message());
    }
    if let Some(delay) = status.get_details_retry_info().and_then(|i| i.retry_delay) {
        let _ = write!(text, "\ntry again in {delay:?}");
    }
    match status.code() {
        Code::NotFound => {
            text += "\ncreate_sandbox makes a sandbox, and list_files shows what is in one";
        }
        // Too much runs or is kept: sandboxes, or files.
        Code::ResourceExhausted => {
            text += "\nwait until calls of before have ended, or give up what is not needed: a sandbox by \
                     delete_sandbox, its files by run_command";
        }
        Code::Unauthenticated => text += "\ngive sandpool mcp a token: SANDPOOL_TOKEN_FILE",
        Code::Unimplemented => text += "\nthe server is older than this client: update it",
        _ => {}
    }
    text
}

/// A field of the server's API under the name that it has as an argument.
fn own_name(field: &str) -> String {
    let field = field.strip_prefix("spec.").unwrap_or(field);
    let field = field.strip_prefix("start.").unwrap_or(field);
    for (theirs, ours) in NAMES {
        if let Some(rest) = field.strip_prefix(theirs)
            && (rest.is_empty() || rest.starts_with('['))
        {
            return format!("{ours}{rest}");
        }
    }
    field.to_owned()
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn a_refusal_names_the_arguments_of_the_tool() {
        let mut details = ErrorDetails::with_bad_request_violation("code.args[1]", "has a NUL");
        details.add_bad_request_violation("limits.timeout", "700s is over 600s");
        let status = Status::with_error_details(Code::InvalidArgument, "2 bad fields", details);
        assert_eq!(
            Trouble::Refused(Box::new(status)).to_string(),
            "args[1]: has a NUL\ntimeout_seconds: 700s is over 600s"
        );
    }

    #[test]
    fn a_line_is_named_as_what_it_was_given_as() {
        let details =
            ErrorDetails::with_bad_request_violation("start.command.args[3]", "is too long");
        let status = Status::with_error_details(Code::InvalidArgument, "bad", details);
        let trouble = Trouble::Refused(Box::new(status)).of_line();
        assert_eq!(trouble.to_string(), "command: is too long");
        let other = Trouble::Refused(Box::new(Status::not_found("no"))).of_line();
        assert!(matches!(other, Trouble::Refused(_)));
    }

    #[test]
    fn what_needs_no_other_name_keeps_its_own() {
        for (theirs, ours) in [
            ("files[0].path", "files[0].path"),
            ("start.path", "path"),
            ("spec.limits.timeout", "timeout_seconds"),
            ("lifetimes", "lifetimes"),
        ] {
            assert_eq!(own_name(theirs), ours);
        }
    }
}
