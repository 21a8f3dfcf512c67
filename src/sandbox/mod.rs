//! A started sandbox as the rest of the program sees it.
//!
//! - `channel`: gRPC over its byte stream, as the client of a server that nobody trusts
//! - `call`: the calls on it, of which the next one waits in advance
//! - `connection`: both, and attempts to make them again
//! - `idle`: a connection that waits, and is made again when it is cut before its use, and closed and
//!   opened as the pool says
//! - `execution`: one program in it, across cut connections; `progress`: what is known of it
//! - `outbound`, `inbox`: what is on the way to the agent, and to the caller
//! - `direct`: output that does not pass through the agent
//! - `delimited`: messages after their lengths, in what it writes
//! - `files`: the output files that it says it has; `displays`: what it says that cells show; `operations`: what is done with files of one that
//!   lives on

mod call;
mod channel;
mod connection;
mod delimited;
mod direct;
mod displays;
mod execution;
mod files;
mod idle;
mod inbox;
mod operations;
mod outbound;
mod progress;

use std::{
    collections::HashMap,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{mpsc, watch},
    time::{Instant, timeout},
};

pub use self::{
    channel::Channel,
    execution::{Ended, Event, Events, Input, NotConfirmed, Run},
    files::OutputChunk,
    operations::{FileOutput, Operation, OperationError},
};
use self::{
    connection::{Connection, Shared},
    idle::Idle,
};
use crate::{
    backend::{Backend, Death, OutputPipes, SandboxId, StartError, words},
    execution::{Outcome, Spec},
    metrics::Attempts,
    proto::agent::{ForgetRequest, Language, PrepareRequest},
};

/// The agent's own language (src/agent/rehearsal.rs).
const REHEARSAL: &str = "rehearsal";
/// Where the agent's program is, seen from itself.
const AGENT: &str = "/proc/self/exe";
/// How long an agent may take to end what was given up. One that takes longer hears of it again.
const FORGET_TIMEOUT: Duration = Duration::from_secs(5);
/// What gVisor's kernel log begins with (pkg/sentry/kernel/syslog.go).
const GVISOR_BOOT_LOG: &str = "Starting gVisor";

/// What is done in a sandbox before it waits.
#[derive(Clone, Default)]
pub struct Preparation {
    /// The languages, their modules and spares.
    pub languages: Vec<Language>,
    /// Environment of every program.
    pub env: HashMap<String, String>,
    /// How long starting, importing and warming up may take in all.
    pub timeout: Duration,
}

/// Why a sandbox is not there.
#[derive(Debug, thiserror::Error)]
pub enum StartFailure {
    /// The backend could not start it.
    #[error(transparent)]
    Backend(#[from] StartError),
    /// It died while it started.
    #[error("it died while it started: {0}")]
    Died(Death),
    /// Its agent did not answer, or not as it should.
    #[error("its agent failed: {0}")]
    Agent(String),
    /// An interpreter did not get ready.
    #[error("{0}")]
    Interpreter(String),
    /// It took too long.
    #[error("it was not ready after {0:?}")]
    Timeout(Duration),
}

/// A warm sandbox, and the connection to its agent.
///
/// Dropping it closes the connection and no more: deleting it is the owner's business.
pub struct Sandbox {
    id: SandboxId,
    backend: Arc<dyn Backend>,
    connection: Mutex<Connected>,
    /// Whether it keeps its connection while it is idle.
    connected: watch::Sender<bool>,
    /// By their numbers, unless they are taken.
    outputs: Mutex<Vec<Option<OutputPipes>>>,
    /// Executions that the agent may forget: it hears of them with the next one.
    ended: Mutex<Vec<String>>,
    /// When something was done in it last.
    used: Mutex<Instant>,
    death: watch::Receiver<Option<Death>>,
    /// Where each attempt to reach it again counts.
    reattaches: Attempts,
}

/// How it is connected.
enum Connected {
    /// It waits for its first program.
    Idle(Idle),
    /// It is used, by any number of programs.
    Used(Arc<Shared>),
}

impl Sandbox {
    /// Starts a sandbox, makes sure that it is gVisor, and warms it up. When this fails, or is
    /// dropped, the backend must still be told to delete what there is of it.
    ///
    /// `reattaches`: where each attempt to reach it again after a cut counts.
    ///
    /// # Errors
    /// See [`StartFailure`].
    pub async fn start(
        backend: Arc<dyn Backend>,
        id: SandboxId,
        preparation: &Preparation,
        reattaches: Attempts,
    ) -> Result<Self, StartFailure> {
        let limit = preparation.timeout;
        let warm_up = Self::warm_up(backend, id, preparation, reattaches);
        timeout(limit, warm_up)
            .await
            .unwrap_or(Err(StartFailure::Timeout(limit)))
    }

    async fn warm_up(
        backend: Arc<dyn Backend>,
        id: SandboxId,
        preparation: &Preparation,
        reattaches: Attempts,
    ) -> Result<Self, StartFailure> {
        let spares: u32 = preparation.languages.iter().map(|it| it.spares).sum();
        // The rehearsal's, too.
        let started = backend.start(&id, spares + 1).await?;
        let outputs: Vec<_> = started.outputs.into_iter().map(Some).collect();
        let channel = Channel::connect(started.channel)
            .await
            .map_err(|error| StartFailure::Agent(error.to_string()))?;
        let mut death = started.death;
        let rehearsal = Language {
            name: REHEARSAL.to_owned(),
            spares: 1,
            interpreter: AGENT.to_owned(),
            ..Language::default()
        };
        let request = PrepareRequest {
            languages: preparation
                .languages
                .iter()
                .cloned()
                .chain([rehearsal])
                .collect(),
            env: preparation.env.clone(),
            // As many as were asked for, at most.
            direct_outputs: outputs.len() as u32,
            must_not_reach: started
                .must_not_reach
                .iter()
                .map(ToString::to_string)
                .collect(),
        };
        let mut agent = channel.agent();
        let prepared = tokio::select! {
            prepared = agent.prepare(request) => prepared
                .map_err(|status| StartFailure::Agent(words(status.message())))?
                .into_inner(),
            reason = died(&mut death) => return Err(StartFailure::Died(reason)),
        };
        // Before any user code, so this is gVisor's word and not a program's.
        if !prepared.boot_log.contains(GVISOR_BOOT_LOG) {
            return Err(StartError::NotGvisor(format!(
                "its kernel log begins with {:?}",
                words(&prepared.boot_log)
            ))
            .into());
        }
        if !prepared.reached.is_empty() {
            return Err(StartError::Reaches(words(&prepared.reached.join(", "))).into());
        }
        if let Some(failure) = prepared.failures.first() {
            let failure = format!("{failure} {}", direct::last_words(&outputs));
            return Err(StartFailure::Interpreter(words(failure.trim())));
        }
        let mut sandbox = Self::from_channel(backend, id, channel.clone(), death);
        sandbox.outputs = Mutex::new(outputs);
        sandbox.reattaches = reattaches;
        sandbox.rehearse().await?;
        let waiting = Connection::new(channel);
        waiting.let_call_wait().await.map_err(StartFailure::Agent)?;
        sandbox.connection = Mutex::new(Connected::Idle(Idle::new(
            sandbox.backend.clone(),
            sandbox.id.clone(),
            waiting,
            sandbox.connected.subscribe(),
            sandbox.reattaches.clone(),
        )));
        let (id, kernel) = (&sandbox.id, words(&prepared.kernel));
        tracing::debug!(sandbox = %id, %kernel, "sandbox is warm");
        Ok(sandbox)
    }

    /// A sandbox that is warm already, whose agent is at the other end of `channel`. After a cut,
    /// `backend` is asked for the next connection; `death` is as in
    /// [`StartedSandbox`](crate::backend::StartedSandbox).
    #[must_use]
    pub fn from_channel(
        backend: Arc<dyn Backend>,
        id: SandboxId,
        channel: Channel,
        death: watch::Receiver<Option<Death>>,
    ) -> Self {
        let shared = Shared::new(Some(Connection::new(channel)));
        Self {
            id,
            backend,
            connection: Mutex::new(Connected::Used(Arc::new(shared))),
            connected: watch::Sender::new(true),
            outputs: Mutex::default(),
            ended: Mutex::default(),
            used: Mutex::new(Instant::now()),
            death,
            reattaches: Attempts::default(),
        }
    }

    /// Runs a program that does nothing through the whole path: the first run of any code costs
    /// milliseconds, and is not to be the caller's.
    async fn rehearse(&self) -> Result<(), StartFailure> {
        let spec = Spec::rehearsal(REHEARSAL);
        let (_, mut input) = mpsc::channel(1);
        let (events, mut received) = mpsc::channel::<Event>(8);
        let run = self.run(Run {
            execution_id: REHEARSAL,
            spec: &spec,
            input: &mut input,
            events: &events,
            stop: watch::Sender::new(None).subscribe(),
            reattach_timeout: Duration::ZERO,
        });
        let ended = run
            .await
            .map_err(|not_confirmed| StartFailure::Agent(not_confirmed.to_string()))?;
        received.close();
        match ended.outcome {
            Outcome::Exited(0) => Ok(()),
            other => Err(StartFailure::Agent(format!(
                "the rehearsal ended as {other:?}"
            ))),
        }
    }

    /// The sandbox's name.
    #[must_use]
    pub const fn id(&self) -> &SandboxId {
        &self.id
    }

    /// Decides whether it keeps its connection while it is idle. Without one, the next program waits
    /// until there is one again.
    #[must_use]
    pub fn connected(&self) -> watch::Sender<bool> {
        self.connected.clone()
    }

    /// Whether it has a connection that is not known to be cut.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        match &*self.connection() {
            Connected::Idle(idle) => idle.is_connected(),
            Connected::Used(shared) => shared.is_open(),
        }
    }

    fn connection(&self) -> MutexGuard<'_, Connected> {
        self.connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection for a program: from the first one on nobody else looks after it.
    fn shared(&self) -> Arc<Shared> {
        let mut connection = self.connection();
        if let Connected::Used(shared) = &*connection {
            return shared.clone();
        }
        let nothing = Connected::Used(Arc::default());
        let kept = match mem::replace(&mut *connection, nothing) {
            Connected::Idle(idle) => idle.take(),
            Connected::Used(_) => None,
        };
        let shared = Arc::new(Shared::new(kept));
        *connection = Connected::Used(shared.clone());
        shared
    }

    fn ended(&self) -> MutexGuard<'_, Vec<String>> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The agent need not know that execution any more. It hears of it with the next one or, where the
    /// execution was given up and may still run, at once if that is possible.
    async fn has_ended(&self, execution_id: &str, has_exited: bool) {
        self.ended().push(execution_id.to_owned());
        if has_exited {
            return;
        }
        let Some(connection) = self.shared().current().filter(|it| it.is_open()) else {
            return;
        };
        let ended = self.ended().clone();
        let request = ForgetRequest {
            ended: ended.clone(),
        };
        let mut agent = connection.channel.agent();
        if let Ok(Ok(_)) = timeout(FORGET_TIMEOUT, agent.forget(request)).await {
            self.forgotten(&ended);
        }
    }

    /// Lets a call wait for the next program, where there is a connection.
    async fn expect_another(&self) {
        if let Some(connection) = self.shared().current().filter(|it| it.is_open()) {
            // One that is cut is seen by who uses it.
            let _ = connection.let_call_wait().await;
        }
    }

    /// The agent has heard of those.
    fn forgotten(&self, heard: &[String]) {
        self.ended().retain(|id| !heard.contains(id));
    }

    /// When something was done in it last: bytes of input or output passed, or an execution began or
    /// ended.
    #[must_use]
    pub fn last_used(&self) -> Instant {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something is done in it.
    pub fn touch(&self) {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Resolves with the reason when the sandbox dies.
    pub fn death(&self) -> impl Future<Output = Death> + Send + 'static {
        let mut death = self.death.clone();
        async move { died(&mut death).await }
    }
}

/// Waits for the death of a sandbox.
async fn died(death: &mut watch::Receiver<Option<Death>>) -> Death {
    match death.wait_for(Option::is_some).await {
        Ok(reason) => reason
            .clone()
            .unwrap_or_else(|| Death::Unknown("it has gone".into())),
        Err(_) => Death::Unknown("it is no longer watched".into()),
    }
}
