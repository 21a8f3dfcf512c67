//! What the tools take, as their schemas say it. Descriptions are read by whoever calls the tools.

use std::{collections::HashMap, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use rmcp::{
    model::JsonObject,
    schemars::{self, JsonSchema},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use super::trouble::Trouble;
use crate::proto::v1::InputFile;

/// Characters of a parser's words about a value, which it repeats whole.
const MAX_REASON: usize = 300;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RunCode {
    /// The source. In a sandbox of create_sandbox it is a cell, as in a notebook: the value of a last expression is
    /// shown, and so are figures of matplotlib.
    pub(super) code: String,
    /// A language of the server: usually python, bash and node.
    #[serde(default = "python")]
    pub(super) language: String,
    /// A sandbox of create_sandbox, where files stay, and variables of Python. Without it: a fresh one, which is gone
    /// afterwards.
    pub(super) sandbox_id: Option<String>,
    /// What the script sees as its arguments. Not for Python with sandbox_id: assign variables there.
    #[serde(default)]
    pub(super) args: Vec<String>,
    /// What it reads from standard input; nothing otherwise.
    #[serde(default)]
    pub(super) stdin: String,
    /// Written before it runs.
    #[serde(default)]
    pub(super) files: Vec<File>,
    /// Files to answer with afterwards: globs with *, ? and **, relative to the working directory. Images are shown, texts
    /// are quoted, others are only named.
    #[serde(default)]
    pub(super) output_paths: Vec<String>,
    /// It is ended after so long; without it, after the server's default.
    pub(super) timeout_seconds: Option<f64>,
}

fn python() -> String {
    "python".to_owned()
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RunCommand {
    /// A line for the shell (bash, where there is one). Either this or args.
    pub(super) command: Option<String>,
    /// A program and its arguments, without a shell. Either this or command.
    #[serde(default)]
    pub(super) args: Vec<String>,
    /// A sandbox of create_sandbox, where files stay. Without it: a fresh one, which is gone afterwards.
    pub(super) sandbox_id: Option<String>,
    /// Where it starts, relative to /workspace; made if it is not there.
    #[serde(default)]
    pub(super) working_directory: String,
    /// What it reads from standard input; nothing otherwise.
    #[serde(default)]
    pub(super) stdin: String,
    /// Written before it runs.
    #[serde(default)]
    pub(super) files: Vec<File>,
    /// Files to answer with afterwards: globs with *, ? and **, relative to the working directory. Images are shown, texts
    /// are quoted, others are only named.
    #[serde(default)]
    pub(super) output_paths: Vec<String>,
    /// It is ended after so long; without it, after the server's default.
    pub(super) timeout_seconds: Option<f64>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateSandbox {
    /// How long it lives at most; without it, the server's default.
    pub(super) lifetime_seconds: Option<f64>,
    /// How long it lives without being used; without it, the server's default.
    pub(super) idle_timeout_seconds: Option<f64>,
    /// Environment variables of all that runs in it.
    #[serde(default)]
    pub(super) env: HashMap<String, String>,
    /// Written into it.
    #[serde(default)]
    pub(super) files: Vec<File>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct WriteFile {
    /// A sandbox of create_sandbox.
    pub(super) sandbox_id: String,
    /// Relative to /workspace, or in /workspace, /tmp or /home/sandbox. Directories are made, a file that is there is
    /// replaced.
    pub(super) path: String,
    /// Its content, if that is text. Either this or base64.
    pub(super) text: Option<String>,
    /// Its content in base64. Either this or text.
    pub(super) base64: Option<String>,
    /// Whether it can be run as a program.
    #[serde(default)]
    pub(super) executable: bool,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ReadFile {
    /// A sandbox of create_sandbox.
    pub(super) sandbox_id: String,
    /// Relative to /workspace, or in /workspace, /tmp or /home/sandbox.
    pub(super) path: String,
    /// The byte to begin at.
    #[serde(default)]
    pub(super) offset: u64,
    /// How many bytes at most, up to 1048576; without it, 16384. An image is read whole.
    pub(super) length: Option<u64>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ListFiles {
    /// A sandbox of create_sandbox.
    pub(super) sandbox_id: String,
    /// A directory, relative to /workspace, or in /workspace, /tmp or /home/sandbox.
    #[serde(default = "here")]
    pub(super) path: String,
}

fn here() -> String {
    ".".to_owned()
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DeleteSandbox {
    /// A sandbox of create_sandbox.
    pub(super) sandbox_id: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub(super) struct File {
    /// Relative to the working directory, or in /workspace.
    path: String,
    /// Its content, if that is text. Either this or base64.
    text: Option<String>,
    /// Its content in base64. Either this or text.
    base64: Option<String>,
}

/// The arguments of a call; what is wrong with them is named. null is as good as none: clients give it for what a
/// model has left out.
pub(super) fn parse<T: DeserializeOwned>(arguments: Option<JsonObject>) -> Result<T, Trouble> {
    let mut arguments = arguments.unwrap_or_default();
    arguments.retain(|_, value| !value.is_null());
    let value = Value::Object(arguments);
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        let field = if path == "." {
            "arguments".to_owned()
        } else {
            path
        };
        let reason = error.into_inner().to_string();
        let mut shown: String = reason.chars().take(MAX_REASON).collect();
        if shown.len() < reason.len() {
            shown += "...";
        }
        Trouble::argument(field, shown)
    })
}

/// A number of seconds, if one is given.
pub(super) fn seconds(field: &str, given: Option<f64>) -> Result<Option<Duration>, Trouble> {
    let Some(seconds) = given else {
        return Ok(None);
    };
    let time = Duration::try_from_secs_f64(seconds).ok();
    let time = time.filter(|time| !time.is_zero());
    time.map(Some).ok_or_else(|| {
        let reason = format!("{seconds} is no time: give a number of seconds above 0, such as 30");
        Trouble::argument(field, reason)
    })
}

/// Content that is given as text or in base64; `prefix` comes before the names of the two.
pub(super) fn content(
    prefix: &str,
    text: Option<String>,
    base64: Option<String>,
) -> Result<Bytes, Trouble> {
    match (text, base64) {
        (Some(text), None) => Ok(text.into()),
        (None, Some(base64)) => BASE64_STANDARD
            .decode(base64)
            .map(Bytes::from)
            .map_err(|error| {
                let reason = format!("is no base64 ({error}): encode it with padding, or use text");
                Trouble::argument(format!("{prefix}base64"), reason)
            }),
        (Some(_), Some(_)) => Err(Trouble::argument(
            format!("{prefix}base64"),
            "is given beside text: leave one of them out",
        )),
        (None, None) => Err(Trouble::argument(
            format!("{prefix}text"),
            "is missing: give the content as text, or as base64",
        )),
    }
}

/// Files as the server takes them.
pub(super) fn input_files(files: Vec<File>) -> Result<Vec<InputFile>, Trouble> {
    let files = files.into_iter().enumerate().map(|(index, file)| {
        Ok(InputFile {
            path: file.path,
            content: content(&format!("files[{index}]."), file.text, file.base64)?,
            mode: 0,
        })
    });
    files.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn trouble(arguments: Value) -> String {
        let Value::Object(arguments) = arguments else {
            panic!("not an object");
        };
        let parsed = parse::<RunCode>(Some(arguments)).and_then(|it| {
            seconds("timeout_seconds", it.timeout_seconds)?;
            input_files(it.files)
        });
        parsed.map(drop).unwrap_err().to_string()
    }

    #[test]
    fn what_is_wrong_is_named_with_its_field_and_value() {
        for (arguments, expected) in [
            (json!({}), "arguments: missing field `code`"),
            (
                json!({"code": 1}),
                "code: invalid type: integer `1`, expected a string",
            ),
            (
                json!({"code": "", "timeout_seconds": "5"}),
                "timeout_seconds: invalid type: string \"5\", expected f64",
            ),
            (
                json!({"code": "", "timeout_seconds": -1}),
                "timeout_seconds: -1 is no time: give a number of seconds above 0, such as 30",
            ),
            (
                json!({"code": "", "files": [{"path": "a", "text": ""}, {"text": ""}]}),
                "files[1]: missing field `path`",
            ),
            (
                json!({"code": "", "files": [{"path": "a", "base64": "?"}]}),
                "files[0].base64: is no base64 (Invalid symbol 63, offset 0.): encode it with padding, or use text",
            ),
            (
                json!({"code": "", "files": [{"path": "a"}]}),
                "files[0].text: is missing: give the content as text, or as base64",
            ),
            (
                json!({"code": "", "files": [{"path": "a", "text": "", "base64": ""}]}),
                "files[0].base64: is given beside text: leave one of them out",
            ),
        ] {
            assert_eq!(trouble(arguments), expected);
        }
        assert!(
            trouble(json!({"code": "", "cwd": "x"}))
                .starts_with("cwd: unknown field `cwd`, expected")
        );
    }

    #[test]
    fn null_is_as_good_as_none() {
        let Value::Object(schema) = json!({
            "code": "1", "language": null, "sandbox_id": null, "args": null, "stdin": null, "files": null,
            "output_paths": null, "timeout_seconds": null,
        }) else {
            panic!("not an object");
        };
        let call = parse::<RunCode>(Some(schema)).unwrap();
        assert_eq!((call.language.as_str(), call.args.len()), ("python", 0));
        assert_eq!(
            trouble(json!({"code": null})),
            "arguments: missing field `code`"
        );
    }

    #[test]
    fn a_value_is_not_repeated_whole() {
        let code = json!({"code": {"x".repeat(10): "y"}, "language": "z".repeat(100_000)});
        assert!(trouble(code).len() < 400);
        let text = trouble(json!({"code": "", "files": "z".repeat(100_000)}));
        assert!(text.len() < 400 && text.ends_with("..."));
    }
}
