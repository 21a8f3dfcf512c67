//! The connection to a sandbox's agent, which all programs in it share, and attempts to make it again.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

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
    waiting_call: Mutex<Option<Call>>,
}

impl Connection {
    /// In which no call waits yet.
    pub(super) fn new(channel: Channel) -> Self {
        Self {
            channel,
            waiting_call: Mutex::default(),
        }
    }

    /// A new one to a sandbox that runs; no call waits in it yet.
    pub(super) async fn open(backend: &dyn Backend, id: &SandboxId) -> Result<Self, String> {
        let stream = backend.connect(id).await;
        let stream = stream.map_err(|error| error.to_string())?;
        let channel = Channel::connect(stream).await;
        Ok(Self::new(channel.map_err(|error| error.to_string())?))
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

    /// Lets a call wait for the next program, if none does.
    pub(super) async fn let_call_wait(&self) -> Result<(), String> {
        if self.waiting_call().is_none() {
            let call = Call::begin(&self.channel).await?;
            self.waiting_call().get_or_insert(call);
        }
        Ok(())
    }

    /// The call that waits in it, or another one.
    pub(super) async fn call(&self) -> Result<Call, String> {
        let waiting = self.waiting_call().take();
        match waiting {
            Some(call) => Ok(call),
            None => Call::begin(&self.channel).await,
        }
    }

    fn waiting_call(&self) -> MutexGuard<'_, Option<Call>> {
        self.waiting_call
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// The connection of a sandbox that is in use. Whoever finds it cut first makes the next one, for all.
#[derive(Default)]
pub(super) struct Shared(tokio::sync::Mutex<Option<Arc<Connection>>>);

impl Shared {
    /// Begins with what there is.
    pub(super) fn new(connection: Option<Connection>) -> Self {
        Self(tokio::sync::Mutex::new(connection.map(Arc::new)))
    }

    /// Whether there is one that has not ended. One that is just being made does not count.
    pub(super) fn is_open(&self) -> bool {
        self.current().is_some_and(|there| there.is_open())
    }

    /// The connection that there is, cut or not; none while one is being made again.
    pub(super) fn current(&self) -> Option<Arc<Connection>> {
        self.0.try_lock().ok()?.clone()
    }

    /// One that has not ended and is not `failed`: another program's, or a new one.
    pub(super) async fn again(
        &self,
        failed: Option<&Arc<Connection>>,
        backend: &dyn Backend,
        id: &SandboxId,
    ) -> Result<Arc<Connection>, String> {
        let mut current = self.0.lock().await;
        let made_meanwhile = current.as_ref().filter(|there| {
            there.is_open() && failed.is_none_or(|failed| !Arc::ptr_eq(failed, there))
        });
        if let Some(there) = made_meanwhile {
            return Ok(there.clone());
        }
        let made = Arc::new(Connection::open(backend, id).await?);
        *current = Some(made.clone());
        Ok(made)
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
