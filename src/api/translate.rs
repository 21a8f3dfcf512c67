//! From the public ExecutionSpec to a checked one.
//!
//! Everything that is wrong is told at once, so that a client needs one attempt to learn all of
//! it. The rules of each part are in its own file; a text that they produce names the value that
//! was given, unless it may be a secret: source, arguments, values of the environment and contents
//! of files are never repeated.

mod cell;
pub mod context;
mod environment;
mod files;
mod limits;
pub mod outcome;
pub mod path;
mod program;
pub mod sandbox;
pub mod terminal;
#[cfg(test)]
mod tests;

use std::time::Duration;

use super::violations::{InvalidRequest, Violations, quoted};
use crate::{
    dispatch::Context,
    execution::{LimitBounds, Spec, Tenancy, paths},
    proto::v1,
};

pub use environment::{
    MAX_ENV_BYTES, MAX_ENV_ENTRIES, MAX_LABEL_KEY_CHARS, MAX_LABEL_VALUE_CHARS, MAX_LABELS,
};
pub use files::{MAX_INPUT_FILES, MAX_KNOWN_FILES, MAX_OUTPUT_PATHS};
pub use program::{MAX_ARG_BYTES, MAX_ARGS, MAX_ARGS_BYTES};

/// Longest execution_id or request_id, in characters.
pub const MAX_ID_CHARS: usize = 128;

/// What a pool allows its executions.
#[derive(Clone, Debug)]
pub struct PoolRules {
    /// Names of the languages that it has interpreters for.
    pub languages: Vec<String>,
    /// Its limits.
    pub bounds: LimitBounds,
    /// What its named sandboxes may ask for.
    pub named: NamedRules,
}

/// What a pool allows its named sandboxes.
#[derive(Clone, Copy, Debug)]
pub struct NamedRules {
    /// How long one lives that asks for nothing else.
    pub default_lifetime: Duration,
    /// How long one may live.
    pub max_lifetime: Duration,
    /// After how much time without use one ends that asks for nothing else.
    pub default_idle_timeout: Duration,
}

/// Checks `request` against the rules that hold everywhere and against those of its pool.
///
/// `pool` and `execution_id` are the caller's own business: which pool is meant is looked up
/// before ([`InvalidRequest::unknown_pool`] if there is none), and the id is checked here but not
/// part of a [`Spec`].
/// `context`: the one that its context_id names.
pub fn spec(
    mut request: v1::ExecutionSpec,
    pool: &PoolRules,
    context: Option<&Context>,
) -> Result<Spec, InvalidRequest> {
    let mut violations = Violations::default();
    let is_cell = !request.context_id.is_empty();
    let program = if is_cell {
        cell::check(&mut request, context, &mut violations)
    } else {
        program::check(request.program, &pool.languages, &mut violations)
    };
    let env = environment::env(request.env, &mut violations);
    let working_directory = working_directory(&request.working_directory, &mut violations);
    let is_named = !request.sandbox_id.is_empty();
    let mut bounds = pool.bounds.clone();
    if is_named {
        limits::refuse_for_named(request.limits.as_ref(), is_cell, &mut violations);
        // It counts those of all executions in the sandbox.
        bounds.default.processes = bounds.max.processes;
        bounds.max.timeout = bounds.max.timeout.max(pool.named.max_lifetime);
    }
    if request.terminal.is_some() {
        // Nobody is to be interrupted while they type.
        bounds.default.timeout = bounds.max.timeout;
    }
    let limits = limits::check(request.limits, &bounds, &mut violations);
    let files = files::input(
        request.files,
        &working_directory,
        if is_named {
            ("the size of the sandbox's volumes", bounds.max.disk_bytes)
        } else {
            ("limits.disk_bytes", limits.disk_bytes)
        },
        &mut violations,
    );
    let output_paths = files::output_paths(request.output_paths, &mut violations);
    let known_files = files::known(request.known_files, &mut violations);
    let terminal = request.terminal.and_then(|given| {
        let size = terminal::size(given);
        size.map_err(|bad| {
            violations.add(
                bad.field("terminal.rows", "terminal.columns"),
                bad.to_string(),
            )
        })
        .ok()
    });
    let keep_after_disconnect = request.keep_after_disconnect.map(|keep| {
        limits::duration(
            "keep_after_disconnect",
            Some(keep),
            Duration::ZERO,
            pool.named.max_lifetime,
            &mut violations,
        )
    });
    own_id("execution_id", &request.execution_id, &mut violations);
    let labels = environment::labels(request.labels, &mut violations);

    match program {
        Some(program) if violations.is_empty() => Ok(Spec {
            program,
            env,
            working_directory,
            files,
            output_paths,
            known_files,
            limits,
            stdin_open: request.stdin_open || terminal.is_some(),
            terminal,
            labels,
            tenancy: if is_named {
                Tenancy::Named {
                    memory_bytes: pool.bounds.max.memory_bytes,
                }
            } else {
                Tenancy::SingleUse
            },
            keep_after_disconnect,
        }),
        _ => Err(violations.into()),
    }
}

/// The workspace where `given` is refused, so that the files' paths can be checked all the same.
fn working_directory(given: &str, violations: &mut Violations) -> String {
    paths::directory(given).unwrap_or_else(|error| {
        violations.add("working_directory", format!("{} {error}", quoted(given)));
        paths::WORKSPACE.to_owned()
    })
}

/// Checks an id that a caller has chosen.
fn own_id(field: &'static str, given: &str, violations: &mut Violations) {
    let allowed =
        |character: char| character.is_ascii_alphanumeric() || matches!(character, '.' | '_' | '-');
    let length = given.chars().count();
    if length > MAX_ID_CHARS {
        violations.add(
            field,
            format!(
                "{} has {length} characters, where at most {MAX_ID_CHARS} are allowed",
                quoted(given)
            ),
        );
    }
    if let Some(character) = given.chars().find(|character| !allowed(*character)) {
        violations.add(
            field,
            format!(
                "{} holds {character:?}, where only A-Z, a-z, 0-9, '.', '_' and '-' are allowed",
                quoted(given)
            ),
        );
    }
}
