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
    time::{Instant, sleep},
};

use super::{
    Channel,
    connection::{Connection, attempt},
};
use crate::{
    backend::{Backend, SandboxId},
    metrics::Attempts,
};

/// Pauses between attempts, the first and the longest. Each is varied by half, so that a thousand
/// sandboxes do not come at once.
const PAUSE: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_secs(10);

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
        let made = async {
            Connection::open(backend, id)
                .await?
                .with_waiting_call()
                .await
        };
        match attempt(reattaches, made).await {
            Ok(made) => return made,
            Err(reason) => {
                tracing::debug!(sandbox = %id, %reason, "an idle sandbox was not reached");
            }
        }
        pause = (pause * 2).min(MAX_PAUSE);
    }
}
