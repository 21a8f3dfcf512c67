//! Where sandboxes come from: one small trait, and one folder for each place.
//!
//! A backend gives a started sandbox's byte stream, and tells of its life and death. It knows
//! nothing of gRPC, of pools or of what is said over the stream.

pub mod kubernetes;
pub mod local;

use std::{
    fmt,
    io::{self, PipeWriter},
    net::SocketAddr,
    pin::Pin,
};

use async_trait::async_trait;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::unix::pipe,
    sync::watch,
};

/// How much of the sandbox's own words goes into an error.
const MAX_WORDS: usize = 600;

/// Names one sandbox, for ever: `<pool>-<server>-<number>`, at most 63 characters of `[a-z0-9-]`,
/// so that it can name a directory, a cgroup and a pod.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SandboxId(String);

impl SandboxId {
    /// The `number`th sandbox that the server instance `server` made for `pool`.
    #[must_use]
    pub fn new(pool: &str, server: &str, number: u64) -> Self {
        Self(format!("{pool}-{server}-{number}"))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SandboxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A connection to a sandbox's agent. Bytes in order, or an error; closed when dropped.
pub trait ByteStream: AsyncRead + AsyncWrite + Send {}
impl<T: AsyncRead + AsyncWrite + Send> ByteStream for T {}

/// A [`ByteStream`] of some backend.
pub type BoxedByteStream = Pin<Box<dyn ByteStream>>;

/// The server's ends of the pipes that one program in a sandbox writes to. They outlive both: what
/// was written can still be read.
pub struct OutputPipes {
    /// Not more than bytes, and anyone's in the sandbox.
    pub stdout: pipe::Receiver,
    /// The same.
    pub stderr: pipe::Receiver,
}

impl OutputPipes {
    /// Makes them, with their other ends, stdout's first.
    ///
    /// # Errors
    /// When the process has too many descriptors.
    pub fn new() -> io::Result<(Self, [PipeWriter; 2])> {
        let (stdout, to_stdout) = io::pipe()?;
        let (stderr, to_stderr) = io::pipe()?;
        let pipes = Self {
            stdout: pipe::Receiver::from_owned_fd(stdout.into())?,
            stderr: pipe::Receiver::from_owned_fd(stderr.into())?,
        };
        Ok((pipes, [to_stdout, to_stderr]))
    }
}

/// A sandbox that runs, with its agent at the other end of `channel`.
pub struct StartedSandbox {
    /// The first connection to the agent.
    pub channel: BoxedByteStream,
    /// `None` while it lives. Once it is dead it stays so; a dropped sender means dead, too.
    pub death: watch::Receiver<Option<Death>>,
    /// As many as were asked for, or none where a backend cannot give them.
    pub outputs: Vec<OutputPipes>,
    /// What it must not reach by TCP, or nothing may run in it.
    pub must_not_reach: Vec<SocketAddr>,
}

/// What is known from outside about a sandbox's end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Death {
    /// The host's memory limit killed it (a cgroup's oom_kill counter, reason OOMKilled).
    OutOfMemory,
    /// Something outside ended it, with evidence: eviction, node loss, deletion by another.
    Infrastructure(String),
    /// It ended, and nothing outside says why.
    Unknown(String),
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfMemory => f.write_str("killed by the host at its memory limit"),
            Self::Infrastructure(reason) | Self::Unknown(reason) => f.write_str(reason),
        }
    }
}

/// Why a sandbox did not start. What had been made of it is left to [`Backend::delete`].
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The machine or the cluster refused or failed.
    #[error("cannot {step}: {reason}")]
    Failed {
        /// What was being done, as an infinitive.
        step: &'static str,
        /// What went wrong, in the words of whoever refused.
        reason: String,
    },
    /// It runs, and it is not gVisor: nothing may run in it.
    #[error("the sandbox is not gVisor: {0}")]
    NotGvisor(String),
    /// Policies leave its network open, and how: it is not made, nor used if it was.
    #[error("the sandbox's network is not closed: of the NetworkPolicies, {0}")]
    NetworkOpen(String),
    /// It runs, and its network is open: nothing may run in it. The addresses that it reached.
    #[error("the sandbox's network is not closed, it reaches {0}")]
    Reaches(String),
}

/// Why there is no further connection to a sandbox.
#[derive(Debug, thiserror::Error)]
#[error("cannot connect to sandbox {id}: {reason}")]
pub struct ConnectError {
    /// The sandbox.
    pub id: SandboxId,
    /// What went wrong.
    pub reason: String,
}

/// Why a sandbox may still be there. Deleting it again is always safe.
#[derive(Debug, thiserror::Error)]
#[error("cannot delete sandbox {id}: {reason}")]
pub struct DeleteError {
    /// The sandbox.
    pub id: SandboxId,
    /// What went wrong.
    pub reason: String,
}

/// Makes, connects and deletes the sandboxes of one pool.
#[async_trait]
pub trait Backend: Send + Sync + 'static {
    /// Starts a sandbox, proven to be gVisor, with the agent running in it.
    /// When the future is dropped, [`Backend::delete`] must still be called.
    ///
    /// `outputs`: for how many programs it may be given pipes to the server's own process.
    async fn start(&self, id: &SandboxId, outputs: u32) -> Result<StartedSandbox, StartError>;

    /// Why nothing more may run in its sandboxes at present, as long as there is such a reason.
    fn refusal(&self) -> watch::Receiver<Option<String>> {
        watch::channel(None).1
    }

    /// Why a sandbox that lives cannot be reached, where there is evidence of a cause outside of it: its node
    /// is silent, say.
    fn outage(&self, _id: &SandboxId) -> Option<String> {
        None
    }

    /// Opens a further connection to the agent, after an earlier one was cut.
    async fn connect(&self, id: &SandboxId) -> Result<BoxedByteStream, ConnectError>;

    /// Ends the sandbox and removes all that was made for it. One that is not there is deleted.
    async fn delete(&self, id: &SandboxId) -> Result<(), DeleteError>;
}

/// What a sandbox said, fit for a log or an error: bounded, and without control characters.
pub(crate) fn words(text: &str) -> String {
    text.chars()
        .take(MAX_WORDS)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}
