//! The state behind its lock, and what everyone who holds the lock must do.

use std::{
    collections::HashMap,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::{Notify, oneshot, watch};

use super::{
    error::LeaseError,
    lease::Lease,
    provision::Provision,
    queue::Ticket,
    state::{Answer, Number, State},
    status::PoolStatus,
};
use crate::backend::SandboxId;

/// A sandbox with its id, as the state carries it.
pub(super) type Named<P> = (SandboxId, <P as Provision>::Sandbox);
pub(super) type Granted<P> = Result<Lease<P>, LeaseError>;
/// Who waits for an answer, if anybody does any more.
type Asker<P> = Option<oneshot::Sender<Granted<P>>>;

pub(super) struct Shared<P: Provision> {
    // A std mutex: it is held for a pop and a push, never over an await, and all that runs of the
    // sandbox's under it is the look whether it is connected.
    inner: Mutex<Inner<P>>,
    /// Wakes the driver.
    pub(super) driver: Arc<Notify>,
    pub(super) status: watch::Sender<PoolStatus>,
}

pub(super) struct Inner<P: Provision> {
    pub(super) state: State<Named<P>>,
    pub(super) waiting: HashMap<Ticket, oneshot::Sender<Granted<P>>>,
    /// The driver has been woken and has not looked yet: waking it again would be a waste.
    pub(super) driver_called: bool,
}

pub(super) fn is_connected<P: Provision>((_, sandbox): &Named<P>) -> bool {
    P::is_connected(sandbox)
}

pub(super) fn now() -> Instant {
    // Tokio's clock, which tests can pause.
    tokio::time::Instant::now().into_std()
}

impl<P: Provision> Shared<P> {
    pub(super) fn new(state: State<Named<P>>) -> Self {
        Self {
            driver: Arc::new(Notify::new()),
            status: watch::Sender::new(state.status()),
            inner: Mutex::new(Inner {
                state,
                waiting: HashMap::new(),
                driver_called: false,
            }),
        }
    }

    /// Only to look.
    pub(super) fn lock(&self) -> MutexGuard<'_, Inner<P>> {
        // A panic under the lock is a bug in the state machine; its maps are then still maps.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state, says what that has to say to those in the queue, and wakes the driver
    /// for the rest.
    pub(super) fn update<R>(self: &Arc<Self>, change: impl FnOnce(&mut Inner<P>) -> R) -> R {
        let (result, answers, call) = {
            let mut inner = self.lock();
            let result = change(&mut inner);
            let call = !mem::replace(&mut inner.driver_called, true);
            (result, self.take_answers(&mut inner), call)
        };
        answers.send();
        if call {
            self.driver.notify_one();
        }
        result
    }

    /// Takes what is to be said, to be sent when the lock is free.
    pub(super) fn take_answers(self: &Arc<Self>, inner: &mut Inner<P>) -> Answers<P> {
        let mut answers = Vec::new();
        for answer in inner.state.answers.drain(..) {
            let (ticket, granted) = match answer {
                Answer::Refuse(ticket, error) => (ticket, Err(error)),
                Answer::Grant(ticket, number, sandbox) => (ticket, Ok(self.lease(number, sandbox))),
            };
            answers.push((inner.waiting.remove(&ticket), granted));
        }
        Answers(answers)
    }

    pub(super) fn lease(self: &Arc<Self>, number: Number, (id, sandbox): Named<P>) -> Lease<P> {
        Lease::new(sandbox, id, number, Arc::clone(self))
    }
}

/// Answers that are not sent yet. One whose receiver is gone gives its lease back, which takes the
/// lock: so they are neither sent nor dropped under it.
#[must_use]
pub(super) struct Answers<P: Provision>(Vec<(Asker<P>, Granted<P>)>);

impl<P: Provision> Answers<P> {
    pub(super) fn send(self) {
        for (waiting, granted) in self.0 {
            if let Some(waiting) = waiting {
                // Whoever went away in this instant drops the lease, which recycles the sandbox.
                let _ = waiting.send(granted);
            }
        }
    }
}

/// A request in the queue; dropping it leaves the queue.
pub(super) struct Place<P: Provision> {
    shared: Arc<Shared<P>>,
    ticket: Ticket,
    answer: oneshot::Receiver<Granted<P>>,
    in_queue: bool,
}

impl<P: Provision> Place<P> {
    /// Under the lock in which `ticket` was given, so that no answer comes before it is known.
    pub(super) fn take(shared: &Arc<Shared<P>>, inner: &mut Inner<P>, ticket: Ticket) -> Self {
        let (sender, answer) = oneshot::channel();
        inner.waiting.insert(ticket, sender);
        Self {
            shared: Arc::clone(shared),
            ticket,
            answer,
            in_queue: true,
        }
    }

    pub(super) async fn wait(mut self, wait: Duration) -> Granted<P> {
        if let Ok(answer) = tokio::time::timeout(wait, &mut self.answer).await {
            return self.answered(answer);
        }
        let ticket = self.ticket;
        let error = self.shared.update(|inner| {
            let error = inner.state.expired(ticket, now())?;
            inner.waiting.remove(&ticket);
            Some(error)
        });
        if let Some(error) = error {
            self.in_queue = false;
            return Err(error);
        }
        // Answered in the same instant: the answer is on its way.
        let answer = (&mut self.answer).await;
        self.answered(answer)
    }

    fn answered(&mut self, answer: Result<Granted<P>, oneshot::error::RecvError>) -> Granted<P> {
        self.in_queue = false;
        // The sender is dropped unused only by a driver that is no more.
        answer.unwrap_or(Err(LeaseError::ShuttingDown))
    }
}

impl<P: Provision> Drop for Place<P> {
    fn drop(&mut self) {
        if !self.in_queue {
            return;
        }
        let ticket = self.ticket;
        // If it has been granted meanwhile, the lease is in `answer` and dropped with it.
        self.shared.update(|inner| {
            inner.state.cancelled(ticket);
            inner.waiting.remove(&ticket);
        });
    }
}
