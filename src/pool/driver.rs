//! The one task of a pool: carries out what the state machine decides, and tells it the outcome.

use std::{
    any::Any,
    collections::HashMap,
    mem,
    panic::{self, AssertUnwindSafe},
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use tokio::{
    sync::watch,
    task::{AbortHandle, Id, JoinError, JoinSet, yield_now},
};

use super::{
    deaths::Deaths,
    provision::{BoxFuture, Provision, Provisioned},
    shared::{Named, Shared, now},
    state::{Number, Work},
};
use crate::backend::SandboxId;

/// How often the status is published at most, so that watching costs leases nothing.
const PUBLISH_EVERY: Duration = Duration::from_millis(100);

pub(super) struct Driver<P: Provision> {
    shared: Arc<Shared<P>>,
    provision: Arc<P>,
    pool: String,
    server: String,
    // Starts and deletes that had to wait. Dropping the driver aborts them.
    tasks: JoinSet<Outcome<P::Sandbox>>,
    running: HashMap<Id, Running>,
    deaths: Deaths,
    // Of those that are warm, until they are deleted.
    connected: HashMap<Number, watch::Sender<bool>>,
    refusal: watch::Receiver<Option<String>>,
    events: Vec<Event<P>>,
    publish_at: Instant,
    // Dropped with the driver: that is how others see that it ended.
    _ended: watch::Sender<()>,
}

struct Running {
    number: Number,
    kind: Kind,
    task: AbortHandle,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Start,
    Delete,
}

enum Outcome<S> {
    Start(Result<Provisioned<S>, String>),
    Delete(Result<(), String>),
}

enum Event<P: Provision> {
    Started(Number, Named<P>),
    StartFailed(Number, String),
    Deleted(Number),
    DeleteFailed(Number),
    Died(Number, String),
    Refused(Option<String>),
}

/// What is left to do after the events have been taken in.
struct Round {
    over: bool,
    wake_at: Option<Instant>,
}

impl<P: Provision> Driver<P> {
    pub(super) fn new(
        shared: Arc<Shared<P>>,
        provision: Arc<P>,
        pool: &str,
        server: &str,
        ended: watch::Sender<()>,
    ) -> Self {
        let deaths = Deaths::new(Arc::clone(&shared.driver));
        let mut refusal = provision.refusal();
        // There may be a reason from the beginning.
        let events = vec![Event::Refused(refusal.borrow_and_update().clone())];
        Self {
            shared,
            provision,
            pool: pool.into(),
            server: server.into(),
            tasks: JoinSet::new(),
            running: HashMap::new(),
            deaths,
            connected: HashMap::new(),
            refusal,
            events,
            publish_at: now(),
            _ended: ended,
        }
    }

    pub(super) async fn run(mut self) {
        let mut work = Vec::new();
        loop {
            let round = self.round(&mut work);
            if round.over {
                return;
            }
            for work in work.drain(..) {
                self.carry_out(work);
            }
            while let Some(joined) = self.tasks.try_join_next_with_id() {
                self.joined(joined);
            }
            self.collect_deaths();
            if !self.events.is_empty() {
                // Others get their turn, and their events come with these in the next round.
                yield_now().await;
                continue;
            }
            tokio::select! {
                () = self.shared.driver.notified() => {
                    // Whoever was given a sandbox goes first.
                    yield_now().await;
                }
                Some(joined) = self.tasks.join_next_with_id() => self.joined(joined),
                // Whoever could refuse may be gone.
                Ok(()) = self.refusal.changed() => {
                    let refusal = self.refusal.borrow_and_update().clone();
                    self.events.push(Event::Refused(refusal));
                }
                () = sleep_until(round.wake_at) => {}
            }
        }
    }

    /// Takes in all events and takes out all work, under one lock.
    fn round(&mut self, work: &mut Vec<Work<Named<P>>>) -> Round {
        let now = now();
        let (answers, status, mut round) = {
            let mut inner = self.shared.lock();
            inner.driver_called = false;
            let state = &mut inner.state;
            for event in self.events.drain(..) {
                match event {
                    Event::Started(number, sandbox) => state.started(number, sandbox, now),
                    Event::StartFailed(number, reason) => state.start_failed(number, reason, now),
                    Event::Deleted(number) => state.deleted(number, now),
                    Event::DeleteFailed(number) => state.delete_failed(number, now),
                    Event::Died(number, reason) => state.died(number, reason, now),
                    Event::Refused(refusal) => state.refuse(refusal, now),
                }
            }
            if state.next_tick().is_some_and(|at| at <= now) {
                state.tick(now);
            }
            mem::swap(work, &mut state.work);
            let round = Round {
                over: state.is_over(),
                wake_at: state.next_tick(),
            };
            let status = state.status();
            (self.shared.take_answers(&mut inner), status, round)
        };
        answers.send();
        let urgent = {
            let seen = self.shared.status.borrow();
            if *seen == status {
                return round;
            }
            seen.warmed != status.warmed
                || mem::discriminant(&seen.health) != mem::discriminant(&status.health)
        };
        if urgent || round.over || now >= self.publish_at {
            self.shared.status.send_replace(status);
            self.publish_at = now + PUBLISH_EVERY;
        } else {
            round.wake_at = Some(
                round
                    .wake_at
                    .map_or(self.publish_at, |at| at.min(self.publish_at)),
            );
        }
        round
    }

    fn carry_out(&mut self, work: Work<Named<P>>) {
        match work {
            Work::Start(number) => {
                let (provision, id) = (Arc::clone(&self.provision), self.id(number));
                self.begin(
                    number,
                    Kind::Start,
                    Box::pin(async move { Outcome::Start(provision.start(&id).await) }),
                );
            }
            Work::Recycle(number, sandbox) => {
                drop(sandbox);
                self.deaths.forget(number);
                self.connected.remove(&number);
                let (provision, id) = (Arc::clone(&self.provision), self.id(number));
                self.begin(
                    number,
                    Kind::Delete,
                    Box::pin(async move { Outcome::Delete(provision.delete(&id).await) }),
                );
            }
            Work::Connect(number) => self.connect(number, true),
            Work::Disconnect(number) => self.connect(number, false),
            Work::Abandon(number) => {
                // Its end comes as that of any other task; only then is the sandbox deleted, so
                // that nothing is made after the deletion has looked.
                for running in self.running.values() {
                    if running.number == number && running.kind == Kind::Start {
                        running.task.abort();
                    }
                }
            }
        }
    }

    /// Nothing happens if it is being deleted already.
    fn connect(&self, number: Number, connected: bool) {
        if let Some(sandbox) = self.connected.get(&number) {
            sandbox.send_replace(connected);
        }
    }

    /// Polls the future once and gives it a task only if it has to wait.
    fn begin(&mut self, number: Number, kind: Kind, mut future: BoxFuture<Outcome<P::Sandbox>>) {
        // Nobody need be woken: whoever waits is polled again by its task.
        let mut context = Context::from_waker(Waker::noop());
        let polled = panic::catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut context)));
        match polled {
            Ok(Poll::Ready(outcome)) => self.ended(number, outcome),
            Ok(Poll::Pending) => {
                let task = self.tasks.spawn(future);
                self.running
                    .insert(task.id(), Running { number, kind, task });
            }
            Err(panic) => self.ended(number, failure(kind, panic_text(&*panic))),
        }
    }

    fn joined(&mut self, joined: Result<(Id, Outcome<P::Sandbox>), JoinError>) {
        let id = match &joined {
            Ok((id, _)) => *id,
            Err(error) => error.id(),
        };
        // Every task of the set is in `running` from its spawn to here.
        let Some(Running { number, kind, .. }) = self.running.remove(&id) else {
            return;
        };
        let outcome = match joined {
            Ok((_, outcome)) => outcome,
            Err(error) => failure(
                kind,
                match error.try_into_panic() {
                    Ok(panic) => panic_text(&*panic),
                    Err(_) => "abandoned".into(),
                },
            ),
        };
        self.ended(number, outcome);
    }

    fn ended(&mut self, number: Number, outcome: Outcome<P::Sandbox>) {
        match outcome {
            Outcome::Start(Ok(Provisioned {
                sandbox,
                gone,
                connected,
            })) => {
                self.connected.insert(number, connected);
                let dead = self.deaths.watch(number, gone);
                self.events
                    .push(Event::Started(number, (self.id(number), sandbox)));
                self.events
                    .extend(dead.map(|reason| Event::Died(number, reason)));
            }
            Outcome::Start(Err(reason)) => self.events.push(Event::StartFailed(number, reason)),
            Outcome::Delete(Ok(())) => self.events.push(Event::Deleted(number)),
            Outcome::Delete(Err(_)) => self.events.push(Event::DeleteFailed(number)),
        }
    }

    fn collect_deaths(&mut self) {
        let (pool, events) = (&self.pool, &mut self.events);
        self.deaths.collect(|number, reason| {
            tracing::warn!(pool, number = number.0, reason, "sandbox died");
            events.push(Event::Died(number, reason));
        });
    }

    fn id(&self, number: Number) -> SandboxId {
        SandboxId::new(&self.pool, &self.server, number.0)
    }
}

impl<P: Provision> Drop for Driver<P> {
    /// However the driver ends, nobody waits for it afterwards: not after a bug in it, and not
    /// when the pool was dropped without a shutdown.
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(
                pool = self.pool,
                "the pool's task panicked: the pool leases no more"
            );
        }
        let status = self.shared.update(|inner| {
            inner.state.shut_down();
            inner.state.status()
        });
        self.shared.status.send_replace(status);
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

fn failure<S>(kind: Kind, reason: String) -> Outcome<S> {
    match kind {
        Kind::Start => Outcome::Start(Err(reason)),
        Kind::Delete => Outcome::Delete(Err(reason)),
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("panicked: {}", text.unwrap_or("without a message"))
}
