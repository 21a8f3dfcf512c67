//! Starting, reaping and killing processes. As PID 1 the agent reaps everyone's children.

use std::{
    collections::HashMap,
    io,
    os::unix::process::CommandExt,
    process::Command,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rustix::process::{Pid, Resource, Rlimit};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};

/// How a process ended, and the CPU time of it and the children it waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Exit {
    pub(super) end: End,
    pub(super) cpu_time: Duration,
}

/// As wait(2) tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Code(i32),
    Signal(i32),
}

/// A started process. Dropping it neither kills nor forgets it: the reaper reaps it all the same.
pub(super) struct Process {
    pub(super) pid: Pid,
    pub(super) exit: oneshot::Receiver<Exit>,
}

/// The one who waits for children.
#[derive(Clone)]
pub(super) struct Reaper {
    waiting: Arc<Mutex<HashMap<Pid, oneshot::Sender<Exit>>>>,
}

impl Reaper {
    /// Reaps from now on, in a task of the current runtime.
    pub(super) fn start() -> io::Result<Self> {
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
    pub(super) fn spawn(&self, mut command: Command) -> io::Result<Process> {
        command.process_group(0);
        // Held until the process is known, so that it cannot be reaped before.
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let child = command.spawn()?;
        let pid = Pid::from_child(&child);
        let (sender, exit) = oneshot::channel();
        waiting.insert(pid, sender);
        Ok(Process { pid, exit })
    }

    fn reap(&self) {
        while let Some((pid, exit)) = wait_any() {
            let sender = self
                .waiting
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .remove(&pid);
            if let Some(sender) = sender {
                // Nobody may be interested any more.
                let _ = sender.send(exit);
            }
        }
    }
}

/// Any child that has ended.
fn wait_any() -> Option<(Pid, Exit)> {
    let mut status = 0;
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: both pointers are to locals that live through the call. rustix has no wait4, which
    // alone tells one child's resource usage.
    let pid = unsafe { libc::wait4(-1, &raw mut status, libc::WNOHANG, usage.as_mut_ptr()) };
    let pid = Pid::from_raw(pid).filter(|pid| pid.as_raw_nonzero().get() > 0)?;
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

/// CPU time that a process has used so far; zero if it is gone.
pub(super) fn cpu_time(pid: Pid) -> Duration {
    let file =
        std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
    ticks(&file)
}

/// Sums utime and stime of /proc/[pid]/stat (proc(5), fields 14 and 15), which are in 1/100 s.
/// The second field, a name in parentheses, may hold blanks.
fn ticks(stat: &str) -> Duration {
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let total: u64 = after_name
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    Duration::from_millis(total * 10)
}

/// Sends a signal, 1 to 64, to a process and all of its group. Gone already is fine.
pub(super) fn signal_group(pid: Pid, number: i32) {
    kill(-pid.as_raw_nonzero().get(), number);
}

/// Kills every process of the sandbox but the agent: a single-use sandbox has nothing to keep.
pub(super) fn kill_all() {
    // From PID 1 this reaches everyone else in the PID namespace (kill(2)).
    if std::process::id() == 1 {
        kill(-1, libc::SIGKILL);
    }
}

fn kill(pid: i32, signal: i32) {
    // SAFETY: takes numbers only. rustix knows neither -1 nor real-time signals.
    // An error means that nobody is left to be told.
    let _ = unsafe { libc::kill(pid, signal) };
}

/// Processes and threads in the sandbox now.
pub(super) fn count_threads() -> u64 {
    let Ok(processes) = std::fs::read_dir("/proc") else {
        return 0;
    };
    processes
        .flatten()
        .filter(|entry| entry.file_name().as_encoded_bytes()[0].is_ascii_digit())
        .map(|entry| std::fs::read_dir(entry.path().join("task")).map_or(1, Iterator::count) as u64)
        .sum()
}

/// Bounds the processes and threads of the sandbox's user, for `pid` and what it starts: RLIMIT_NPROC
/// counts all of the user's.
pub(super) fn limit_processes(pid: Pid, processes: u64) {
    let limit = Rlimit {
        current: Some(processes),
        maximum: Some(processes),
    };
    // Fails only when the process has gone already.
    let _ = rustix::process::prlimit(Some(pid), Resource::Nproc, limit);
}

/// Core dumps would fill volumes with memory. Inherited by every process.
pub(super) fn no_core_dumps() -> io::Result<()> {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    Ok(rustix::process::setrlimit(Resource::Core, none)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_blanks_and_parentheses_does_not_shift_the_fields() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 0 0 0 0 0 12 34 56 78 20 0 1";
        assert_eq!(ticks(stat), Duration::from_millis(460));
    }
}
