//! Running gVisor's `runsc`.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, PipeWriter},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rustix::{
    io::FdFlags,
    process::{Pid, Signal, getpid, getppid, set_parent_process_death_signal},
};
use tokio::time::{Instant, timeout, timeout_at};

use super::{bundle::AGENT, priority, template::Template};
use crate::{
    backend::SandboxId,
    reaper::{End, Exit, Process, Reaper},
};

/// Where descriptors that are passed on begin: the agent expects them there.
const FIRST_PASSED: u32 = 10;
/// The end of runsc's own words that goes into an error.
const LAST_WORDS: usize = 600;

/// `runsc`, for one sandbox.
pub(super) struct Runsc<'a> {
    pub(super) reaper: &'a Reaper,
    pub(super) unended: &'a Unended,
    pub(super) program: &'a Path,
    pub(super) platform: &'a str,
    /// The sandbox's directory: bundle, runsc's state, log.
    pub(super) dir: PathBuf,
}

impl Runsc<'_> {
    fn command(&self, stdio: OwnedFd) -> io::Result<Command> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.dir.join("runsc.log"))?;
        let mut command = Command::new(self.program);
        command
            // State of its own, so that no sandbox waits for another's lock.
            .arg("--root")
            .arg(self.dir.join("state"))
            .arg(format!("--platform={}", self.platform))
            .args([
                "--network=none",
                // Nothing is written to the root file system, so nothing needs to be overlaid.
                "--overlay2=none",
                // The machine's programs do not change under a sandbox that lives for minutes:
                // asking the host again for each path lookup makes imports slow.
                "--file-access-mounts=exclusive",
            ])
            .stdin(Stdio::from(stdio.try_clone()?))
            .stdout(Stdio::from(stdio))
            .stderr(Stdio::from(log));
        // SAFETY: between fork and exec only setpriority is called, which is async-signal-safe.
        unsafe { command.pre_exec(priority::inherit_nothing) };
        Ok(command)
    }

    /// Creates and starts the sandbox with `stdio` as its first process's stdin and stdout, and
    /// `passed` as its descriptors from [`FIRST_PASSED`] up.
    /// Dropped or late, runsc is killed, and is among the unended; the processes that it had made are
    /// in the cgroup.
    pub(super) async fn run(
        &self,
        id: &SandboxId,
        stdio: OwnedFd,
        passed: Vec<PipeWriter>,
        limit: Duration,
    ) -> Result<(), String> {
        let mut command = self.command(stdio).map_err(|error| error.to_string())?;
        command.args(["run", "--detach"]);
        for (inside, descriptor) in (FIRST_PASSED..).zip(&passed) {
            command.arg(format!("--pass-fd={}:{inside}", descriptor.as_raw_fd()));
        }
        let server = getpid();
        // SAFETY: between fork and exec only prctl, getppid and fcntl are called, which are
        // async-signal-safe. The descriptors are open as long as the command that owns them.
        unsafe {
            command.pre_exec(move || {
                end_with(server)?;
                for descriptor in &passed {
                    rustix::io::fcntl_setfd(descriptor, FdFlags::empty())?;
                }
                Ok(())
            });
        }
        command
            .arg("--bundle")
            .arg(&self.dir)
            .arg("--pid-file")
            .arg(self.dir.join("pid"))
            .arg(id.as_str());
        let process = self
            .reaper
            .spawn(command)
            .map_err(|error| format!("cannot run {}: {error}", self.program.display()))?;
        let mut starting = Starting {
            reaper: self.reaper,
            unended: self.unended,
            id,
            process: Some(process),
        };
        match timeout(limit, starting.ended()).await {
            Ok(Some(Exit {
                end: End::Code(0), ..
            })) => Ok(()),
            Ok(Some(exit)) => Err(format!("runsc: {:?}: {}", exit.end, self.last_words())),
            Ok(None) => Err("runsc has gone".into()),
            Err(_) => Err(format!("runsc was not done after {limit:?}")),
        }
    }

    /// Starts `sandpool-agent attach` in the sandbox, with `stdio` as its stdin and stdout. It
    /// ends when the agent has done with them, or with the sandbox; until then it is among the unended.
    pub(super) fn exec_attach(
        &self,
        id: &SandboxId,
        template: &Template,
        stdio: OwnedFd,
    ) -> io::Result<()> {
        let mut command = self.command(stdio)?;
        command
            .args(["exec", "--cwd", "/", "--user"])
            .arg(format!("{}:{}", template.user, template.group))
            .arg(id.as_str())
            .args([AGENT, "attach"]);
        let process = self.reaper.spawn(command)?;
        self.unended.add(id, process);
        Ok(())
    }

    fn last_words(&self) -> String {
        let log = fs::read(self.dir.join("runsc.log")).unwrap_or_default();
        let log = String::from_utf8_lossy(&log[log.len().saturating_sub(LAST_WORDS)..]);
        log.trim().to_owned()
    }
}

/// Kills this process when the thread that started it ends, which is one of the runtime's: a `runsc`
/// that outlived its server would make a cgroup when the next server has long removed what was left.
fn end_with(server: Pid) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // It may have ended before.
    if getppid() == Some(server) {
        Ok(())
    } else {
        Err(io::ErrorKind::NotFound.into())
    }
}

/// A `runsc` that starts a sandbox, and is killed when nobody waits for it any more.
struct Starting<'a> {
    reaper: &'a Reaper,
    unended: &'a Unended,
    id: &'a SandboxId,
    // None: it has ended.
    process: Option<Process>,
}

impl Starting<'_> {
    async fn ended(&mut self) -> Option<Exit> {
        let exit = (&mut self.process.as_mut()?.exit).await.ok();
        self.process = None;
        exit
    }
}

impl Drop for Starting<'_> {
    fn drop(&mut self) {
        if let Some(process) = self.process.take() {
            self.reaper.kill_group(&process);
            self.unended.add(self.id, process);
        }
    }
}

/// Each sandbox's `runsc` processes whose end nobody has waited for. One that is killed may still be
/// making a cgroup, and names the sandbox until it has died: a deletion ends them first.
#[derive(Default)]
pub(super) struct Unended(Mutex<HashMap<SandboxId, Vec<Process>>>);

impl Unended {
    fn add(&self, id: &SandboxId, process: Process) {
        self.lock().entry(id.clone()).or_default().push(process);
    }

    /// Kills a sandbox's, and waits for their ends.
    ///
    /// # Errors
    /// When one is still there at the deadline: again, later.
    pub(super) async fn end(
        &self,
        id: &SandboxId,
        reaper: &Reaper,
        deadline: Instant,
    ) -> Result<(), String> {
        let mut processes = self.lock().remove(id).unwrap_or_default();
        for process in &processes {
            reaper.kill_group(process);
        }
        while let Some(mut process) = processes.pop() {
            if timeout_at(deadline, &mut process.exit).await.is_err() {
                let reason = format!("its runsc, process {}, does not end", process.pid);
                processes.push(process);
                self.lock().insert(id.clone(), processes);
                return Err(reason);
            }
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SandboxId, Vec<Process>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
