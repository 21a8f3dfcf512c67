//! Starting processes and waiting for them, the adopted ones too.
//!
//! Both the agent, as PID 1 of its sandbox, and the server's local backend, whose sandboxes are
//! orphans of a `runsc` that has ended, have children that they did not start. So nothing here
//! waits for one child by itself: whoever ends is reaped, and told to the one who asked.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read},
    os::unix::process::CommandExt,
    process::Command,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rustix::process::Pid;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};

/// How a process ended, and the CPU time of it and the children it waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exit {
    pub(crate) end: End,
    pub(crate) cpu_time: Duration,
}

/// As wait(2) tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Code(i32),
    Signal(i32),
}

/// A started process. Dropping it neither kills nor forgets it: the reaper reaps it all the same.
pub(crate) struct Process {
    pub(crate) pid: Pid,
    pub(crate) exit: oneshot::Receiver<Exit>,
}

/// The one who waits for children.
#[derive(Clone)]
pub(crate) struct Reaper {
    waiting: Arc<Mutex<HashMap<Pid, oneshot::Sender<Exit>>>>,
}

impl Reaper {
    /// Reaps from now on, in a task of the current runtime.
    pub(crate) fn start() -> io::Result<Self> {
        let reaper = Self {
            waiting: Arc::default(),
        };
        let mut children = signal(SignalKind::child())?;
        let task = reaper.clone();
        // Ends with the runtime, that is with the agent.
        tokio::spawn(async move {
            while children.recv().await.is_some() {
                task.reap();
            }
        });
        Ok(reaper)
    }

    /// Starts a process as the leader of a group of its own, which signals are sent to.
    pub(crate) fn spawn(&self, mut command: Command) -> io::Result<Process> {
        command.process_group(0);
        self.spawn_as_it_is(command)
    }

    /// Starts a process that sees to its group, or session, by itself.
    pub(crate) fn spawn_as_it_is(&self, mut command: Command) -> io::Result<Process> {
        // Held until the process is known, so that it cannot be reaped before.
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let child = command.spawn()?;
        let pid = Pid::from_child(&child);
        let (sender, exit) = oneshot::channel();
        waiting.insert(pid, sender);
        Ok(Process { pid, exit })
    }

    /// Asks for the end of a child that was not started here, but is one: the orphan of a child,
    /// where this process is their subreaper. `None`: it has ended, and was reaped.
    #[cfg(feature = "server")]
    pub(crate) fn adopt(&self, pid: Pid) -> Option<Process> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        // While the lock is held nobody is reaped, so a child's pid is still its own.
        if parent(pid)? != std::process::id() {
            return None;
        }
        let (sender, exit) = oneshot::channel();
        waiting.insert(pid, sender);
        Some(Process { pid, exit })
    }

    /// Kills a started process and its group, unless the process has ended.
    #[cfg(feature = "server")]
    pub(crate) fn kill_group(&self, process: &Process) {
        let _waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        // While the lock is held nobody is reaped, so a child's pid is still its own.
        if process.exit.is_empty() {
            kill(-process.pid.as_raw_nonzero().get(), libc::SIGKILL);
        }
    }

    fn reap(&self) {
        // Held throughout, so that `adopt` and `kill_group` see each child either alive or gone.
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some((pid, exit)) = wait_any() {
            if let Some(sender) = waiting.remove(&pid) {
                // Nobody may be interested any more.
                let _ = sender.send(exit);
            }
        }
    }
}

/// A process's parent, if the process is there; 0 is one outside of this PID namespace.
pub(crate) fn parent(pid: Pid) -> Option<u32> {
    fields_after_name(&stat(pid)).nth(1)?.parse().ok()
}

/// /proc/[pid]/stat (proc(5)), its first 1 KiB, which are a name of up to 64 bytes and 50 numbers; empty if the process
/// is gone. The name is the process's own choice, and need not be text.
pub(crate) fn stat(pid: Pid) -> String {
    let mut line = [0; 1024];
    // By one read: reading to the end takes five.
    let read = File::open(format!("/proc/{}/stat", pid.as_raw_nonzero()))
        .and_then(|mut file| file.read(&mut line))
        .unwrap_or(0);
    String::from_utf8_lossy(&line[..read]).into_owned()
}

/// The fields from the third on. The second, a name in parentheses, may hold blanks.
pub(crate) fn fields_after_name(stat: &str) -> impl Iterator<Item = &str> {
    stat.rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
}

/// Any child that has ended.
fn wait_any() -> Option<(Pid, Exit)> {
    let mut status = 0;
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: both pointers are to locals that live through the call. rustix has no wait4, which
    // alone tells one child's resource usage.
    let pid = unsafe { libc::wait4(-1, &raw mut status, libc::WNOHANG, usage.as_mut_ptr()) };
    // 0: none has ended; negative: there is none.
    let pid = Pid::from_raw(pid.max(0))?;
    // SAFETY: all zeroes is a valid rusage, and wait4 fills it in when it returns a pid.
    let usage = unsafe { usage.assume_init() };
    let end = if libc::WIFSIGNALED(status) {
        End::Signal(libc::WTERMSIG(status))
    } else {
        End::Code(libc::WEXITSTATUS(status))
    };
    let cpu_time = duration(usage.ru_utime) + duration(usage.ru_stime);
    Some((pid, Exit { end, cpu_time }))
}

fn duration(time: libc::timeval) -> Duration {
    let micros = time.tv_sec * 1_000_000 + time.tv_usec;
    Duration::from_micros(micros.try_into().unwrap_or(0))
}

/// Sends a signal, 1 to 64, to a process, to a group (negative) or to all (-1).
pub(crate) fn kill(pid: i32, signal: i32) {
    // SAFETY: takes numbers only. rustix knows neither -1 nor real-time signals.
    // An error means that nobody is left to be told.
    let _ = unsafe { libc::kill(pid, signal) };
}
