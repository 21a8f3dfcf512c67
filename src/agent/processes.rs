//! Processes of the sandbox: counted, limited and killed.

use std::{collections::HashSet, io, time::Duration};

use rustix::process::{Pid, Resource, Rlimit};

use crate::reaper::{fields_after_name, kill, parent, stat};

/// CPU time that a process has used so far, and the memory that it has, in bytes; zero if it is gone.
pub(super) fn used(pid: Pid) -> (Duration, u64) {
    let stat = stat(pid);
    (ticks(&stat), memory_bytes(&stat))
}

/// Resident memory by /proc/[pid]/stat (proc(5), field 24), which is in pages.
pub(super) fn memory_bytes(stat: &str) -> u64 {
    let pages = fields_after_name(stat).nth(21);
    let pages: u64 = pages.and_then(|it| it.parse().ok()).unwrap_or(0);
    pages * rustix::param::page_size() as u64
}

/// Sums utime and stime of /proc/[pid]/stat (proc(5), fields 14 and 15), which are in 1/100 s.
fn ticks(stat: &str) -> Duration {
    let total: u64 = fields_after_name(stat)
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

/// Tells all of a session, whose leader is `pid`, that their terminal has another size. Linux tells the
/// foreground group by itself; gVisor tells nobody, and not the master's holder which group that is.
pub(super) fn tell_of_size(pid: Pid) {
    let leader = pid.as_raw_nonzero().to_string();
    for pid in processes() {
        // proc(5), "stat": the sixth field.
        if fields_after_name(&stat(pid)).nth(3) == Some(&leader) {
            kill(pid.as_raw_nonzero().get(), libc::SIGWINCH);
        }
    }
}

/// Kills every process of the sandbox but the agent, and but those that brought it its connections: a
/// single-use sandbox has nothing to keep.
pub(super) fn kill_all() {
    if std::process::id() != 1 {
        return;
    }
    // From PID 1 this reaches everyone else in the PID namespace (kill(2)). From here on nobody starts
    // others, so they can be told apart.
    kill(-1, libc::SIGSTOP);
    let stopped: HashSet<Pid> = processes().collect();
    for pid in &stopped {
        let signal = if comes_from_outside(*pid) {
            libc::SIGCONT
        } else {
            libc::SIGKILL
        };
        kill(pid.as_raw_nonzero().get(), signal);
    }
    // One that was just being started may have gone on, and woken others: then the connections go, too.
    if processes().any(|pid| !stopped.contains(&pid) && !comes_from_outside(pid)) {
        kill(-1, libc::SIGKILL);
    }
}

/// All processes but this one.
pub(super) fn processes() -> impl Iterator<Item = Pid> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?))
        .filter(|pid| *pid != rustix::process::getpid())
}

/// Whether a process was started by exec from outside the sandbox: such a one has no parent in here, and
/// nobody in here can become one.
pub(super) fn comes_from_outside(pid: Pid) -> bool {
    parent(pid) == Some(0)
}

/// Processes and threads in the sandbox now, this one's included.
pub(super) fn count_threads() -> u64 {
    let threads = |pid: Pid| {
        let tasks = format!("/proc/{}/task", pid.as_raw_nonzero());
        std::fs::read_dir(tasks).map_or(1, Iterator::count) as u64
    };
    threads(rustix::process::getpid()) + processes().map(threads).sum::<u64>()
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

/// What this process may open: its programs' pipes are open here, too.
const OWN_FILES: u64 = 65536;

/// Lets this process open more files than programs may, and tells how many those may: see [`limit_files`].
pub(super) fn raise_own_files() -> Option<u64> {
    let Rlimit { current, maximum } = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: Some(maximum.map_or(OWN_FILES, |most| most.min(OWN_FILES))),
        maximum,
    };
    rustix::process::setrlimit(Resource::Nofile, raised).ok()?;
    current
}

/// Gives a process that was just started the usual bound of open files, so many; it may raise it.
pub(super) fn limit_files(pid: Pid, files: u64) {
    let maximum = rustix::process::getrlimit(Resource::Nofile).maximum;
    let usual = Rlimit {
        current: Some(files),
        maximum,
    };
    // Fails only when the process has gone already.
    let _ = rustix::process::prlimit(Some(pid), Resource::Nofile, usual);
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
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 0 0 0 0 0 12 34 56 78 20 0 1 0 99 4096 3 0";
        assert_eq!(ticks(stat), Duration::from_millis(460));
        assert_eq!(fields_after_name(stat).nth(1), Some("1"));
        let page = rustix::param::page_size() as u64;
        assert_eq!(memory_bytes(stat), 3 * page);
    }
}
