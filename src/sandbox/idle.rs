//! The connection to a sandbox that waits: when it is cut, it is made again.
//!
//! An API server that restarts cuts those of all pods at once, and each would otherwise cost the
//! request that comes next a new exec.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use super::{Channel, call::Call, execution::REATTACH_ATTEMPT};
use crate::{
    backend::{Backend, SandboxId},
    metrics::Attempts,
};

/// Pauses between attempts, the first and the longest. Each is varied by half, so that a thousand
/// sandboxes do not come at once.
const PAUSE: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_secs(10);

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

    /// The same, with a call that waits for the first program.
    pub(super) async fn with_waiting_call(mut self) -> Result<Self, String> {
        self.waiting_call = Some(Call::begin(&self.channel).await?);
        Ok(self)
    }
}

/// Keeps a connection open until it is taken. Dropping it closes it.
pub(super) struct Idle {
    connection: Arc<Mutex<Option<Connection>>>,
    _keeper: JoinSet<()>,
}

impl Idle {
    pub(super) fn new(
        backend: Arc<dyn Backend>,
        id: SandboxId,
        connection: Connection,
        reattaches: Attempts,
    ) -> Self {
        let channel = connection.channel.clone();
        let connection = Arc::new(Mutex::new(Some(connection)));
        let mut keeper = JoinSet::new();
        keeper.spawn(keep(backend, id, channel, connection.clone(), reattaches));
        Self {
            connection,
            _keeper: keeper,
        }
    }

    /// The connection as it is, which may be cut. It is no longer looked after.
    pub(super) fn take(self) -> Option<Connection> {
        let mut connection = self
            .connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        connection.take()
    }
}

async fn keep(
    backend: Arc<dyn Backend>,
    id: SandboxId,
    mut channel: Channel,
    connection: Arc<Mutex<Option<Connection>>>,
    reattaches: Attempts,
) {
    let mut pause = PAUSE;
    loop {
        let made_at = Instant::now();
        channel.ended().await;
        // Kubernetes accepts an exec before it has reached the node, and cuts it then.
        pause = if made_at.elapsed() > MAX_PAUSE {
            PAUSE
        } else {
            (pause * 2).min(MAX_PAUSE)
        };
        let made = again(&*backend, &id, pause, &reattaches).await;
        channel = made.channel.clone();
        // Taken meanwhile, it is dropped with the other owner's.
        connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .replace(made);
        tracing::debug!(sandbox = %id, "an idle sandbox is attached again");
    }
}

/// However often it takes. A sandbox that is dead is dropped by its pool.
async fn again(
    backend: &dyn Backend,
    id: &SandboxId,
    mut pause: Duration,
    reattaches: &Attempts,
) -> Connection {
    loop {
        sleep(pause.mul_f64(rand::random_range(0.5..1.5))).await;
        reattaches.begin();
        let attempt = async {
            Connection::open(backend, id)
                .await?
                .with_waiting_call()
                .await
        };
        match timeout(REATTACH_ATTEMPT, attempt).await {
            Ok(Ok(made)) => return made,
            Ok(Err(reason)) => {
                tracing::debug!(sandbox = %id, %reason, "an idle sandbox was not reached");
            }
            Err(_) => {
                tracing::debug!(sandbox = %id, "an idle sandbox did not answer for {REATTACH_ATTEMPT:?}");
            }
        }
        reattaches.fail();
        pause = (pause * 2).min(MAX_PAUSE);
    }
}
