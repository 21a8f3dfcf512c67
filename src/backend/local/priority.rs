//! Who goes first on a processor that is wanted by several.
//!
//! A thread that computes keeps the others off its processor for a slice of some milliseconds. So
//! those go first who have little to do and are waited for: the server, and in each sandbox
//! gVisor's kernel.

use std::io;

use rustix::process::{Pid, getpid, setpriority_process};

/// nice(2) of the server's threads.
const SERVER_NICE: i32 = -10;
/// nice(2) of the sentry's threads. The programs' own are at 1, since gVisor puts them there. It
/// counts within the sandbox's cgroup only, so no sandbox gains by it against another.
const SENTRY_NICE: i32 = -19;

/// Lets this process go before its sandboxes, however much they compute.
pub(super) fn server_first() {
    set(getpid(), SERVER_NICE);
}

/// Lets a sentry go before the programs that it serves. They start after it, from threads whose
/// priority gVisor has noted before this.
pub(super) fn sentry_first(sentry: Pid) {
    set(sentry, SENTRY_NICE);
}

/// Undoes [`server_first`] in a child, between fork and exec.
pub(super) fn inherit_nothing() -> io::Result<()> {
    Ok(setpriority_process(None, 0)?)
}

/// For all threads of a process; those that they start inherit it.
fn set(process: Pid, nice: i32) {
    let tasks = format!("/proc/{}/task", process.as_raw_nonzero());
    // Where it is not permitted, or the process has gone, all else works as well.
    for task in std::fs::read_dir(tasks).into_iter().flatten().flatten() {
        let thread = task.file_name().to_str().and_then(|tid| tid.parse().ok());
        if let Some(thread) = thread.and_then(Pid::from_raw)
            && let Err(error) = setpriority_process(Some(thread), nice)
        {
            tracing::debug!(%error, "cannot set a priority");
            return;
        }
    }
}
