//! What a call is answered with: content for whoever reads it, and the same typed.

use rmcp::{
    model::{CallToolResult, ContentBlock},
    schemars::{self, JsonSchema},
};
use serde::Serialize;
use serde_json::Value;

use super::{
    excerpt::{Excerpt, name},
    execute::{Found, Ran, Shown},
    images::TOO_LARGE,
    outcome::{Kind, Outcome},
    trouble::Trouble,
};
use crate::proto::v1::{CodeError, Finished};

/// The answer to a call.
pub(super) struct Answer {
    content: Vec<ContentBlock>,
    structured: Option<Value>,
    is_error: bool,
}

impl Answer {
    /// Of a call that did what it should.
    pub(super) fn done(content: Vec<ContentBlock>, structured: &impl Serialize) -> Self {
        Self {
            content,
            // Only maps with keys that are no strings cannot be values, and there are none.
            structured: serde_json::to_value(structured).ok(),
            is_error: false,
        }
    }

    /// Of a call that was not done.
    pub(super) fn failed(trouble: &Trouble) -> Self {
        Self {
            content: vec![ContentBlock::text(trouble.to_string())],
            structured: None,
            is_error: true,
        }
    }

    /// As the protocol has it, with structured content if that is wanted.
    pub(super) fn into_result(self, structured: bool) -> CallToolResult {
        let mut result = if self.is_error {
            CallToolResult::error(self.content)
        } else {
            CallToolResult::success(self.content)
        };
        result.structured_content = self.structured.filter(|_| structured);
        result
    }
}

/// How a program ended, and what it wrote.
#[derive(Serialize, JsonSchema)]
pub(super) struct ProgramAnswer {
    outcome: Kind,
    /// Of a program that exited.
    exit_code: Option<i32>,
    /// The outcome in words.
    message: String,
    /// Its beginning and its end, with the text of what was displayed.
    stdout: String,
    stdout_bytes: u64,
    /// Its beginning and its end.
    stderr: String,
    stderr_bytes: u64,
    /// An exception that a cell did not catch.
    error: Option<ErrorAnswer>,
    /// How many images there are in the content.
    images: usize,
    /// What output_paths matched.
    files: Vec<FileAnswer>,
    /// The sandbox's Python has ended, and its variables are gone.
    state_lost: bool,
    execution_id: String,
}

#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
struct ErrorAnswer {
    name: String,
    value: String,
    /// Its beginning and its end.
    traceback: String,
}

#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
struct FileAnswer {
    path: String,
    bytes: u64,
    /// Its beginning and its end, if it is text that is shown.
    text: Option<String>,
    /// Whether the content has it, as an image or as text.
    shown: bool,
}

/// The answer to a call that has run a program.
pub(super) fn of_program(ran: Ran, outcome: &Outcome, finished: &Finished) -> Answer {
    let mut content = vec![ContentBlock::text(summary(&ran, outcome, finished))];
    let (stdout, stderr) = (ran.stdout.text(), ran.stderr.text());
    if !stdout.is_empty() {
        content.push(ContentBlock::text(stdout.clone()));
    }
    if !stderr.is_empty() {
        content.push(ContentBlock::text(format!("stderr:\n{stderr}")));
    }
    let error = finished.error.as_ref().map(ErrorAnswer::of);
    if let Some(error) = &error {
        content.push(ContentBlock::text(error.traceback.clone()));
    }
    for file in &ran.files {
        if let Shown::Text(text) = &file.shown {
            content.push(ContentBlock::text(format!("{}:\n{text}", file.path)));
        }
    }
    let structured = ProgramAnswer {
        outcome: outcome.kind,
        exit_code: outcome.exit_code,
        message: outcome.words.clone(),
        stdout,
        stdout_bytes: ran.stdout.total(),
        stderr,
        stderr_bytes: ran.stderr.total(),
        error,
        images: ran.images.count(),
        files: ran.files.iter().map(FileAnswer::of).collect(),
        state_lost: finished.context_ended,
        execution_id: ran.execution_id,
    };
    content.extend(ran.images.into_blocks());
    let mut answer = Answer::done(content, &structured);
    answer.is_error = !outcome.is_success() || finished.error.is_some();
    answer
}

impl ErrorAnswer {
    fn of(error: &CodeError) -> Self {
        Self {
            name: error.name.clone(),
            value: error.value.clone(),
            traceback: Excerpt::of(error.traceback.as_bytes()).text(),
        }
    }
}

impl FileAnswer {
    fn of(found: &Found) -> Self {
        Self {
            path: found.path.clone(),
            bytes: found.bytes,
            text: match &found.shown {
                Shown::Text(text) => Some(text.clone()),
                Shown::Image | Shown::LargeImage | Shown::No => None,
            },
            shown: matches!(found.shown, Shown::Image | Shown::Text(_)),
        }
    }
}

/// How it ended, and what the rest of the answer does not have.
fn summary(ran: &Ran, outcome: &Outcome, finished: &Finished) -> String {
    let mut lines = vec![outcome.words.clone()];
    if let Some(error) = &finished.error {
        lines[0] = format!("{} ({})", name(&error.name), outcome.words);
    }
    if finished.context_ended {
        let mut line = "the sandbox's Python has ended, and its variables are gone".to_owned();
        // What is cancelled with its Python has often lost its sandbox.
        if outcome.kind != Kind::Cancelled {
            line += ": the next code gets a new one";
        }
        lines.push(line);
    }
    for (name, excerpt) in [("stdout", &ran.stdout), ("stderr", &ran.stderr)] {
        let left_out = excerpt.left_out();
        if left_out > 0 {
            lines.push(format!(
                "{left_out} of {} bytes of {name} are left out: write them into a file, and read of it what is needed",
                excerpt.total()
            ));
        }
    }
    for file in &ran.files {
        let how = match file.shown {
            Shown::Image => "an image",
            Shown::Text(_) => "text",
            Shown::LargeImage => TOO_LARGE,
            Shown::No if ran.stays => "not shown: use read_file",
            Shown::No => "not shown: keep it in a sandbox of create_sandbox, and use read_file",
        };
        lines.push(format!("{} ({} bytes, {how})", file.path, file.bytes));
    }
    if ran.more_files > 0 {
        lines.push(format!("and {} more files", ran.more_files));
    }
    let omitted = finished.usage.map_or(0, |usage| usage.output_files_omitted);
    if omitted > 0 {
        lines.push(format!(
            "{omitted} output files were too large, or not readable"
        ));
    }
    lines.extend(ran.unseen.iter().map(|words| format!("not shown: {words}")));
    lines.join("\n")
}
