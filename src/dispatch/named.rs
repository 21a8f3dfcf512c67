//! Named sandboxes: leased once, used by any number of executions of the caller that made them, and
//! deleted when their time is over.
//!
//! A named sandbox ends by its caller's word, at the end of its lifetime, when nothing was done in it for
//! its idle timeout, by its own death, or with the server. Whatever ends it, its executions end with it,
//! and the last of them gives it to the recycler.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout},
};

use super::{
    Dispatcher, Refused, Served,
    callers::{Place, TooManyExecutions},
    contexts::Contexts,
    creations::Creations,
    provision::SandboxProvision,
    set_first,
};
use crate::{
    backend::SandboxId,
    execution::InputFile,
    pool::Lease,
    sandbox::{OperationError, Sandbox},
};

/// How long it is known why a sandbox ended, and of how many.
const REMEMBER_FOR: Duration = Duration::from_secs(600);
const REMEMBERED: usize = 1000;
/// What may be done in one sandbox at once: each buffers up to some MiB here, and takes descriptors in there.
const MAX_EXECUTIONS: usize = 256;
const MAX_OPERATIONS: usize = 64;
/// How long a deletion waits for the executions that it ends.
const DELETE_PATIENCE: Duration = Duration::from_secs(10);

/// Why sandboxes end in which nothing runs when the server does.
pub(super) const SHUTTING_DOWN: &str = "the server is shutting down";

/// A sandbox to be made.
pub struct NewSandbox {
    /// Who alone will see it.
    pub caller: String,
    /// Of the creation, which may be repeated by it; empty: it is not repeated.
    pub request_id: String,
    /// Name of the pool.
    pub pool: String,
    /// How long it lives at most, from now on.
    pub lifetime: Duration,
    /// How long it lives without anything being done in it.
    pub idle_timeout: Duration,
    /// Environment of all its programs, over the pool's and below their own. Secret.
    pub env: BTreeMap<String, String>,
    /// Written before anyone gets it.
    pub files: Vec<InputFile>,
    /// Told in listings and written to the log; not secret.
    pub labels: BTreeMap<String, String>,
    /// How long to wait in the queue.
    pub wait: Duration,
}

/// Why there is no new sandbox.
#[derive(Debug, thiserror::Error)]
pub enum NotCreated {
    /// Nothing was leased.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// Its files could not be written, and it was given up.
    #[error(transparent)]
    Files(#[from] OperationError),
}

/// There is no such sandbox, or it is another caller's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no such sandbox of this caller{}", self.why())]
pub struct NoSandbox {
    /// What was asked for.
    pub id: String,
    /// Why it is no longer there, if it was a while ago.
    pub ended: Option<String>,
}

impl NoSandbox {
    /// What follows: why it is no longer there.
    #[must_use]
    pub fn why(&self) -> String {
        let why = self.ended.as_ref();
        why.map(|why| format!(": {why}")).unwrap_or_default()
    }
}

/// The caller has as many named sandboxes of a pool as one caller may have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{limit} sandboxes of the pool {pool:?} are this caller's already; pools.{pool}.named.max_per_caller \
     raises the limit"
)]
pub struct TooManySandboxes {
    /// The pool.
    pub pool: String,
    /// How many may be.
    pub limit: u32,
}

/// As much is done in one sandbox as may be at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{limit} {what} already, which is the most: wait for one of them to end")]
pub struct SandboxBusy {
    limit: usize,
    what: &'static str,
}

/// More time than its pool allows was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "would let it live for {asked:?} in all, where its pool's named.max_lifetime allows {max:?}: ask for at \
     most {left:?} now"
)]
pub struct LivesTooLong {
    /// How old it would get.
    pub asked: Duration,
    /// How old it may get.
    pub max: Duration,
    /// How much more it can have, from now on.
    pub left: Duration,
}

/// A sandbox that lives on.
pub struct NamedSandbox {
    caller: String,
    request_id: String,
    pool: String,
    env: BTreeMap<String, String>,
    labels: BTreeMap<String, String>,
    lifetime: Mutex<Duration>,
    idle_timeout: Duration,
    created: Instant,
    created_at: SystemTime,
    /// The reason to end it and all that runs in it.
    stop: watch::Sender<Option<String>>,
    /// Each execution in it holds a receiver, and each file operation one of the other.
    running: watch::Sender<()>,
    operating: watch::Sender<()>,
    pub(super) contexts: Contexts,
    pub(super) served: Served,
    // Dropped in this order: the place is free once the lease is given back, and then all of it is gone.
    lease: Lease<SandboxProvision>,
    _place: Place,
    gone: watch::Sender<()>,
}

impl NamedSandbox {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> &SandboxId {
        self.lease.id()
    }

    /// The pool that it comes from.
    #[must_use]
    pub fn pool(&self) -> &str {
        &self.pool
    }

    /// As its caller gave them.
    #[must_use]
    pub const fn labels(&self) -> &BTreeMap<String, String> {
        &self.labels
    }

    /// When it was created, and when it will end at the latest.
    #[must_use]
    pub fn times(&self) -> (SystemTime, SystemTime) {
        (self.created_at, self.created_at + self.lifetime())
    }

    /// How long it lives without anything being done in it.
    #[must_use]
    pub const fn idle_timeout(&self) -> Duration {
        self.idle_timeout
    }

    /// How many executions run in it.
    #[must_use]
    pub fn running(&self) -> usize {
        self.running.receiver_count()
    }

    /// Lets it live for `time` from now on, unless it does already.
    ///
    /// # Errors
    /// When its whole life would be longer than its pool allows.
    pub fn extend(&self, time: Duration) -> Result<(), LivesTooLong> {
        let age = self.created.elapsed();
        let max = self.served.named.max_lifetime;
        let asked = age.saturating_add(time);
        if asked > max {
            return Err(LivesTooLong {
                asked,
                max,
                left: max.saturating_sub(age),
            });
        }
        self.lease.touch();
        let mut lifetime = self.lifetime_guard();
        *lifetime = asked.max(*lifetime);
        Ok(())
    }

    fn lifetime(&self) -> Duration {
        *self.lifetime_guard()
    }

    fn lifetime_guard(&self) -> MutexGuard<'_, Duration> {
        self.lifetime.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn sandbox(&self) -> &Sandbox {
        &self.lease
    }

    pub(super) const fn env(&self) -> &BTreeMap<String, String> {
        &self.env
    }

    /// Resolves when it, and all in it, is to end.
    pub(super) fn stopped(&self) -> watch::Receiver<Option<String>> {
        self.stop.subscribe()
    }

    /// Waits until it, and all in it, is to end, and tells the reason.
    pub(super) async fn is_stopped(&self) -> String {
        let mut stop = self.stopped();
        let stopped = stop.wait_for(Option::is_some).await;
        // The sender is in `self`, so it is not gone.
        let reason = stopped.ok().and_then(|reason| reason.clone());
        reason.unwrap_or_default()
    }

    /// To be held by an execution in it.
    pub(super) fn enter(&self) -> Result<watch::Receiver<()>, SandboxBusy> {
        one_more(&self.running, MAX_EXECUTIONS, "executions run in it")
    }

    /// To be held by what is done with its files.
    pub(super) fn begin_operation(&self) -> Result<watch::Receiver<()>, SandboxBusy> {
        one_more(
            &self.operating,
            MAX_OPERATIONS,
            "operations with its files are under way",
        )
    }

    fn end(&self, reason: String) {
        set_first(&self.stop, reason);
    }

    /// Waits for its end, and tells the reason.
    async fn ended(&self) -> End {
        let death = self.lease.death();
        tokio::pin!(death);
        loop {
            let lifetime = self.lifetime();
            let over = self.created + lifetime;
            let idle = self.lease.last_used() + self.idle_timeout;
            tokio::select! {
                death = &mut death => return End::Died(format!("the sandbox died: {death}")),
                reason = self.is_stopped() => return End::Stopped(reason),
                // What was done in it meanwhile, or more time, is seen when the old time is over.
                () = sleep_until(over.min(idle)) => {
                    if Instant::now() >= self.created + self.lifetime() {
                        let reason = format!("the sandbox's lifetime of {lifetime:?} is over");
                        return End::Stopped(reason);
                    }
                    if self.lease.last_used().elapsed() >= self.idle_timeout {
                        let time = self.idle_timeout;
                        let reason = format!("nothing was done in the sandbox for {time:?}");
                        return End::Stopped(reason);
                    }
                }
            }
        }
    }
}

/// A place among those that hold one, if there is one. Two that come at the same instant may both get the last.
fn one_more(
    places: &watch::Sender<()>,
    limit: usize,
    what: &'static str,
) -> Result<watch::Receiver<()>, SandboxBusy> {
    if places.receiver_count() >= limit {
        return Err(SandboxBusy { limit, what });
    }
    Ok(places.subscribe())
}

/// How a named sandbox ends, and why.
enum End {
    /// Its executions see it by themselves.
    Died(String),
    /// Its executions are to be told.
    Stopped(String),
}

/// All named sandboxes.
#[derive(Default)]
pub(super) struct NamedSandboxes {
    state: Mutex<State>,
    creations: Creations,
}

#[derive(Default)]
struct State {
    /// By id.
    live: BTreeMap<String, Arc<NamedSandbox>>,
    ended: VecDeque<Ended>,
}

struct Ended {
    at: Instant,
    id: String,
    caller: String,
    reason: String,
}

impl NamedSandboxes {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, caller: &str, id: &str) -> Result<Arc<NamedSandbox>, NoSandbox> {
        let state = self.state();
        if let Some(sandbox) = state.live.get(id).filter(|it| it.caller == caller) {
            return Ok(sandbox.clone());
        }
        let ended = state.ended.iter().rev();
        let ended = ended
            .filter(|it| it.at.elapsed() < REMEMBER_FOR)
            .find(|it| it.id == id && it.caller == caller);
        Err(NoSandbox {
            id: id.to_owned(),
            ended: ended.map(|it| it.reason.clone()),
        })
    }

    /// What that creation has made, while it is there.
    fn made_by(&self, caller: &str, request_id: &str) -> Option<Arc<NamedSandbox>> {
        let state = self.state();
        let mut live = state.live.values();
        let is_it = |it: &&Arc<NamedSandbox>| {
            it.caller == caller && it.request_id == request_id && it.stop.borrow().is_none()
        };
        live.find(is_it).cloned()
    }

    fn remove(&self, sandbox: &NamedSandbox, reason: &str) {
        let mut state = self.state();
        let id = sandbox.id().to_string();
        if state.live.remove(&id).is_none() {
            return;
        }
        state.ended.push_back(Ended {
            at: Instant::now(),
            id,
            caller: sandbox.caller.clone(),
            reason: reason.to_owned(),
        });
        if state.ended.len() > REMEMBERED {
            state.ended.pop_front();
        }
    }

    /// Ends all of them.
    pub(super) fn end_all(&self, reason: &str) {
        for sandbox in self.state().live.values() {
            sandbox.end(reason.to_owned());
        }
    }
}

impl Dispatcher {
    /// Makes a sandbox that lives on, or finds what the same creation has made before. `None`: there is no such pool.
    ///
    /// # Errors
    /// See [`NotCreated`].
    pub async fn create_sandbox(
        self: &Arc<Self>,
        new: NewSandbox,
    ) -> Result<Option<Arc<NamedSandbox>>, NotCreated> {
        let Some(served) = self.pools.get(&new.pool) else {
            return Ok(None);
        };
        // Held until it is made.
        let turn = self.named.creations.turn(&new.caller, &new.request_id);
        let turn = turn.await;
        if turn.is_some()
            && let Some(made) = self.named.made_by(&new.caller, &new.request_id)
        {
            made.lease.touch();
            return Ok(Some(made));
        }
        let asking = served.metrics.ask();
        let begun = Instant::now();
        let leased = async {
            self.may_begin()?;
            let place = served.named.callers.enter(&new.caller).map_err(
                |TooManyExecutions { limit }| TooManySandboxes {
                    pool: new.pool.clone(),
                    limit,
                },
            )?;
            let lease = served.pool.lease(&new.caller, new.wait).await?;
            (self.check_ownership)().map_err(Refused::NotOwner)?;
            Ok::<_, Refused>((place, lease))
        };
        let (place, lease) = match leased.await {
            Ok(leased) => leased,
            Err(refused) => {
                asking.refused(refused.reason());
                return Err(refused.into());
            }
        };
        asking.granted(begun.elapsed(), begun.elapsed());
        lease.touch();
        let sandbox = Arc::new(NamedSandbox {
            caller: new.caller,
            request_id: new.request_id,
            pool: new.pool,
            env: new.env,
            labels: new.labels,
            lifetime: Mutex::new(new.lifetime),
            idle_timeout: new.idle_timeout,
            created: Instant::now(),
            created_at: SystemTime::now(),
            stop: watch::Sender::new(None),
            running: watch::Sender::new(()),
            operating: watch::Sender::new(()),
            contexts: Contexts::default(),
            served: served.clone(),
            lease,
            _place: place,
            gone: watch::Sender::new(()),
        });
        let id = sandbox.id().to_string();
        tracing::info!(
            sandbox = %id,
            caller = %sandbox.caller,
            pool = %sandbox.pool,
            labels = ?sandbox.labels,
            "named sandbox was created"
        );
        for file in new.files {
            // Dropped with an error, it goes to the recycler.
            self.write_file(&sandbox, file).await?;
        }
        self.named.state().live.insert(id, sandbox.clone());
        // Ends with the sandbox.
        tokio::spawn(self.clone().look_after(sandbox.clone()));
        if self.is_closed() {
            // Those that the shutdown has ended were without this one.
            sandbox.end(SHUTTING_DOWN.to_owned());
        }
        Ok(Some(sandbox))
    }

    async fn look_after(self: Arc<Self>, sandbox: Arc<NamedSandbox>) {
        let (reason, stop) = match sandbox.ended().await {
            End::Died(reason) => (reason, false),
            End::Stopped(reason) => (reason, true),
        };
        self.named.remove(&sandbox, &reason);
        tracing::info!(sandbox = %sandbox.id(), %reason, "named sandbox ended");
        if stop {
            sandbox.end(reason);
        }
    }

    /// A caller's sandbox.
    ///
    /// # Errors
    /// See [`NoSandbox`].
    pub fn sandbox(&self, caller: &str, id: &str) -> Result<Arc<NamedSandbox>, NoSandbox> {
        self.named.get(caller, id)
    }

    /// All of a caller's sandboxes whose ids come after `after`, by id.
    #[must_use]
    pub fn sandboxes(&self, caller: &str, after: &str) -> Vec<Arc<NamedSandbox>> {
        let state = self.named.state();
        let after = (
            std::ops::Bound::Excluded(after.to_owned()),
            std::ops::Bound::Unbounded,
        );
        let live = state.live.range(after).map(|(_, sandbox)| sandbox);
        live.filter(|it| it.caller == caller).cloned().collect()
    }

    /// Ends a caller's sandbox and all that runs in it, and waits for that, so that its place is free for another one; what
    /// does not end within ten seconds is no longer waited for.
    ///
    /// # Errors
    /// See [`NoSandbox`].
    pub async fn delete_sandbox(&self, caller: &str, id: &str) -> Result<(), NoSandbox> {
        let sandbox = self.named.get(caller, id)?;
        let reason = "the sandbox was deleted by its caller".to_owned();
        self.named.remove(&sandbox, &reason);
        sandbox.end(reason);
        let mut gone = sandbox.gone.subscribe();
        drop(sandbox);
        // It is never told anything: its sender goes with whoever had the sandbox last.
        if timeout(DELETE_PATIENCE, gone.changed()).await.is_err() {
            tracing::warn!(sandbox = %id, "what runs in it does not end");
        }
        Ok(())
    }
}
