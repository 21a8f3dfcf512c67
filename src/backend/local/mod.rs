//! Sandboxes on this machine: gVisor's `runsc`, run directly.
//!
//! - `template`: what a pool's sandboxes have in common; `bundle`: that, in OCI's words
//! - `rootfs`: the root file system that sandboxes read
//! - `runsc`: running it; `cgroup`: the sandboxes' limits, and who is in them;
//!   `priority`: who goes first in a sandbox
//! - `state_dir`: where all of this is kept, and what a dead server left there
//!
//! A sandbox is four things: two processes (sentry and gofer) and what they fork, a cgroup, and
//! a directory. Deleting it is killing the `runsc` that starts it or is attached to it, if any, and
//! who is in the cgroup, and removing the two; no `runsc delete` is needed for that, which polls
//! for 1.6 s.

mod bundle;
mod cgroup;
mod priority;
mod rootfs;
mod runsc;
mod state_dir;
mod template;

use std::{io, os::fd::OwnedFd, path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use rustix::process::Pid;
use tokio::{net::UnixStream, sync::watch, time::Instant};

pub use cgroup::Cgroups;
pub use state_dir::{StateDir, StateDirError};
pub use template::{Template, Volumes};

use self::{
    cgroup::Cgroup,
    rootfs::Rootfs,
    runsc::{Runsc, Unended},
};
use super::{
    Backend, BoxedByteStream, ConnectError, Death, DeleteError, OutputPipes, SandboxId, StartError,
    StartedSandbox,
};
use crate::reaper::{self, Process, Reaper};

/// How long `runsc` may take for one command before it is killed.
const RUNSC_TIMEOUT: Duration = Duration::from_secs(30);
/// How long killed processes may take to be gone before the deletion counts as failed.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);

/// What all local pools of one server share.
#[derive(Clone)]
pub struct Machine {
    reaper: Reaper,
    cgroups: Arc<Cgroups>,
    state: Arc<StateDir>,
    runsc: PathBuf,
    platform: String,
    agent: PathBuf,
}

impl Machine {
    /// Takes the machine into use: from now on this process reaps the orphans of its children.
    ///
    /// # Errors
    /// When the kernel refuses that.
    pub fn new(
        state: StateDir,
        cgroups: Cgroups,
        runsc: PathBuf,
        platform: String,
        agent: PathBuf,
    ) -> io::Result<Self> {
        rustix::process::set_child_subreaper(Some(Pid::INIT))?;
        priority::server_first();
        Ok(Self {
            reaper: Reaper::start()?,
            cgroups: Arc::new(cgroups),
            state: Arc::new(state),
            runsc,
            platform,
            agent,
        })
    }

    /// Removes what is left of this server once its sandboxes are deleted: its cgroup and its directory. The
    /// last clone's drop would do that, too, but a connection of a client that stays may have it in its hands
    /// when the process ends.
    pub async fn close(&self) {
        let deadline = Instant::now() + KILL_TIMEOUT;
        if let Err(error) = until_removed(deadline, || self.state.remove()).await {
            tracing::warn!(%error, "this server's directory is left to the next one");
        }
    }
}

/// Tries until it succeeds, or until the deadline. Whoever is in a cgroup is killed again and again, since one
/// may have been about to fork; there is no event in cgroup v1 for one that is without processes.
async fn until_removed(deadline: Instant, remove: impl Fn() -> io::Result<()>) -> io::Result<()> {
    let mut pause = Duration::from_micros(500);
    while let Err(error) = remove() {
        if Instant::now() > deadline {
            return Err(error);
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(50));
    }
    Ok(())
}

/// Makes the sandboxes of one pool.
pub struct LocalBackend {
    machine: Machine,
    template: Template,
    rootfs: Rootfs,
    unended: Unended,
}

impl LocalBackend {
    /// Makes the root file system ready.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub fn new(machine: Machine, template: Template) -> io::Result<Self> {
        let rootfs = Rootfs::prepare(&template, machine.state.path())?;
        Ok(Self {
            machine,
            template,
            rootfs,
            unended: Unended::default(),
        })
    }

    fn dir(&self, id: &SandboxId) -> PathBuf {
        self.machine.state.path().join(id.as_str())
    }

    fn cgroup(&self, id: &SandboxId) -> Cgroup {
        self.machine
            .cgroups
            .sandbox(self.machine.state.server(), id.as_str())
    }

    fn runsc(&self, id: &SandboxId) -> Runsc<'_> {
        Runsc {
            reaper: &self.machine.reaper,
            unended: &self.unended,
            program: &self.machine.runsc,
            platform: &self.machine.platform,
            dir: self.dir(id),
        }
    }
}

fn failed(step: &'static str) -> impl Fn(io::Error) -> StartError {
    move |error| StartError::Failed {
        step,
        reason: error.to_string(),
    }
}

#[async_trait]
impl Backend for LocalBackend {
    async fn start(&self, id: &SandboxId, outputs: u32) -> Result<StartedSandbox, StartError> {
        // What follows writes files and forks: not on the pool's own task.
        tokio::task::yield_now().await;
        let dir = self.dir(id);
        let cgroup = self.cgroup(id);
        bundle::write(
            &dir,
            &self.template,
            &self.rootfs,
            &self.machine.agent,
            cgroup.oci_path(),
        )
        .map_err(failed("write the bundle"))?;

        let (channel, theirs) = socket_pair().map_err(failed("make a socket"))?;
        let mut pipes = Vec::new();
        let mut passed = Vec::new();
        for _ in 0..outputs {
            let (ours, theirs) = OutputPipes::new().map_err(failed("make pipes"))?;
            pipes.push(ours);
            passed.extend(theirs);
        }
        self.runsc(id)
            .run(id, theirs, passed, RUNSC_TIMEOUT)
            .await
            .map_err(|reason| StartError::Failed {
                step: "start the sandbox",
                reason,
            })?;

        let pid = std::fs::read_to_string(dir.join("pid"))
            .ok()
            .and_then(|pid| Pid::from_raw(pid.trim().parse().ok()?))
            .ok_or_else(|| StartError::Failed {
                step: "find the sandbox's process",
                reason: "runsc wrote no pid".into(),
            })?;
        priority::sentry_first(pid);
        let (death_sender, death) = watch::channel(None);
        match self.machine.reaper.adopt(pid) {
            // Ends with the sandbox, whose deletion the pool sees to.
            Some(process) => drop(tokio::spawn(follow(process, cgroup, death_sender))),
            None => {
                death_sender.send_replace(Some(Death::Unknown("it ended at once".into())));
            }
        }
        Ok(StartedSandbox {
            channel: Box::pin(channel),
            death,
            outputs: pipes,
            // There is no network (`--network=none`).
            must_not_reach: Vec::new(),
        })
    }

    async fn connect(&self, id: &SandboxId) -> Result<BoxedByteStream, ConnectError> {
        let failed = |error: io::Error| ConnectError {
            id: id.clone(),
            reason: error.to_string(),
        };
        let (channel, theirs) = socket_pair().map_err(failed)?;
        self.runsc(id)
            .exec_attach(id, &self.template, theirs)
            .map_err(failed)?;
        Ok(Box::pin(channel))
    }

    async fn delete(&self, id: &SandboxId) -> Result<(), DeleteError> {
        let failed = |reason: String| DeleteError {
            id: id.clone(),
            reason,
        };
        tokio::task::yield_now().await;
        let deadline = Instant::now() + KILL_TIMEOUT;
        self.unended
            .end(id, &self.machine.reaper, deadline)
            .await
            .map_err(failed)?;
        let cgroup = self.cgroup(id);
        until_removed(deadline, || cgroup.kill_and_remove())
            .await
            .map_err(|error| failed(format!("cannot remove its cgroup: {error}")))?;
        match std::fs::remove_dir_all(self.dir(id)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(failed(format!("cannot remove its directory: {error}")))
            }
            _ => Ok(()),
        }
    }
}

/// Waits for a sandbox's end and tells what is known of it.
async fn follow(process: Process, cgroup: Cgroup, death: watch::Sender<Option<Death>>) {
    let end = process.exit.await.map(|exit| exit.end);
    let reason = if cgroup.oom_kills() > 0 {
        Death::OutOfMemory
    } else {
        Death::Unknown(match end {
            Ok(reaper::End::Code(code)) => format!("its gVisor process exited with {code}"),
            Ok(reaper::End::Signal(number)) => {
                format!("its gVisor process was ended by signal {number}")
            }
            Err(_) => "its gVisor process has gone".into(),
        })
    };
    death.send_replace(Some(reason));
}

/// Our end and the sandbox's. A socket, since other processes in the sandbox cannot open those
/// through /proc as they can open pipes.
fn socket_pair() -> io::Result<(UnixStream, OwnedFd)> {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    Ok((UnixStream::from_std(ours)?, theirs.into()))
}
