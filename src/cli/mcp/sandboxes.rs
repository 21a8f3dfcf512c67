//! Sandboxes that live on, as tools.

use std::time::{Duration, SystemTime};

use rmcp::{
    model::ContentBlock,
    schemars::{self, JsonSchema},
};
use serde::Serialize;

use super::{
    answer::Answer,
    arguments::{CreateSandbox, DeleteSandbox, input_files, seconds},
    session::Session,
    trouble::Trouble,
};
use crate::{
    cli::client::printable,
    proto::v1::{
        CreateSandboxRequest, DeleteSandboxRequest, sandbox_service_client::SandboxServiceClient,
    },
};

/// A sandbox that was made.
#[derive(Serialize, JsonSchema)]
pub(super) struct SandboxAnswer {
    sandbox_id: String,
    pool: String,
    /// When its lifetime is over, such as 2026-11-29T23:40:12Z.
    ends: String,
    /// How long it lives without being used.
    idle_timeout_seconds: f64,
}

/// A sandbox that was deleted.
#[derive(Serialize, JsonSchema)]
pub(super) struct DeletedAnswer {
    sandbox_id: String,
}

/// Takes one, which ends with the session.
pub(super) async fn create(session: &Session, call: CreateSandbox) -> Result<Answer, Trouble> {
    let lifetime = seconds("lifetime_seconds", call.lifetime_seconds)?;
    let idle_timeout = seconds("idle_timeout_seconds", call.idle_timeout_seconds)?;
    let request = CreateSandboxRequest {
        pool: session.pool().to_owned(),
        lifetime: lifetime.and_then(|time| time.try_into().ok()),
        idle_timeout: idle_timeout.and_then(|time| time.try_into().ok()),
        env: call.env,
        files: input_files(call.files)?,
        labels: session.labels(),
        ..CreateSandboxRequest::default()
    };
    let link = session.link().await?;
    let mut client = SandboxServiceClient::new(link.connection());
    session.will_make();
    let sandbox = match client.create_sandbox(request).await {
        Ok(created) => created.into_inner(),
        Err(status) => return Err(session.trouble(&link, status).await),
    };
    let ends = sandbox
        .expire_time
        .and_then(|time| SystemTime::try_from(time).ok());
    let ends = ends.map(|time| humantime::format_rfc3339_seconds(time).to_string());
    let idle = sandbox
        .idle_timeout
        .and_then(|time| Duration::try_from(time).ok());
    let answer = SandboxAnswer {
        sandbox_id: sandbox.sandbox_id,
        pool: sandbox.pool,
        ends: ends.unwrap_or_default(),
        idle_timeout_seconds: idle.unwrap_or_default().as_secs_f64(),
    };
    let words = format!(
        "sandbox_id: {}\nIt ends at {}, after {} s without use, and with this session.",
        printable(&answer.sandbox_id),
        answer.ends,
        answer.idle_timeout_seconds
    );
    Ok(Answer::done(vec![ContentBlock::text(words)], &answer))
}

/// Ends one, and what runs in it.
pub(super) async fn delete(session: &Session, call: DeleteSandbox) -> Result<Answer, Trouble> {
    let request = DeleteSandboxRequest {
        sandbox_id: call.sandbox_id.clone(),
    };
    let link = session.link().await?;
    let mut client = SandboxServiceClient::new(link.connection());
    if let Err(status) = client.delete_sandbox(request).await {
        return Err(session.trouble(&link, status).await);
    }
    session.forget_sandbox(&call.sandbox_id);
    let words = format!("{} is deleted", printable(&call.sandbox_id));
    let answer = DeletedAnswer {
        sandbox_id: call.sandbox_id,
    };
    Ok(Answer::done(vec![ContentBlock::text(words)], &answer))
}
