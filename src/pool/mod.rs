//! Who owns which sandbox: a pool of warm sandboxes that are leased once and then deleted.
//!
//! - [`Pool`], [`Lease`]: what the rest of the program uses
//! - `status.rs`, `error.rs`: a pool's settings and status; why it says no
//! - `provision.rs`: what it needs from below, as a trait
//! - `state.rs`, `state/`, `queue.rs`: every decision, without await, clock or lock
//! - `shared.rs`: the state behind its lock; those who lease decide for themselves under it
//! - `driver.rs`, `deaths.rs`: the one task that starts, deletes and watches
//!
//! Arrows: `Pool`, `Lease` and driver -> shared -> state. Nothing here knows gRPC or a backend.

mod deaths;
mod driver;
mod error;
mod lease;
mod provision;
mod queue;
mod shared;
mod state;
mod status;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, task::AbortHandle};

use self::{
    driver::Driver,
    shared::{Place, Shared, is_connected, now},
    state::{Asked, State},
};
pub use self::{
    error::{LeaseError, ResizeError},
    lease::Lease,
    provision::{BoxFuture, Provision, Provisioned},
    status::{PoolHealth, PoolSettings, PoolStatus},
};

/// A pool of warm sandboxes, each of which is leased once.
///
/// Dropping it stops its task without deleting anything; call [`Pool::shutdown`] first.
pub struct Pool<P: Provision> {
    shared: Arc<Shared<P>>,
    driver: AbortHandle,
    driver_ended: watch::Receiver<()>,
}

impl<P: Provision> Pool<P> {
    /// Starts filling a pool. `server` is the instance's part of the sandboxes' ids. Needs a
    /// runtime.
    pub fn spawn(settings: PoolSettings, provision: Arc<P>, server: &str) -> Arc<Self> {
        let state = State::new(&settings, rand::random::<f64>, is_connected::<P>, now());
        let shared = Arc::new(Shared::new(state));
        let (ended, driver_ended) = watch::channel(());
        let driver = Driver::new(
            Arc::clone(&shared),
            provision,
            &settings.name,
            server,
            ended,
        );
        let driver = tokio::spawn(driver.run()).abort_handle();
        Arc::new(Self {
            shared,
            driver,
            driver_ended,
        })
    }

    /// Leases a sandbox: at once if one is idle, else after at most `wait` in the queue, first
    /// come, first served. Dropping the future leaves the queue; a sandbox that was granted in the
    /// same instant is recycled.
    pub async fn lease(
        self: &Arc<Self>,
        caller: &str,
        wait: Duration,
    ) -> Result<Lease<P>, LeaseError> {
        enum Now<P: Provision> {
            Granted(Lease<P>),
            Queued(Place<P>),
        }
        let answer = self.shared.update(|inner| {
            Ok(match inner.state.lease(caller, now())? {
                Asked::Granted(number, sandbox) => Now::Granted(self.shared.lease(number, sandbox)),
                Asked::Queued(ticket) => Now::Queued(Place::take(&self.shared, inner, ticket)),
            })
        })?;
        match answer {
            Now::Granted(lease) => Ok(lease),
            Now::Queued(place) => place.wait(wait).await,
        }
    }

    /// The pool as it is now.
    #[must_use]
    pub fn status(&self) -> PoolStatus {
        self.shared.lock().state.status()
    }

    /// The pool as it is and after each change; changes within 100 ms come as one.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<PoolStatus> {
        self.shared.status.subscribe()
    }

    /// Changes the size until the server restarts. What is then too many is deleted at once if it
    /// is idle or being started, and after its lease otherwise.
    pub fn resize(
        &self,
        min_idle: Option<u32>,
        max_sandboxes: Option<u32>,
    ) -> Result<(), ResizeError> {
        self.shared
            .update(|inner| inner.state.resize(min_idle, max_sandboxes, now()))
    }

    /// Leases nothing more, refuses the queue and deletes what is idle. Leases end by themselves.
    pub fn drain(&self) {
        self.shared.update(|inner| inner.state.drain());
    }

    /// Ends when min_idle has been reached for the first time, or the pool was drained before.
    pub async fn warm(&self) {
        // The sender lives as long as this pool, so there is no error to see.
        let _ = self.watch().wait_for(|status| status.warmed).await;
    }

    /// Refuses new leases and the queue, deletes what is idle or being started at once, and ends
    /// when no sandbox is left. Leases must be dropped by their holders. Deletes are retried for
    /// ever: whoever calls this sets a deadline.
    pub async fn shutdown(&self) {
        self.shared.update(|inner| inner.state.shut_down());
        self.ended().await;
    }

    /// Ends when the pool's task has: after a shutdown, or because of a bug in it. It cannot go on
    /// after that, so whoever serves it ends as well.
    pub async fn ended(&self) {
        // Nothing is ever sent: the channel closes with the task.
        while self.driver_ended.clone().changed().await.is_ok() {}
    }
}

impl<P: Provision> Drop for Pool<P> {
    fn drop(&mut self) {
        self.driver.abort();
    }
}
