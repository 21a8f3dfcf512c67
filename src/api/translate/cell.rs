//! Cells: code for a context, and what else they may ask for.

use crate::{
    api::violations::{Violations, quoted},
    dispatch::Context,
    execution::Program,
    proto::v1::{self, execution_spec},
};

/// Checks what is said of a cell, and takes from its request what is its context's own. `None` if there is
/// nothing to run: then at least one violation is added.
pub(super) fn check(
    request: &mut v1::ExecutionSpec,
    context: Option<&Context>,
    violations: &mut Violations,
) -> Option<Program> {
    let Some(context) = context else {
        let text = format!(
            "{} means nothing without sandbox_id: name the sandbox that it is in",
            quoted(&request.context_id)
        );
        violations.add("context_id", text);
        return None;
    };
    refuse_what_is_the_contexts(request, violations);
    request.working_directory = context.working_directory().to_owned();
    match request.program.take() {
        Some(execution_spec::Program::Code(code)) => Some(check_code(code, context, violations)),
        Some(execution_spec::Program::Command(_)) => {
            let text = "means nothing with context_id: give code, or leave the context out";
            violations.add("command", text);
            None
        }
        None => {
            violations.add("program", "is missing: set code, which the context runs");
            None
        }
    }
}

fn check_code(code: v1::Code, context: &Context, violations: &mut Violations) -> Program {
    let v1::Code {
        language,
        source,
        args,
    } = code;
    if !language.is_empty() && language != context.language() {
        let text = format!(
            "{} is not the context's language, which is {}: leave it out",
            quoted(&language),
            quoted(context.language())
        );
        violations.add("code.language", text);
    }
    if source.trim().is_empty() {
        violations.add("code.source", "is blank: give the text of a cell");
    }
    if !args.is_empty() {
        let text = "mean nothing with context_id, since its interpreter runs already: assign them in the source";
        violations.add("code.args", text);
    }
    Program::Cell {
        context_id: context.id().to_owned(),
        source,
        number: 0,
    }
}

fn refuse_what_is_the_contexts(request: &mut v1::ExecutionSpec, violations: &mut Violations) {
    let limits = request.limits.unwrap_or_default();
    for (field, is_set, remedy) in [
        (
            "env",
            !request.env.is_empty(),
            "give it to CreateContext, or set it in the source",
        ),
        (
            "working_directory",
            !request.working_directory.is_empty(),
            "give it to CreateContext, or change it in the source",
        ),
        (
            "terminal",
            request.terminal.is_some(),
            "run a command on one beside it",
        ),
        (
            "limits.memory_bytes",
            limits.memory_bytes != 0,
            "leave it out",
        ),
        ("limits.processes", limits.processes != 0, "leave it out"),
    ] {
        if is_set {
            let text =
                format!("means nothing with context_id, whose interpreter runs already: {remedy}");
            violations.add(field, text);
        }
    }
    request.env.clear();
    request.terminal = None;
}
