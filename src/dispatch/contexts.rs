//! Contexts: interpreters in a named sandbox that keep their state and run cells, one after the other.
//!
//! A context is an execution of its own, which runs until it is deleted, its interpreter ends, or its sandbox
//! does. Its cells are executions that wait for their turn.

use std::{
    collections::BTreeMap,
    mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use tokio::{
    sync::{OwnedMutexGuard, mpsc, oneshot, watch},
    time::timeout,
};

use super::{
    Dispatcher, Finished, NamedSandbox, Refused, Timings, creations::Creations, set_first,
};
use crate::{
    execution::{Limits, LostCause, Outcome, Spec},
    sandbox::{Ended, Event, Events, Run},
};

/// What a sandbox may have of those that have not ended; each is a process that keeps its memory.
const MAX_CONTEXTS: usize = 32;
/// How many that have ended are known in a sandbox.
const MAX_ENDED: usize = 64;
/// No client can choose it for an execution's id.
const ID_PREFIX: &str = "context:";
/// How long a deletion waits for the context's end.
const DELETE_PATIENCE: Duration = Duration::from_secs(10);

/// There is no such context in the sandbox.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no such context in this sandbox, or none any more: ListContexts lists them")]
pub struct NoContext;

/// The context has ended, and takes no cells.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the context has ended, and its state is gone: {0}; create another one")]
pub struct ContextEnded(String);

/// The cells before took too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the context's earlier cells did not end within {0:?}: wait for them, interrupt them, or raise \
     limits.queue_timeout"
)]
pub struct ContextBusy(Duration);

/// There are as many contexts as there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{MAX_CONTEXTS} contexts are in this sandbox already, which is the most: delete one of them"
)]
pub struct TooManyContexts;

/// Why there is no new context.
#[derive(Debug, thiserror::Error)]
pub enum ContextNotCreated {
    /// Nothing may be begun.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// There is no room for it.
    #[error(transparent)]
    TooMany(#[from] TooManyContexts),
    /// Its interpreter did not start; how it ended.
    #[error("the context's interpreter did not start: {0}")]
    NotStarted(String),
}

/// A context to be made.
pub struct NewContext {
    /// Of the creation, which may be repeated by it; empty: it is not repeated.
    pub request_id: String,
    /// A language of the pool that has contexts.
    pub language: String,
    /// Of its interpreter, over the sandbox's. Secret.
    pub env: BTreeMap<String, String>,
    /// Where its interpreter starts; absolute and normalised.
    pub working_directory: String,
    /// Of its interpreter and all that it starts.
    pub limits: Limits,
}

/// An interpreter that keeps its state.
pub struct Context {
    id: String,
    request_id: String,
    language: String,
    working_directory: String,
    created_at: SystemTime,
    cells: AtomicU64,
    turn: Arc<tokio::sync::Mutex<()>>,
    /// The reason to end it and the cell that runs in it.
    stop: watch::Sender<Option<String>>,
    ended: watch::Sender<Option<Box<Finished>>>,
}

impl Context {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its language.
    #[must_use]
    pub fn language(&self) -> &str {
        &self.language
    }

    /// Where its interpreter was started.
    #[must_use]
    pub fn working_directory(&self) -> &str {
        &self.working_directory
    }

    /// When it was created.
    #[must_use]
    pub const fn created_at(&self) -> SystemTime {
        self.created_at
    }

    /// How many cells were run in it.
    #[must_use]
    pub fn cells(&self) -> u64 {
        self.cells.load(Ordering::Relaxed)
    }

    /// Whether it has not ended, and is not to.
    fn takes_cells(&self) -> bool {
        !self.is_stopped() && self.ended.borrow().is_none()
    }

    /// How it ended, if it has.
    #[must_use]
    pub fn ended(&self) -> Option<Box<Finished>> {
        self.ended.borrow().clone()
    }

    /// Waits until the cells before have ended. With the turn comes the cell's number.
    pub(super) async fn turn(&self, wait: Duration) -> Result<(OwnedMutexGuard<()>, u64), Refused> {
        let turn = timeout(wait, self.turn.clone().lock_owned()).await;
        let turn = turn.map_err(|_| ContextBusy(wait))?;
        if let Some(ended) = self.ended() {
            return Err(ContextEnded(ended.outcome.to_string()).into());
        }
        Ok((turn, self.cells.fetch_add(1, Ordering::Relaxed) + 1))
    }

    /// Resolves when it, and what runs in it, is to end.
    pub(super) fn stopped(&self) -> watch::Receiver<Option<String>> {
        self.stop.subscribe()
    }

    /// Whether it is to end, or has ended.
    pub(super) fn is_stopped(&self) -> bool {
        self.stop.borrow().is_some()
    }

    /// Ends it, and what runs in it.
    pub(super) fn stop(&self, reason: String) {
        set_first(&self.stop, reason);
    }

    /// It has ended, as a cell or its interpreter tells first.
    pub(super) fn end(&self, finished: &Finished) {
        set_first(&self.ended, Box::new(finished.clone()));
    }
}

/// A sandbox's contexts, by id, those that have ended included.
#[derive(Default)]
pub(super) struct Contexts {
    by_id: Mutex<BTreeMap<String, Arc<Context>>>,
    creations: Creations,
}

impl Contexts {
    fn by_id(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Context>>> {
        self.by_id.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What that creation has made, while it takes cells.
    fn made_by(&self, request_id: &str) -> Option<Arc<Context>> {
        let by_id = self.by_id();
        let mut live = by_id.values().filter(|it| it.takes_cells());
        live.find(|it| it.request_id == request_id).cloned()
    }

    fn add(&self, context: Arc<Context>) -> Result<(), TooManyContexts> {
        let mut by_id = self.by_id();
        let (ended, live): (Vec<_>, Vec<_>) = by_id.values().partition(|it| it.ended().is_some());
        if live.len() >= MAX_CONTEXTS {
            return Err(TooManyContexts);
        }
        if ended.len() >= MAX_ENDED
            && let Some(oldest) = ended.iter().min_by_key(|it| it.created_at)
        {
            let oldest = oldest.id.clone();
            by_id.remove(&oldest);
        }
        by_id.insert(context.id.clone(), context);
        Ok(())
    }
}

impl NamedSandbox {
    /// A context of it, which may have ended.
    ///
    /// # Errors
    /// When there is none of that id.
    pub fn context(&self, id: &str) -> Result<Arc<Context>, NoContext> {
        self.contexts.by_id().get(id).cloned().ok_or(NoContext)
    }

    /// All its contexts, by id, those that have ended included.
    #[must_use]
    pub fn contexts(&self) -> Vec<Arc<Context>> {
        self.contexts.by_id().values().cloned().collect()
    }

    /// Ends a context and the cell that runs in it, and waits for that.
    ///
    /// # Errors
    /// When there is none of that id.
    pub async fn delete_context(&self, id: &str) -> Result<(), NoContext> {
        let context = self.contexts.by_id().remove(id).ok_or(NoContext)?;
        let reason = "the context was deleted by its caller".to_owned();
        context.stop(reason);
        let mut ended = context.ended.subscribe();
        let ended = timeout(DELETE_PATIENCE, ended.wait_for(Option::is_some)).await;
        if ended.is_err() {
            tracing::warn!(sandbox = %self.id(), context = id, "a context does not end");
        }
        Ok(())
    }
}

/// What a context's own execution says: nothing but that it has started.
struct ContextEvents {
    /// Who waits for the start, until it is there.
    on_start: Mutex<Option<oneshot::Sender<()>>>,
}

impl Events for ContextEvents {
    async fn gone(&self) {
        std::future::pending().await
    }

    async fn room(&self) {}

    fn give(&self, event: Event) {
        let Event::Started(_) = event else { return };
        let waits = self.on_start.lock();
        let waits = waits.unwrap_or_else(PoisonError::into_inner).take();
        if let Some(waits) = waits {
            // Whoever has gone has stopped it.
            let _ = waits.send(());
        }
    }
}

/// Stops a context whose creator goes away before it has it.
struct Unclaimed<'a>(&'a Context);

impl Drop for Unclaimed<'_> {
    fn drop(&mut self) {
        self.0.stop("its creator went away".to_owned());
    }
}

impl Dispatcher {
    /// Makes a context in a sandbox and waits until it takes cells, or finds what the same creation has made before.
    ///
    /// # Errors
    /// See [`ContextNotCreated`].
    pub async fn create_context(
        self: &Arc<Self>,
        named: Arc<NamedSandbox>,
        new: NewContext,
    ) -> Result<Arc<Context>, ContextNotCreated> {
        self.may_begin()?;
        // Held until it is made.
        let turn = named.contexts.creations.turn("", &new.request_id).await;
        if turn.is_some()
            && let Some(made) = named.contexts.made_by(&new.request_id)
        {
            return Ok(made);
        }
        let NewContext {
            request_id,
            language,
            env: own_env,
            working_directory,
            limits,
        } = new;
        let id = format!("{:016x}", rand::random::<u64>());
        let mut env = named.env().clone();
        env.extend(own_env);
        let spec = Spec::context(
            id.clone(),
            language.clone(),
            env,
            working_directory.clone(),
            limits,
        );
        let context = Arc::new(Context {
            id,
            request_id,
            language,
            working_directory,
            created_at: SystemTime::now(),
            cells: AtomicU64::new(0),
            turn: Arc::default(),
            stop: watch::Sender::new(None),
            ended: watch::Sender::new(None),
        });
        named.contexts.add(context.clone())?;
        let (on_start, started) = oneshot::channel();
        // Owned by the sandbox, whose end ends it.
        let keep = self
            .clone()
            .keep_context(named.clone(), context.clone(), spec, on_start);
        tokio::spawn(keep);
        let unclaimed = Unclaimed(&context);
        let has_started = started.await.is_ok();
        mem::forget(unclaimed);
        if has_started {
            return Ok(context);
        }
        named.contexts.by_id().remove(&context.id);
        let ended = context.ended();
        let outcome = ended.map_or_else(String::new, |ended| ended.outcome.to_string());
        Err(ContextNotCreated::NotStarted(outcome))
    }

    /// Runs a context until its end.
    async fn keep_context(
        self: Arc<Self>,
        named: Arc<NamedSandbox>,
        context: Arc<Context>,
        spec: Spec,
        on_start: oneshot::Sender<()>,
    ) {
        let execution_id = format!("{ID_PREFIX}{}", context.id);
        let (_, mut input) = mpsc::channel(1);
        let events = ContextEvents {
            on_start: Mutex::new(Some(on_start)),
        };
        let ended = {
            let run = named.sandbox().run(Run {
                execution_id: &execution_id,
                spec: &spec,
                input: &mut input,
                events: &events,
                stop: context.stopped(),
                reattach_timeout: self.reattach_timeout,
            });
            tokio::pin!(run);
            tokio::select! {
                ended = &mut run => ended,
                reason = named.is_stopped() => {
                    context.stop(reason);
                    run.await
                }
            }
        };
        let (outcome, usage) = match ended {
            Ok(Ended { outcome, usage, .. }) => (outcome, usage),
            Err(not_confirmed) => {
                let reason = not_confirmed.to_string();
                (
                    Outcome::Lost(LostCause::Unknown, reason),
                    Default::default(),
                )
            }
        };
        tracing::info!(
            sandbox = %named.id(),
            context = context.id,
            cells = context.cells(),
            outcome = outcome.name(),
            "context ended"
        );
        context.end(&Finished {
            outcome,
            usage,
            timings: Timings::default(),
            error: None,
            context_ended: true,
            execution_count: context.cells(),
        });
        // With it goes the one who may still wait for the start.
        drop(events);
        // A cell that goes on, as its sandbox says, ends with that.
        tokio::select! {
            _ = context.turn.lock() => {}
            reason = named.is_stopped() => context.stop(reason),
        }
    }
}
