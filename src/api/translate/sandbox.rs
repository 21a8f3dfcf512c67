//! Named sandboxes: from what is asked for to what is made, and to what is told of it.

use std::time::Duration;

use super::{NamedRules, PoolRules, environment, files, limits, outcome, own_id};
use crate::{
    api::violations::{InvalidRequest, Violations},
    dispatch::{NamedSandbox, NewSandbox},
    execution::paths::WORKSPACE,
    proto::v1,
};

/// Checks `request` against the rules of its pool, whose name is `pool`.
///
/// # Errors
/// Everything that is wrong, by field.
pub fn new(
    request: v1::CreateSandboxRequest,
    pool: String,
    caller: String,
    rules: &PoolRules,
) -> Result<NewSandbox, InvalidRequest> {
    let mut violations = Violations::default();
    let NamedRules {
        default_lifetime,
        max_lifetime,
        default_idle_timeout,
    } = rules.named;
    let lifetime = limits::duration(
        "lifetime",
        request.lifetime,
        default_lifetime,
        max_lifetime,
        &mut violations,
    );
    let idle_timeout = limits::duration(
        "idle_timeout",
        request.idle_timeout,
        default_idle_timeout,
        max_lifetime,
        &mut violations,
    );
    let bounds = &rules.bounds;
    let wait = limits::duration(
        "queue_timeout",
        request.queue_timeout,
        bounds.default.queue_timeout,
        bounds.max.queue_timeout,
        &mut violations,
    );
    let env = environment::env(request.env, &mut violations);
    let files = files::input(
        request.files,
        WORKSPACE,
        ("the size of the pool's volumes", bounds.max.disk_bytes),
        &mut violations,
    );
    let labels = environment::labels(request.labels, &mut violations);
    own_id("request_id", &request.request_id, &mut violations);
    if !violations.is_empty() {
        return Err(InvalidRequest::from(violations).within(""));
    }
    Ok(NewSandbox {
        caller,
        request_id: request.request_id,
        pool,
        lifetime,
        idle_timeout,
        env,
        files,
        labels,
        wait,
    })
}

/// How much more time is asked for.
///
/// # Errors
/// When it is no time.
pub fn extension(given: Option<prost_types::Duration>) -> Result<Duration, InvalidRequest> {
    let mut violations = Violations::default();
    let most = limits::ENDLESS;
    let time = limits::duration("lifetime", given, Duration::ZERO, most, &mut violations);
    if violations.is_empty() && time.is_zero() {
        violations.add(
            "lifetime",
            "is missing: say how long the sandbox shall live from now on",
        );
    }
    if violations.is_empty() {
        Ok(time)
    } else {
        Err(InvalidRequest::from(violations).within(""))
    }
}

/// What its caller is told of it.
#[must_use]
pub fn message(sandbox: &NamedSandbox) -> v1::Sandbox {
    let (created, expires) = sandbox.times();
    v1::Sandbox {
        sandbox_id: sandbox.id().to_string(),
        pool: sandbox.pool().to_owned(),
        labels: sandbox.labels().clone().into_iter().collect(),
        create_time: outcome::timestamp(created),
        expire_time: outcome::timestamp(expires),
        idle_timeout: outcome::duration(sandbox.idle_timeout()),
        executions: u32::try_from(sandbox.running()).unwrap_or(u32::MAX),
    }
}
