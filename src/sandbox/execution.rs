//! One program in a sandbox, followed from its start message to its end, across cut connections.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    sync::{mpsc, watch},
    task::yield_now,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{
    OutputChunk, Sandbox,
    call::Link,
    connection::{Connection, REATTACH_ATTEMPT, Shared, attempt},
    died,
    direct::Direct,
    inbox::Violation,
    progress::{Progress, outcome_of},
    words,
};
use crate::{
    backend::{Death, SandboxId},
    execution::{CodeError, Display, LostCause, Outcome, Spec, TerminalSize, Usage},
    proto::agent::{Open, ToAgent, to_agent::Message},
};

/// A healthy sandbox confirms a start within milliseconds; one that does not is replaced.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(1);
/// Pauses between attempts, the first and the longest: each costs a process on the machine.
const REATTACH_PAUSE: Duration = Duration::from_millis(100);
const REATTACH_MAX_PAUSE: Duration = Duration::from_secs(1);
/// A sandbox that cuts its own connection again and again is not worth more; what was whole for longer
/// than this was not cut again and again.
const MAX_REATTACHES: u32 = 20;
const WHOLE: Duration = Duration::from_secs(60);

/// What the caller sends to the program.
pub enum Input {
    /// Bytes for stdin.
    Data(Bytes),
    /// The end of stdin.
    Close,
    /// A signal for the program's process group, 1 to 64.
    Signal(i32),
    /// Another size of its terminal.
    Resize(TerminalSize),
}

/// What the program sends to the caller.
pub enum Event {
    /// The program exists, in this sandbox. Before everything else.
    Started(SandboxId),
    /// Bytes of stdout.
    Stdout(Bytes),
    /// Bytes of stderr.
    Stderr(Bytes),
    /// One piece of an output file.
    File(OutputChunk),
    /// What a cell shows.
    Display(Display),
}

/// Where a program's events go.
pub trait Events: Sync {
    /// Resolves when nobody wants them any more: the program is cancelled then.
    fn gone(&self) -> impl Future<Output = ()> + Send;
    /// Resolves when there is room for one, or nobody wants it.
    fn room(&self) -> impl Future<Output = ()> + Send;
    /// Takes one, after [`Self::room`].
    fn give(&self, event: Event);
}

/// Closed means that the caller has gone. Nobody else may send.
impl<T: From<Event> + Send> Events for mpsc::Sender<T> {
    async fn gone(&self) {
        self.closed().await;
    }

    async fn room(&self) {
        // Who has gone needs none.
        let _ = self.reserve().await;
    }

    fn give(&self, event: Event) {
        // Dropped where nobody takes it any more.
        let _ = self.try_send(event.into());
    }
}

/// How it ended.
pub struct Ended {
    /// Exactly one.
    pub outcome: Outcome,
    /// As far as it is known.
    pub usage: Usage,
    /// When the agent had confirmed the start.
    pub started_at: Option<Instant>,
    /// When the first byte of stdout or stderr was there.
    pub first_output_at: Option<Instant>,
    /// Whether an interpreter that had waited took the program.
    pub warm: bool,
    /// What a cell did not catch.
    pub error: Option<CodeError>,
    /// Whether the end is that of the cell's context.
    pub context_ended: bool,
    /// What the caller has not taken yet, at most a few MiB. The sandbox is not needed for it.
    pub rest: Vec<Event>,
}

/// The program was not confirmed to exist: another sandbox may be tried.
#[derive(Debug, thiserror::Error)]
#[error("the sandbox did not start the program: {reason}")]
pub struct NotConfirmed {
    /// Why.
    pub reason: String,
    /// Whether anything of it was sent: then it may run all the same, if the sandbox lives on.
    pub was_sent: bool,
}

/// A program and its two ends.
pub struct Run<'a, E> {
    /// Names the execution to the agent.
    pub execution_id: &'a str,
    /// What to run.
    pub spec: &'a Spec,
    /// Its input. Closed means the end of stdin.
    pub input: &'a mut mpsc::Receiver<Input>,
    /// Where its events go.
    pub events: &'a E,
    /// The server's own reason to end it, once there is one.
    pub stop: watch::Receiver<Option<String>>,
    /// How long a sandbox that cannot be reached is waited for.
    pub reattach_timeout: Duration,
}

/// Why the loop stops.
enum Stop {
    NotConfirmed(String),
    Ended(Outcome),
}

impl From<Violation> for Stop {
    fn from(violation: Violation) -> Self {
        Self::Ended(Outcome::Lost(
            LostCause::Unknown,
            format!("the sandbox broke the protocol: {violation}"),
        ))
    }
}

impl Sandbox {
    /// Runs a program to its end, beside others if there are any. What is not confirmed to have
    /// started is handed back, so that another sandbox can be tried; nothing was sent to the
    /// caller then.
    ///
    /// # Errors
    /// See [`NotConfirmed`].
    pub async fn run<E: Events>(&self, run: Run<'_, E>) -> Result<Ended, NotConfirmed> {
        let mut progress = Progress::new(self.id.clone(), run.spec);
        let execution_id = run.execution_id;
        self.touch();
        let stop = progress.drive(self, run).await;
        self.touch();
        if progress.is_named {
            self.has_ended(execution_id, progress.exited.is_some())
                .await;
            self.expect_another().await;
        }
        progress.drain();
        let outcome = match stop {
            Stop::NotConfirmed(reason) => {
                return Err(NotConfirmed {
                    reason,
                    was_sent: progress.was_sent,
                });
            }
            Stop::Ended(outcome) => progress.verdict.take().unwrap_or(outcome),
        };
        Ok(progress.end(outcome))
    }

    /// Opens the execution in the agent.
    async fn open(
        &self,
        connection: &Connection,
        execution_id: &str,
        progress: &mut Progress,
    ) -> Result<Link, String> {
        let ended = self.ended().clone();
        let call = connection.call().await?;
        let credits = (1..)
            .zip(&progress.streams)
            .map(|(stream, inbox)| inbox.credit(stream));
        let open = Message::Open(Open {
            execution_id: execution_id.to_owned(),
            credits: credits.collect(),
            ended: ended.clone(),
        });
        progress.was_sent = true;
        // There is room: nothing was sent yet.
        let _ = call.to_agent.try_send(ToAgent {
            message: Some(open),
        });
        // What fits goes with it, so that a start costs no round trip.
        while call.to_agent.capacity() > 0
            && let Some(message) = progress.outbound.pop()
        {
            let _ = call.to_agent.try_send(message);
        }
        let link = call.answered().await?;
        self.forgotten(&ended);
        Ok(link)
    }

    /// Reaches the agent again after a cut, however often it takes. `failed`: the connection that was
    /// cut, if there was one, and then the one that is used. `reason`: why it is not reached yet.
    async fn reattach(
        &self,
        shared: &Shared,
        failed: &mut Option<Arc<Connection>>,
        execution_id: &str,
        progress: &mut Progress,
        reason: &mut String,
    ) -> Link {
        let mut pause = REATTACH_PAUSE;
        loop {
            let reach = async {
                let again = shared.again(failed.as_ref(), &*self.backend, &self.id);
                let connection = failed.insert(again.await?);
                progress.outbound.restart();
                self.open(connection, execution_id, progress).await
            };
            *reason = match attempt(REATTACH_ATTEMPT, &self.reattaches, reach).await {
                Ok(link) => return link,
                Err(reason) => reason,
            };
            tracing::debug!(%reason, "agent was not reached");
            sleep(pause).await;
            pause = (pause * 2).min(REATTACH_MAX_PAUSE);
        }
    }
}

impl Progress {
    async fn drive<E: Events>(&mut self, sandbox: &Sandbox, mut run: Run<'_, E>) -> Stop {
        let shared = sandbox.shared();
        // One that is just being made again is waited for where stop, caller and death are looked at, too.
        let mut connection = shared.current();
        let mut cut = false;
        let mut reattaches = 0;
        while reattaches <= MAX_REATTACHES {
            let link = self.link(sandbox, &shared, &mut connection, &mut run, cut);
            let mut link = match link.await {
                Ok(link) => link,
                Err(stop) => return stop,
            };
            let linked_at = Instant::now();
            match self.follow(sandbox, &mut link, &mut run).await {
                // Also when it was decided how it ends: what is left of it is still to come.
                Ok(reason) if self.started.is_some() || self.is_named => {
                    tracing::warn!(sandbox = %sandbox.id, %reason, "connection was cut");
                    cut = true;
                    let was_whole = linked_at.elapsed() > WHOLE;
                    reattaches = if was_whole { 1 } else { reattaches + 1 };
                }
                Ok(reason) => return self.cut_for_good(sandbox, reason).await,
                Err(stop) => return stop,
            }
        }
        self.unreachable(sandbox, "it was cut again and again".into())
    }

    /// Opens the execution in the agent: over the connection that there is, or after a cut over
    /// a new one.
    async fn link<E: Events>(
        &mut self,
        sandbox: &Sandbox,
        shared: &Shared,
        connection: &mut Option<Arc<Connection>>,
        run: &mut Run<'_, E>,
        cut: bool,
    ) -> Result<Link, Stop> {
        let mut death = sandbox.death.clone();
        let undecided = self.verdict.is_none();
        let is_named = self.is_named;
        // Cut or closed while nobody used it, and not opened again yet: nothing has been said over it.
        let open = connection.clone().filter(|it| !cut && it.is_open());
        let cut_before = !cut && open.is_none();
        let (deadline, late) = if cut && self.started.is_some() {
            let timed_out = Outcome::TimedOut(run.spec.limits.timeout);
            (self.deadline, Stop::Ended(timed_out))
        } else if cut || cut_before {
            // A named sandbox is waited for until the reattaching is given up.
            let limit = if is_named {
                run.reattach_timeout + REATTACH_ATTEMPT
            } else {
                REATTACH_ATTEMPT
            };
            let reason = format!("it could not be reached within {limit:?}");
            (Instant::now() + limit, Stop::NotConfirmed(reason))
        } else {
            let limit = self.confirm_timeout(run.reattach_timeout);
            (Instant::now() + limit, not_confirmed(limit))
        };
        let opening = async {
            let mut reason = "no answer".to_owned();
            if let Some(open) = &open {
                match sandbox.open(open, run.execution_id, self).await {
                    // It was cut while nobody used it, and that was not seen before.
                    Err(cut) if is_named => reason = cut,
                    opened => return opened,
                }
            }
            let reattach =
                sandbox.reattach(shared, connection, run.execution_id, self, &mut reason);
            let limit = run.reattach_timeout;
            let reached = timeout(limit, reattach).await;
            reached.map_err(|_| format!("not within {limit:?}: {}", words(&reason)))
        };
        tokio::select! {
            biased;
            () = run.events.gone(), if !is_named => Err(Stop::Ended(caller_gone())),
            reason = stopped(&mut run.stop), if undecided => {
                Err(Stop::Ended(Outcome::Cancelled(reason)))
            }
            () = passed(deadline) => Err(late),
            opened = opening => opened.map_err(|reason| self.unreachable(sandbox, reason)),
            reason = died(&mut death) => Err(self.dead(&reason)),
        }
    }

    /// Passes messages on in both directions. `Ok`: the connection was cut, and by what.
    async fn follow<E: Events>(
        &mut self,
        sandbox: &Sandbox,
        link: &mut Link,
        run: &mut Run<'_, E>,
    ) -> Result<String, Stop> {
        let mut death = sandbox.death.clone();
        let Run {
            spec,
            input,
            events,
            stop,
            reattach_timeout,
            ..
        } = run;
        // Until the whole start has been handed over, the deadline is the program's own.
        let mut confirming = false;
        let confirm_within = self.confirm_timeout(*reattach_timeout);
        loop {
            if let Some(exited) = &self.exited
                && self.direct.as_ref().is_none_or(Direct::is_over)
            {
                return Err(Stop::Ended(outcome_of(exited)));
            }
            if self.outbound.is_empty() && self.started.is_none() && !confirming {
                confirming = true;
                self.deadline = Instant::now() + confirm_within;
            }
            let give_up_at = self.direct.as_ref().and_then(Direct::give_up_at);
            tokio::select! {
                biased;
                // A sandbox of its own is deleted, which ends everything in it.
                () = events.gone(), if self.verdict.is_none() || !self.is_named => {
                    self.decide(caller_gone());
                    if !self.is_named {
                        return Err(Stop::Ended(caller_gone()));
                    }
                }
                reason = stopped(stop), if self.verdict.is_none() => {
                    self.decide(Outcome::Cancelled(reason));
                }
                () = sleep_until(self.deadline) => self.late(spec, *reattach_timeout)?,
                message = link.from_agent.message(), if self.exited.is_none() => match message {
                    Ok(Some(message)) => {
                        let outputs = || sandbox.outputs.lock().unwrap_or_else(PoisonError::into_inner);
                        self.hear(message, spec, |number| outputs().get_mut(number)?.take())?;
                    }
                    Ok(None) => return Ok("the agent hung up".into()),
                    Err(status) => return Ok(words(status.message())),
                },
                reason = died(&mut death), if self.exited.is_none() => {
                    return Err(self.dead(&reason));
                }
                () = events.room(), if self.has_event() => {
                    if let Some(event) = self.next_event() {
                        events.give(event);
                        sandbox.touch();
                    }
                    self.extend_credit();
                }
                (index, length) = Direct::read_into(&mut self.direct, &mut self.streams) => {
                    self.count(index, length);
                }
                () = maybe_until(give_up_at) => {}
                permit = link.to_agent.reserve(), if !self.outbound.is_empty() => {
                    if let (Ok(permit), Some(message)) = (permit, self.outbound.pop()) {
                        permit.send(message);
                    }
                }
                from_caller = input.recv(), if self.takes_input() => match from_caller {
                    Some(Input::Data(data)) => {
                        self.outbound.input(data);
                        sandbox.touch();
                    }
                    Some(Input::Signal(number)) => self.outbound.signal(number),
                    Some(Input::Resize(size)) => self.outbound.resize(size),
                    Some(Input::Close) => self.outbound.close_input(),
                    None => {
                        self.caller_done = true;
                        self.outbound.close_input();
                    }
                },
            }
        }
    }

    /// How long a start may take until it is confirmed. A named sandbox is never replaced by another one,
    /// and other programs may keep it busy.
    fn confirm_timeout(&self, reattach_timeout: Duration) -> Duration {
        if self.is_named {
            reattach_timeout.max(CONFIRM_TIMEOUT)
        } else {
            CONFIRM_TIMEOUT
        }
    }

    fn late(&mut self, spec: &Spec, reattach_timeout: Duration) -> Result<(), Stop> {
        if let Some(verdict) = &self.verdict {
            return Err(Stop::Ended(verdict.clone()));
        }
        if self.started.is_none() {
            let limit = self.confirm_timeout(reattach_timeout);
            return Err(not_confirmed(limit));
        }
        self.decide(Outcome::TimedOut(spec.limits.timeout));
        Ok(())
    }

    fn dead(&mut self, reason: &Death) -> Stop {
        if self.verdict.is_none() && self.started.is_none() {
            return Stop::NotConfirmed(reason.to_string());
        }
        Stop::Ended(match reason {
            // Of several programs nobody knows which one it was.
            Death::OutOfMemory if self.is_named => Outcome::Lost(
                LostCause::Unknown,
                "the programs in the sandbox used more memory together than it may have".into(),
            ),
            Death::OutOfMemory => Outcome::OutOfMemory(self.memory_limit),
            Death::Infrastructure(reason) => {
                Outcome::Lost(LostCause::InfrastructureEvent, reason.clone())
            }
            Death::Unknown(reason) => Outcome::Lost(LostCause::Unknown, reason.clone()),
        })
    }

    /// A cut that is not mended. It is often seen before the death that caused it, which says more.
    async fn cut_for_good(&mut self, sandbox: &Sandbox, reason: String) -> Stop {
        match timeout(CONFIRM_TIMEOUT, died(&mut sandbox.death.clone())).await {
            Ok(reason) => self.dead(&reason),
            Err(_) => self.unreachable(sandbox, reason),
        }
    }

    fn unreachable(&self, sandbox: &Sandbox, reason: String) -> Stop {
        if self.started.is_none() {
            return Stop::NotConfirmed(reason);
        }
        let (cause, reason) = match sandbox.backend.outage(&sandbox.id) {
            Some(outage) => (
                LostCause::InfrastructureEvent,
                format!("{outage}; {reason}"),
            ),
            None => (LostCause::Unknown, reason),
        };
        let words = format!("the sandbox cannot be reached: {reason}");
        Stop::Ended(Outcome::Lost(cause, words))
    }
}

fn not_confirmed(limit: Duration) -> Stop {
    Stop::NotConfirmed(format!("no answer within {limit:?}"))
}

fn caller_gone() -> Outcome {
    Outcome::Cancelled("the caller went away".into())
}

/// Waits until then, and begins to once what is under way has been written: a timer that is the next
/// to fire costs a system call, and the start shall not wait for that.
async fn passed(deadline: Instant) {
    yield_now().await;
    sleep_until(deadline).await;
}

/// Never, if there is no time.
async fn maybe_until(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

async fn stopped(stop: &mut watch::Receiver<Option<String>>) -> String {
    if let Ok(reason) = stop.wait_for(Option::is_some).await {
        return reason.clone().unwrap_or_default();
    }
    // Nobody can stop it any more.
    std::future::pending().await
}
