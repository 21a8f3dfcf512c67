//! One request: a lease, a program, an end.

use std::{hash::BuildHasher, sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedMutexGuard, mpsc, watch},
    time::Instant,
};
use tracing::Instrument;

use super::{
    Dispatcher, Finished, Served, Timings,
    callers::{Place, TooManyExecutions},
    contexts::{Context, ContextBusy, ContextEnded},
    known::{AlreadyExists, Begun, Claim},
    named::{NamedSandbox, SandboxBusy, TooManySandboxes},
    provision::SandboxProvision,
    record::{NewRecord, ProgramInput, Record, Sink},
};
use crate::{
    execution::{LostCause, Outcome, Program, Spec, Usage},
    metrics::RefusalReason,
    pool::{Lease, LeaseError},
    sandbox::{Ended, Event, Input, Run, Sandbox},
};

/// How many sandboxes are tried in all until one confirms the start.
const SANDBOXES: u32 = 3;
/// How long a caller that takes nothing may keep what is left of a program that has ended.
pub(super) const CALLER_PATIENCE: Duration = Duration::from_secs(60);

/// What to run, and for whom.
pub struct Request {
    /// Whose limits and ids count.
    pub caller: String,
    /// Unique for the caller; see [`AlreadyExists`].
    pub execution_id: String,
    /// Name of the pool.
    pub pool: String,
    /// Where it runs, if not in a fresh sandbox of that pool. The pool is the sandbox's then.
    pub sandbox: Option<Arc<NamedSandbox>>,
    /// The context of that sandbox that runs it, if it is a cell.
    pub context: Option<Arc<Context>>,
    /// The program.
    pub spec: Spec,
    /// How long to wait in the queue.
    pub wait: Duration,
}

/// What the caller is told.
pub enum Update {
    /// From the program.
    Event(Event),
    /// The end, last and once.
    Finished(Box<Finished>),
}

impl Request {
    fn fingerprint(&self, hashers: &impl BuildHasher) -> u64 {
        let sandbox = self.sandbox.as_ref().map(|named| named.id().to_string());
        let spec = self.spec.fingerprint(hashers);
        hashers.hash_one((&self.pool, sandbox, spec))
    }

    /// How long it goes on without its caller; none, not at all.
    fn keep(&self) -> Option<Duration> {
        let usual = self.sandbox.as_ref().map(|named| named.idle_timeout());
        let keep = self.spec.keep_after_disconnect.or(usual);
        keep.filter(|keep| !keep.is_zero())
    }
}

impl From<Event> for Update {
    fn from(event: Event) -> Self {
        Self::Event(event)
    }
}

/// Why nothing was leased.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The id is not new.
    #[error(transparent)]
    AlreadyExists(#[from] AlreadyExists),
    /// The caller has enough.
    #[error(transparent)]
    TooManyExecutions(#[from] TooManyExecutions),
    /// The caller has enough sandboxes.
    #[error(transparent)]
    TooManySandboxes(#[from] TooManySandboxes),
    /// Enough is done in the sandbox.
    #[error(transparent)]
    SandboxBusy(#[from] SandboxBusy),
    /// The context has no time for it.
    #[error(transparent)]
    ContextBusy(#[from] ContextBusy),
    /// The context takes no cells any more.
    #[error(transparent)]
    ContextEnded(#[from] ContextEnded),
    /// The pool has no sandbox for it.
    #[error(transparent)]
    Lease(#[from] LeaseError),
    /// The sandboxes may be another server's by now; the reason.
    #[error("{0}")]
    NotOwner(String),
}

impl Refused {
    /// What it counts as.
    pub(super) const fn reason(&self) -> RefusalReason {
        match self {
            Self::AlreadyExists(_) => RefusalReason::AlreadyExists,
            Self::TooManyExecutions(_) => RefusalReason::TooManyExecutions,
            Self::TooManySandboxes(_) => RefusalReason::TooManySandboxes,
            Self::SandboxBusy(_) => RefusalReason::SandboxBusy,
            Self::ContextBusy(_) => RefusalReason::ContextBusy,
            Self::ContextEnded(_) => RefusalReason::ContextEnded,
            Self::NotOwner(_) => RefusalReason::NotOwner,
            Self::Lease(LeaseError::QueueFull { .. }) => RefusalReason::QueueFull,
            Self::Lease(LeaseError::CallerQueueFull { .. }) => RefusalReason::CallerQueueFull,
            Self::Lease(LeaseError::QueueTimeout { .. }) => RefusalReason::QueueTimeout,
            Self::Lease(LeaseError::Drained) => RefusalReason::Drained,
            Self::Lease(LeaseError::ShuttingDown) => RefusalReason::ShuttingDown,
        }
    }
}

/// The sandbox that a request has.
enum Tenant {
    /// For itself.
    Leased(Box<Lease<SandboxProvision>>),
    /// Among others.
    Named {
        sandbox: Arc<NamedSandbox>,
        /// Tells it that one more is in it.
        _inside: watch::Receiver<()>,
        cell: Option<InContext>,
    },
}

/// A cell whose turn it is.
struct InContext {
    context: Arc<Context>,
    _turn: OwnedMutexGuard<()>,
}

impl Tenant {
    fn sandbox(&self) -> &Sandbox {
        match self {
            Self::Leased(lease) => lease,
            Self::Named { sandbox, .. } => sandbox.sandbox(),
        }
    }

    fn context(&self) -> Option<&Context> {
        match self {
            Self::Named { cell, .. } => cell.as_ref().map(|cell| &*cell.context),
            Self::Leased(_) => None,
        }
    }
}

/// What became of a request.
pub enum Admitted {
    /// It is to be run.
    New(Box<Admission>),
    /// It is another one's execution, which may run, or have ended.
    Known(Arc<Record>),
}

/// A request that has its sandbox.
pub struct Admission {
    dispatcher: Arc<Dispatcher>,
    served: Served,
    tenant: Tenant,
    request: Request,
    claim: Claim,
    place: Place,
    received: Instant,
    timings: Timings,
    _running: watch::Receiver<()>,
}

impl Dispatcher {
    /// Waits for a sandbox. Dropping the future leaves the queue. `received`: when the request
    /// came in. `None`: there is no such pool.
    ///
    /// # Errors
    /// See [`Refused`].
    pub async fn admit(
        self: &Arc<Self>,
        request: Request,
        received: Instant,
    ) -> Result<Option<Admitted>, Refused> {
        let Some(served) = self.pools.get(&request.pool) else {
            return Ok(None);
        };
        let asking = served.metrics.ask();
        match self.lease(served, request, received).await {
            Ok(Admitted::New(admission)) => {
                let Timings { queued, leased, .. } = admission.timings;
                asking.granted(leased.saturating_sub(queued), leased);
                Ok(Some(Admitted::New(admission)))
            }
            Ok(Admitted::Known(record)) => {
                asking.refused(RefusalReason::AlreadyExists);
                Ok(Some(Admitted::Known(record)))
            }
            Err(refused) => {
                asking.refused(refused.reason());
                Err(refused)
            }
        }
    }

    async fn lease(
        self: &Arc<Self>,
        served: &Served,
        mut request: Request,
        received: Instant,
    ) -> Result<Admitted, Refused> {
        self.may_begin()?;
        let running = self.running.subscribe();
        let new = NewRecord {
            execution_id: request.execution_id.clone(),
            pool: request.pool.clone(),
            labels: request.spec.labels.clone(),
            fingerprint: request.fingerprint(&self.hashers),
            keep: request.keep(),
            kept: self.known.settings.kept_output,
        };
        let claim = match self.known.begin(&request.caller, new)? {
            Begun::New(claim) => claim,
            Begun::Known(record) => return Ok(Admitted::Known(record)),
        };
        let place = self.callers.enter(&request.caller)?;
        let queued = received.elapsed();
        let tenant = match request.sandbox.take() {
            Some(named) => {
                if request.context.is_none() {
                    for (name, value) in named.env() {
                        let env = request.spec.env.entry(name.clone());
                        env.or_insert_with(|| value.clone());
                    }
                }
                let inside = named.enter()?;
                let cell = match request.context.take() {
                    Some(context) => Some(take_turn(context, &mut request).await?),
                    None => None,
                };
                Tenant::Named {
                    sandbox: named,
                    _inside: inside,
                    cell,
                }
            }
            None => {
                let lease = served.pool.lease(&request.caller, request.wait).await?;
                Tenant::Leased(Box::new(lease))
            }
        };
        // It may have been lost in the queue.
        (self.check_ownership)().map_err(Refused::NotOwner)?;
        Ok(Admitted::New(Box::new(Admission {
            dispatcher: self.clone(),
            served: served.clone(),
            tenant,
            claim,
            place,
            received,
            timings: Timings {
                queued,
                leased: received.elapsed(),
                ..Timings::default()
            },
            request,
            _running: running,
        })))
    }
}

impl Admission {
    /// What is kept of it.
    #[must_use]
    pub const fn record(&self) -> &Arc<Record> {
        self.claim.record()
    }

    /// Whether it goes on without its caller: then its updates are its record's, and not its call's.
    #[must_use]
    pub fn outlives_its_call(&self) -> bool {
        self.record().outlives_its_call()
    }

    /// A new way to its program, of which [`Admission::run`] takes the other end.
    #[must_use]
    pub fn open_input(&self) -> (Arc<ProgramInput>, mpsc::Receiver<Input>) {
        let (input, taken) = ProgramInput::new(&self.request.spec);
        (Arc::new(input), taken)
    }

    /// Runs the program. Ends once its updates have been taken, or nobody wants them: then the program is
    /// cancelled, and a sandbox of its own is deleted at once.
    pub async fn run(self, input: mpsc::Receiver<Input>, updates: Sink) {
        let span = tracing::info_span!(
            "execution",
            id = %self.request.execution_id,
            pool = %self.request.pool,
        );
        self.run_in_span(input, updates).instrument(span).await;
    }

    async fn run_in_span(mut self, mut input: mpsc::Receiver<Input>, updates: Sink) {
        self.claim.ran();
        let mut tried = 1;
        let ended = loop {
            let sandbox = self.tenant.sandbox().id().clone();
            let run = Run {
                execution_id: &self.request.execution_id,
                spec: &self.request.spec,
                input: &mut input,
                events: &updates,
                stop: match &self.tenant {
                    Tenant::Leased(_) => self.dispatcher.stop.subscribe(),
                    // Which their sandbox stops, too.
                    Tenant::Named {
                        cell: Some(cell), ..
                    } => cell.context.stopped(),
                    // Which the server stops, too.
                    Tenant::Named { sandbox, .. } => sandbox.stopped(),
                },
                reattach_timeout: self.dispatcher.reattach_timeout,
            };
            let not_confirmed = match self.tenant.sandbox().run(run).await {
                Ok(ended) => break ended,
                Err(not_confirmed) => not_confirmed,
            };
            let reason = not_confirmed.to_string();
            tracing::warn!(%sandbox, %reason, tried, "program was not started");
            if let Tenant::Named { .. } = self.tenant
                && not_confirmed.was_sent
            {
                // In a sandbox that lives on it may have been started all the same.
                break lost(LostCause::Unknown, reason);
            }
            if tried == SANDBOXES || matches!(self.tenant, Tenant::Named { .. }) {
                break lost_before_start(reason);
            }
            tried += 1;
            match self
                .served
                .pool
                .lease(&self.request.caller, self.request.wait)
                .await
            {
                // The first one is deleted with this.
                Ok(lease) => self.tenant = Tenant::Leased(Box::new(lease)),
                Err(refused) => break lost_before_start(format!("{reason}; then {refused}")),
            }
            if let Err(reason) = (self.dispatcher.check_ownership)() {
                break lost_before_start(reason);
            }
        };
        self.finish(ended, &updates).await;
    }

    async fn finish(self, ended: Ended, updates: &Sink) {
        let Self {
            served,
            tenant,
            place,
            request,
            received,
            mut timings,
            // Given back last: then all that is kept is there.
            claim: _claim,
            ..
        } = self;
        let Ended {
            outcome,
            usage,
            started_at,
            first_output_at,
            warm,
            error,
            context_ended,
            rest,
        } = ended;
        timings.started = started_at.map(|at| at - received);
        timings.first_output = first_output_at.map(|at| at - received);
        timings.finished = received.elapsed();
        timings.warm = warm;
        let context = tenant.context();
        // What stops both may reach the cell first, as an interrupt.
        let is_stopped =
            matches!(outcome, Outcome::Cancelled(_)) && context.is_some_and(Context::is_stopped);
        let context_ended = context_ended || is_stopped;
        let finished = Box::new(Finished {
            outcome,
            usage,
            timings,
            error,
            context_ended,
            execution_count: match request.spec.program {
                Program::Cell { number, .. } => number,
                _ => 0,
            },
        });
        if let Some(context) = context.filter(|_| context_ended) {
            // Before the next cell's turn.
            context.end(&finished);
            // Whether its interpreter has ended or only says so.
            context.stop(format!("a cell has ended it: {}", finished.outcome));
        }
        let sandbox = tenant.sandbox().id().clone();
        // A sandbox of its own is deleted while the caller takes what is left, and may send the next request
        // as soon as it knows of the end.
        drop((tenant, place));
        served
            .metrics
            .end(&finished.outcome, finished.timings.first_output);
        tracing::info!(
            caller = %request.caller,
            %sandbox,
            labels = ?request.spec.labels,
            outcome = finished.outcome.name(),
            cpu_ms = usage.cpu_time.as_millis(),
            stdout_bytes = usage.stdout_bytes,
            stderr_bytes = usage.stderr_bytes,
            leased_us = timings.leased.as_micros(),
            finished_us = timings.finished.as_micros(),
            "execution ended"
        );
        updates.finish(rest, finished, CALLER_PATIENCE).await;
    }
}

/// Waits for a cell's turn, and gives it its number.
async fn take_turn(context: Arc<Context>, request: &mut Request) -> Result<InContext, Refused> {
    let (turn, next) = context.turn(request.wait).await?;
    if let Program::Cell { number, .. } = &mut request.spec.program {
        *number = next;
    }
    Ok(InContext {
        context,
        _turn: turn,
    })
}

fn lost_before_start(reason: String) -> Ended {
    lost(LostCause::BeforeStart, reason)
}

fn lost(cause: LostCause, reason: String) -> Ended {
    Ended {
        outcome: Outcome::Lost(cause, reason),
        usage: Usage::default(),
        started_at: None,
        first_output_at: None,
        warm: false,
        error: None,
        context_ended: false,
        rest: Vec::new(),
    }
}
