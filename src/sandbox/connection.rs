//! The connection to a sandbox's agent, and attempts to make it again.

use std::time::Duration;

use tokio::time::timeout;

use super::{Channel, call::Call, words};
use crate::{
    backend::{Backend, SandboxId},
    metrics::Attempts,
    proto::agent::PingRequest,
};

/// How long one attempt to reach an agent again may take that a program waits for. A connection that stalls
/// would be ended by its keepalive only when most of the time for reattaching is over.
pub(super) const REATTACH_ATTEMPT: Duration = Duration::from_secs(5);

/// A connection, and the call that waits in it.
pub(super) struct Connection {
    pub(super) channel: Channel,
    pub(super) waiting_call: Option<Call>,
}

impl Connection {
    /// A new one to a sandbox that runs; no call waits in it yet.
    pub(super) async fn open(backend: &dyn Backend, id: &SandboxId) -> Result<Self, String> {
        let stream = backend.connect(id).await;
        let stream = stream.map_err(|error| error.to_string())?;
        let channel = Channel::connect(stream).await;
        Ok(Self {
            channel: channel.map_err(|error| error.to_string())?,
            waiting_call: None,
        })
    }

    /// Whether it has not ended.
    pub(super) fn is_open(&self) -> bool {
        !self.channel.has_ended()
    }

    /// The same, once the agent has answered over it: Kubernetes accepts an exec before it has reached the
    /// node.
    pub(super) async fn answered(self) -> Result<Self, String> {
        let pinged = self.channel.agent().ping(PingRequest {}).await;
        pinged.map_err(|status| words(status.message()))?;
        Ok(self)
    }

    /// The same, with a call that waits for the first program.
    pub(super) async fn with_waiting_call(mut self) -> Result<Self, String> {
        self.waiting_call = Some(Call::begin(&self.channel).await?);
        Ok(self)
    }
}

/// One attempt to reach a sandbox again, which is counted; an error says why it failed.
pub(super) async fn attempt<T>(
    limit: Duration,
    reattaches: &Attempts,
    reach: impl Future<Output = Result<T, String>>,
) -> Result<T, String> {
    reattaches.begin();
    let reached = timeout(limit, reach).await;
    let reached = reached.unwrap_or_else(|_| Err(format!("no answer for {limit:?}")));
    if reached.is_err() {
        reattaches.fail();
    }
    reached
}
