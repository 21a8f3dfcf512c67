//! A request on its way: leased a sandbox, run in it, and told how it ended.
//!
//! - `provision`: how a pool's sandboxes are started and deleted
//! - `callers`: how much each caller has under way
//! - `known`: the ids of executions, each of which runs once; `record`: what is kept of one
//! - `finished`: how one ended
//! - `run`: lease, run, and try another sandbox if the first one did not confirm the start
//! - `named`: sandboxes that outlive their executions; `files`: what is done with their files; `contexts`:
//!   interpreters in them that keep their state; `creations`: both can be asked for again by the same id
//!
//! Arrows: api -> dispatch -> pool and sandbox -> backend.

mod callers;
mod contexts;
mod creations;
mod files;
mod finished;
mod known;
mod named;
mod provision;
mod record;
mod run;

use std::{collections::BTreeMap, hash::RandomState, sync::Arc, time::Duration};

use tokio::{sync::watch, time::timeout};

use self::{callers::Callers, known::Known, named::NamedSandboxes};
pub use self::{
    callers::TooManyExecutions,
    contexts::{
        Context, ContextBusy, ContextEnded, ContextNotCreated, NewContext, NoContext,
        TooManyContexts,
    },
    files::FileOperationUnderWay,
    finished::{Finished, Timings},
    known::{AlreadyExists, KnownSettings, NoExecution},
    named::{
        LivesTooLong, NamedSandbox, NewSandbox, NoSandbox, NotCreated, SandboxBusy,
        TooManySandboxes,
    },
    provision::SandboxProvision,
    record::{NotSent, OutputStream, ProgramInput, Reader, Record, Sink, Summary, Told},
    run::{Admission, Admitted, Refused, Request, Update},
};
use crate::{
    metrics::PoolMetrics,
    pool::{LeaseError, Pool},
};

/// How long cancelled programs may take to end, and their callers to hear of it.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the last sandboxes may take to be deleted.
const DELETE_TIMEOUT: Duration = Duration::from_secs(30);

/// A pool of real sandboxes.
pub type SandboxPool = Pool<SandboxProvision>;

/// A pool, and what is counted of its requests.
#[derive(Clone)]
pub struct Served {
    /// The pool.
    pub pool: Arc<SandboxPool>,
    /// What is counted.
    pub metrics: Arc<PoolMetrics>,
    /// What holds for its named sandboxes.
    pub named: Arc<NamedBounds>,
}

/// What a pool allows its named sandboxes.
pub struct NamedBounds {
    /// How long one may live in all.
    pub max_lifetime: Duration,
    callers: Arc<Callers>,
}

impl NamedBounds {
    /// `max_per_caller`: how many one caller may have at once; 0: any number.
    #[must_use]
    pub fn new(max_lifetime: Duration, max_per_caller: u32) -> Arc<Self> {
        Arc::new(Self {
            max_lifetime,
            callers: Arc::new(Callers::new(max_per_caller)),
        })
    }
}

/// Whether the sandboxes are this server's alone still, or why not. Cheap, and asked at each lease.
pub type CheckOwnership = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// What holds for all pools.
#[derive(Clone, Copy, Debug)]
pub struct DispatchSettings {
    /// How long the ids of executions are known.
    pub known: KnownSettings,
    /// How many executions of one caller may be under way at once; 0: any number.
    pub max_concurrent_per_caller: u32,
    /// How long a sandbox that cannot be reached is waited for while a program runs in it.
    pub reattach_timeout: Duration,
}

/// Takes requests to the pools.
pub struct Dispatcher {
    pools: BTreeMap<String, Served>,
    known: Arc<Known>,
    callers: Arc<Callers>,
    named: NamedSandboxes,
    /// Of specs: what a caller chooses does not choose the number.
    hashers: RandomState,
    reattach_timeout: Duration,
    check_ownership: CheckOwnership,
    /// The server's reason to end everything that runs.
    stop: watch::Sender<Option<String>>,
    /// Whether new requests are refused.
    closed: watch::Sender<bool>,
    /// Each execution that runs holds a receiver.
    running: watch::Sender<()>,
}

impl Dispatcher {
    /// Serves these pools.
    #[must_use]
    pub fn new(
        pools: BTreeMap<String, Served>,
        settings: DispatchSettings,
        check_ownership: CheckOwnership,
    ) -> Arc<Self> {
        Arc::new(Self {
            pools,
            known: Arc::new(Known::new(settings.known)),
            callers: Arc::new(Callers::new(settings.max_concurrent_per_caller)),
            named: NamedSandboxes::default(),
            hashers: RandomState::new(),
            reattach_timeout: settings.reattach_timeout,
            check_ownership,
            stop: watch::Sender::new(None),
            closed: watch::Sender::new(false),
            running: watch::Sender::new(()),
        })
    }

    /// The pool of that name.
    #[must_use]
    pub fn pool(&self, name: &str) -> Option<&Arc<SandboxPool>> {
        self.pools.get(name).map(|served| &served.pool)
    }

    /// All pools, by name.
    pub fn pools(&self) -> impl Iterator<Item = (&String, &Arc<SandboxPool>)> {
        self.pools.iter().map(|(name, served)| (name, &served.pool))
    }

    /// A caller's execution.
    ///
    /// # Errors
    /// When it has none of that id, or none any more.
    pub fn execution(&self, caller: &str, id: &str) -> Result<Arc<Record>, NoExecution> {
        self.known.get(caller, id)
    }

    /// All executions of a caller that are known.
    #[must_use]
    pub fn executions(&self, caller: &str) -> Vec<Arc<Record>> {
        self.known.of(caller)
    }

    /// Whether new requests are refused, since the server is shutting down.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        *self.closed.borrow()
    }

    /// Refuses new requests from now on; what runs goes on.
    pub fn close(&self) {
        self.closed.send_replace(true);
    }

    /// Whether anything may be begun: the server does not shut down, and the sandboxes are its own.
    fn may_begin(&self) -> Result<(), Refused> {
        if self.is_closed() {
            return Err(LeaseError::ShuttingDown.into());
        }
        (self.check_ownership)().map_err(Refused::NotOwner)
    }

    /// Takes no more requests, waits up to `grace` for what runs, ends the rest as cancelled,
    /// and has every sandbox deleted. What cannot be deleted in time is left to the next server.
    pub async fn shutdown(&self, grace: Duration) {
        self.close();
        if timeout(grace, self.running.closed()).await.is_err() {
            let reason =
                format!("the server is shutting down and its grace time of {grace:?} is over");
            self.named.end_all(&reason);
            self.stop.send_replace(Some(reason));
            if timeout(CANCEL_TIMEOUT, self.running.closed())
                .await
                .is_err()
            {
                tracing::warn!("some callers do not take the end of their executions");
            }
        }
        // Those in which nothing runs.
        self.named.end_all(named::SHUTTING_DOWN);
        let deleted = async {
            for served in self.pools.values() {
                served.pool.shutdown().await;
            }
        };
        if timeout(DELETE_TIMEOUT, deleted).await.is_err() {
            tracing::error!("some sandboxes are left to the next server, which deletes them");
        }
    }
}

/// Sets what is set once: what comes first stands.
fn set_first<T>(sender: &watch::Sender<Option<T>>, value: T) {
    sender.send_if_modified(|set| {
        let first = set.is_none();
        set.get_or_insert(value);
        first
    });
}
