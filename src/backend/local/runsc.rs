//! Running gVisor's `runsc`.

use std::{
    fs::{self, File},
    io::{self, PipeWriter},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use rustix::{
    io::FdFlags,
    process::{Pid, Signal, getpid, getppid, set_parent_process_death_signal},
};

use super::{bundle::AGENT, priority, template::Template};
use crate::{
    backend::SandboxId,
    reaper::{self, End, Exit, Reaper},
};

/// Where descriptors that are passed on begin: the agent expects them there.
const FIRST_PASSED: u32 = 10;
/// The end of runsc's own words that goes into an error.
const LAST_WORDS: usize = 600;

/// `runsc`, for one sandbox.
pub(super) struct Runsc<'a> {
    pub(super) reaper: &'a Reaper,
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
    /// Dropped or late, runsc is killed; the processes that it had made are in the cgroup.
    pub(super) async fn run(
        &self,
        id: &SandboxId,
        stdio: OwnedFd,
        passed: Vec<PipeWriter>,
        timeout: Duration,
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
        let guard = KillOnDrop(process.pid.as_raw_nonzero().get());
        let exit = tokio::time::timeout(timeout, process.exit).await;
        match exit {
            Ok(Ok(Exit {
                end: End::Code(0), ..
            })) => {
                std::mem::forget(guard);
                Ok(())
            }
            Ok(Ok(exit)) => {
                std::mem::forget(guard);
                Err(format!("runsc: {:?}: {}", exit.end, self.last_words()))
            }
            Ok(Err(_)) => Err("runsc has gone".into()),
            Err(_) => Err(format!("runsc was not done after {timeout:?}")),
        }
    }

    /// Starts `sandpool-agent attach` in the sandbox, with `stdio` as its stdin and stdout. It
    /// ends when the agent has done with them, or with the sandbox.
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
        self.reaper.spawn(command).map(drop)
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

/// A process group that is killed unless it has ended.
struct KillOnDrop(i32);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        reaper::kill(-self.0, libc::SIGKILL);
    }
}
