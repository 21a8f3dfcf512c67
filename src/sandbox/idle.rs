//! The connection to a sandbox that waits: when it is cut, it is made again.
//!
//! An API server that restarts cuts those of all pods at once, and each would otherwise cost the
//! request that comes next a new exec. Where thousands wait, those that are leased last have none until
//! their turn comes nearer: each is work for the API server, the node and the sandbox.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::watch,
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

/// How long one attempt may take. Nobody waits for it, and after a restart of the API server a node has all of
/// its execs to start at once: one that is given up is only more work for it.
const ATTEMPT: Duration = Duration::from_secs(15);
/// Pauses between attempts, the first and the longest. Each is varied by half.
const PAUSE: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_secs(10);

/// Keeps a connection open until it is taken, as long as it is to be connected. Dropping it closes it.
pub(super) struct Idle {
    connection: Arc<Mutex<Option<Connection>>>,
    _keeper: JoinSet<()>,
}

impl Idle {
    pub(super) fn new(
        backend: Arc<dyn Backend>,
        id: SandboxId,
        connection: Connection,
        connected: watch::Receiver<bool>,
        reattaches: Attempts,
    ) -> Self {
        let connection = Arc::new(Mutex::new(Some(connection)));
        let mut keeper = JoinSet::new();
        let kept = connection.clone();
        keeper.spawn(keep(backend, id, kept, connected, reattaches));
        Self {
            connection,
            _keeper: keeper,
        }
    }

    /// Whether there is a connection that has not ended.
    pub(super) fn is_connected(&self) -> bool {
        lock(&self.connection)
            .as_ref()
            .is_some_and(Connection::is_open)
    }

    /// The connection as it is, which may be cut, if there is one. It is no longer looked after.
    pub(super) fn take(self) -> Option<Connection> {
        lock(&self.connection).take()
    }
}

fn lock(connection: &Mutex<Option<Connection>>) -> MutexGuard<'_, Option<Connection>> {
    connection.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn keep(
    backend: Arc<dyn Backend>,
    id: SandboxId,
    connection: Arc<Mutex<Option<Connection>>>,
    mut connected: watch::Receiver<bool>,
    reattaches: Attempts,
) {
    let mut pause = PAUSE;
    let mut made_at = Instant::now();
    loop {
        let channel = lock(&connection).as_ref().map(|it| it.channel.clone());
        tokio::select! {
            () = ended(channel) => {
                // What is cut soon after it was made is made again less and less often.
                pause = if made_at.elapsed() > MAX_PAUSE {
                    PAUSE
                } else {
                    (pause * 2).min(MAX_PAUSE)
                };
                sleep(varied(pause)).await;
            }
            () = until(&mut connected, false) => {}
        }
        let cut = lock(&connection).take();
        // Not under the lock: a lease looks at it under the pool's.
        drop(cut);
        until(&mut connected, true).await;
        let made = tokio::select! {
            made = again(&*backend, &id, pause, &reattaches) => made,
            () = until(&mut connected, false) => continue,
        };
        made_at = Instant::now();
        // Taken meanwhile, it is dropped with the other owner's.
        lock(&connection).replace(made);
        tracing::debug!(sandbox = %id, "an idle sandbox is attached again");
    }
}

/// Waits for a connection's end; there may be none.
async fn ended(channel: Option<Channel>) {
    if let Some(channel) = channel {
        channel.ended().await;
    }
}

/// Waits until it is to be connected, or not; for ever once nobody decides that any more.
async fn until(connected: &mut watch::Receiver<bool>, wanted: bool) {
    if connected.wait_for(|it| *it == wanted).await.is_err() {
        std::future::pending().await
    }
}

/// So that a thousand sandboxes do not come at once.
fn varied(pause: Duration) -> Duration {
    pause.mul_f64(rand::random_range(0.5..1.5))
}

/// However often it takes. A sandbox that is dead is dropped by its pool.
async fn again(
    backend: &dyn Backend,
    id: &SandboxId,
    mut pause: Duration,
    reattaches: &Attempts,
) -> Connection {
    loop {
        let made = async {
            let made = Connection::open(backend, id).await?.answered().await?;
            made.let_call_wait().await?;
            Ok(made)
        };
        match attempt(ATTEMPT, reattaches, made).await {
            Ok(made) => return made,
            Err(reason) => {
                tracing::debug!(sandbox = %id, %reason, "an idle sandbox was not reached");
            }
        }
        pause = (pause * 2).min(MAX_PAUSE);
        sleep(varied(pause)).await;
    }
}
