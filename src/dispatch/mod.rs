//! A request on its way: leased a sandbox, run in it, and told how it ended.
//!
//! - `provision`: how a pool's sandboxes are started and deleted
//! - `known`: the ids of executions, each of which runs once
//! - `run`: lease, run, and try another sandbox if the first one never started the program
//!
//! Arrows: api -> dispatch -> pool and sandbox -> backend.

mod known;
mod provision;
mod run;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::sync::{mpsc, watch};

use self::known::Known;
pub use self::{
    known::{AlreadyExists, KnownSettings},
    provision::SandboxProvision,
    run::{Admission, Refused, Request, Timings, Update},
};
use crate::pool::{LeaseError, Pool};

/// A pool of real sandboxes.
pub type SandboxPool = Pool<SandboxProvision>;

/// Takes requests to the pools.
pub struct Dispatcher {
    pools: BTreeMap<String, Arc<SandboxPool>>,
    known: Arc<Known>,
    reattach_timeout: Duration,
    /// The server's reason to end everything that runs.
    stop: watch::Sender<Option<String>>,
    /// Whether new requests are refused.
    closed: watch::Sender<bool>,
    /// Held by each execution that runs.
    running: mpsc::Sender<()>,
    all_ended: tokio::sync::Mutex<mpsc::Receiver<()>>,
}

impl Dispatcher {
    /// Serves these pools. `reattach_timeout`: how long a sandbox that cannot be reached is
    /// waited for while a program runs in it.
    #[must_use]
    pub fn new(
        pools: BTreeMap<String, Arc<SandboxPool>>,
        known: KnownSettings,
        reattach_timeout: Duration,
    ) -> Arc<Self> {
        let (running, all_ended) = mpsc::channel(1);
        Arc::new(Self {
            pools,
            known: Arc::new(Known::new(known)),
            reattach_timeout,
            stop: watch::Sender::new(None),
            closed: watch::Sender::new(false),
            running,
            all_ended: tokio::sync::Mutex::new(all_ended),
        })
    }

    /// The pool of that name.
    #[must_use]
    pub fn pool(&self, name: &str) -> Option<&Arc<SandboxPool>> {
        self.pools.get(name)
    }

    /// All pools, by name.
    pub fn pools(&self) -> impl Iterator<Item = (&String, &Arc<SandboxPool>)> {
        self.pools.iter()
    }

    fn refuse_when_closed(&self) -> Result<(), LeaseError> {
        if *self.closed.borrow() {
            return Err(LeaseError::ShuttingDown);
        }
        Ok(())
    }

    /// Takes no more requests, waits up to `grace` for what runs, ends the rest as cancelled,
    /// and has every sandbox deleted.
    pub async fn shutdown(self: Arc<Self>, grace: Duration) {
        self.closed.send_replace(true);
        let mut all_ended = self.all_ended.lock().await;
        // Each execution holds a sender, and so does this; the executions' are what counts.
        let ended = async {
            while self.running.strong_count() > 1 {
                tokio::select! {
                    () = tokio::time::sleep(Duration::from_millis(10)) => {}
                    _ = all_ended.recv() => {}
                }
            }
        };
        if tokio::time::timeout(grace, ended).await.is_err() {
            let reason =
                format!("the server is shutting down and its grace time of {grace:?} is over");
            self.stop.send_replace(Some(reason));
            while self.running.strong_count() > 1 {
                let _ = tokio::time::timeout(Duration::from_millis(10), all_ended.recv()).await;
            }
        }
        for pool in self.pools.values() {
            pool.shutdown().await;
        }
    }
}
