//! Processes of the sandbox: counted, limited and killed.

use std::{io, time::Duration};

use rustix::process::{Pid, Resource, Rlimit};

use crate::reaper::kill;

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
