//! Who goes first inside a sandbox: gVisor's kernel, before the programs that it serves.

use rustix::process::{Pid, setpriority_process};

/// nice(2) of the sentry's threads. The programs' own are at 1, since gVisor puts them there. It
/// counts within the sandbox's cgroup only, so no sandbox gains by it against another.
const SENTRY_NICE: i32 = -19;

/// Lets the sentry's threads preempt the programs' threads: a program that computes otherwise
/// keeps the sentry, and with it the agent, off the processor for a whole slice of some
/// milliseconds, and its output waits as long. Threads inherit it from those that start them.
pub(super) fn sentry_first(sentry: Pid) {
    let tasks = format!("/proc/{}/task", sentry.as_raw_nonzero());
    // Where it is not permitted, or the sandbox has died, everything works as well, if later.
    for task in std::fs::read_dir(tasks).into_iter().flatten().flatten() {
        let thread = task.file_name().to_str().and_then(|tid| tid.parse().ok());
        if let Some(thread) = thread.and_then(Pid::from_raw)
            && let Err(error) = setpriority_process(Some(thread), SENTRY_NICE)
        {
            tracing::debug!(%error, "cannot raise the sentry's priority");
            return;
        }
    }
}
