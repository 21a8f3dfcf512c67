//! Contexts: from what is asked for to what is made, and to what is told of one.

use super::{PoolRules, environment, limits::ENDLESS, outcome, own_id, working_directory};
use crate::{
    api::violations::{InvalidRequest, Violations, quoted},
    dispatch::{Context, NewContext},
    execution::Limits,
    proto::v1,
};

/// The language that has contexts.
const LANGUAGE: &str = "python";

/// Checks `request` against the rules of its sandbox's pool.
///
/// # Errors
/// Everything that is wrong, by field.
pub fn new(
    request: v1::CreateContextRequest,
    rules: &PoolRules,
) -> Result<NewContext, InvalidRequest> {
    let mut violations = Violations::default();
    if !matches!(request.language.as_str(), "" | LANGUAGE) {
        let text = format!(
            "{} has no contexts: use {LANGUAGE:?}, or run a program of it on a terminal",
            quoted(&request.language)
        );
        violations.add("language", text);
    } else if !rules.languages.iter().any(|it| it == LANGUAGE) {
        let text = format!(
            "{LANGUAGE:?} is not a language of this sandbox's pool, and no other has contexts"
        );
        violations.add("language", text);
    }
    let env = environment::env(request.env, &mut violations);
    own_id("request_id", &request.request_id, &mut violations);
    let working_directory = working_directory(&request.working_directory, &mut violations);
    if !violations.is_empty() {
        return Err(InvalidRequest::from(violations).within(""));
    }
    Ok(NewContext {
        request_id: request.request_id,
        language: LANGUAGE.to_owned(),
        env,
        working_directory,
        limits: Limits {
            timeout: ENDLESS,
            // It is its cells that write.
            output_bytes: u64::MAX,
            ..rules.bounds.max.clone()
        },
    })
}

/// What its caller is told of it.
#[must_use]
pub fn message(context: &Context, sandbox_id: &str) -> v1::Context {
    v1::Context {
        context_id: context.id().to_owned(),
        sandbox_id: sandbox_id.to_owned(),
        language: context.language().to_owned(),
        working_directory: context.working_directory().to_owned(),
        create_time: outcome::timestamp(context.created_at()),
        execution_count: context.cells(),
        finished: context.ended().map(|end| outcome::finished(*end)),
    }
}
