//! What the kernel knows of a process.

use std::{fs, time::Duration};

/// Its memory in KiB, shared pages counted in parts (PSS, proc(5), smaps_rollup). 0 when it has gone.
pub fn pss(pid: u32) -> f64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    rollup
        .lines()
        .find_map(|line| line.strip_prefix("Pss:"))
        .and_then(|rest| rest.trim().strip_suffix(" kB")?.trim().parse().ok())
        .unwrap_or(0.0)
}

/// The processor time that it has had (proc(5), stat, fields 14 and 15, which are in 1/100 s).
pub fn cpu_time(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The second field, a name in parentheses, may hold anything.
    let (_, fields) = stat.rsplit_once(')').unwrap_or_default();
    let ticks = fields.split_whitespace().skip(11).take(2);
    Duration::from_millis(ticks.filter_map(|it| it.parse::<u64>().ok()).sum::<u64>() * 10)
}
