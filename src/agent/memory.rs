//! The watch on the sandbox's memory and files.
//!
//! gVisor has no OOM killer inside: over its host limit the whole sandbox dies, and nobody could
//! say why the program ended. So the agent ends it a little earlier.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::time::{Instant, sleep};

use super::VOLUMES;

/// A look costs some tenths of a millisecond, so there are few while a bound is far away. Whoever
/// passes it, at the fastest that memory is filled, is found out within the shortest pause, and so
/// within the pool's headroom of at least 64 MiB.
const SHORTEST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);
/// Before the first look, at most. gVisor counts all pages for one, a millisecond or more, in which
/// nothing else of the sandbox goes on: not while a program starts, on however busy a machine.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const FASTEST_BYTES_PER_SECOND: u64 = 8 << 30;

/// Which bound was passed, and what it is.
#[derive(Clone, Copy)]
pub(super) enum Overrun {
    Memory(u64),
    Disk(u64),
}

/// Samples the sandbox's memory.
pub(super) struct MemoryWatch {
    meminfo: File,
    /// The volumes whose files gVisor's meminfo counts: its own file systems in memory. Where the
    /// host has mounted them, as Kubernetes may, the host alone counts them.
    counted: Vec<&'static str>,
    /// What was in use before the program: agent, interpreters, preloaded modules.
    before: u64,
}

impl MemoryWatch {
    /// Counts from what is in use now.
    pub(super) fn new() -> io::Result<Self> {
        let mut watch = Self {
            meminfo: File::open("/proc/meminfo")?,
            counted: VOLUMES
                .into_iter()
                .filter(|path| is_in_memory(path))
                .collect(),
            before: 0,
        };
        watch.before = watch.in_use()?.0;
        Ok(watch)
    }

    /// Returns once a bound is passed. `peak`: the most memory that was seen, in bytes.
    pub(super) async fn overrun(
        &self,
        memory_bytes: u64,
        disk_bytes: u64,
        peak: &AtomicU64,
    ) -> Overrun {
        let begun = Instant::now();
        let mut pause = pause_before(memory_bytes.min(disk_bytes), FIRST_PAUSE);
        loop {
            sleep(pause).await;
            pause = SHORTEST_PAUSE;
            let Ok((memory, disk)) = self.in_use() else {
                continue;
            };
            let memory = memory.saturating_sub(self.before);
            peak.fetch_max(memory, Ordering::Relaxed);
            if memory > memory_bytes {
                return Overrun::Memory(memory_bytes);
            }
            if disk > disk_bytes {
                return Overrun::Disk(disk_bytes);
            }
            let room = (memory_bytes - memory).min(disk_bytes - disk);
            // The short ones have a peak, too.
            pause = pause_before(room, begun.elapsed());
        }
    }

    /// Bytes of memory that are in use now and were not before, without the volumes' files.
    pub(super) fn more_than_before(&self) -> io::Result<u64> {
        Ok(self.in_use()?.0.saturating_sub(self.before))
    }

    /// Bytes of memory without the volumes' files, and of those files.
    fn in_use(&self) -> io::Result<(u64, u64)> {
        let mut text = [0; 4096];
        let length = self.meminfo.read_at(&mut text, 0)?;
        // In gVisor's meminfo this counts anonymous memory and all files in memory.
        let all = field(&text[..length], b"AnonPages:").ok_or(io::ErrorKind::InvalidData)?;
        let counted = used(&self.counted);
        let disk = if self.counted.len() == VOLUMES.len() {
            counted
        } else {
            used(&VOLUMES)
        };
        Ok((all.saturating_sub(counted), disk))
    }
}

/// How long not to look while there is so much room, in bytes, and at most.
pub(super) fn pause_before(room: u64, most: Duration) -> Duration {
    let filled_in = Duration::from_millis(room.saturating_mul(1000) / FASTEST_BYTES_PER_SECOND);
    filled_in.min(most).clamp(SHORTEST_PAUSE, LONGEST_PAUSE)
}

/// Bytes that the files on these file systems take.
fn used(paths: &[&str]) -> u64 {
    paths
        .iter()
        .filter_map(|path| rustix::fs::statvfs(*path).ok())
        .map(|fs| fs.f_blocks.saturating_sub(fs.f_bfree) * fs.f_frsize)
        .sum()
}

/// Whether gVisor itself holds that file system's files.
fn is_in_memory(path: &str) -> bool {
    // Linux's include/uapi/linux/magic.h; what the host serves is 9p's.
    const TMPFS_MAGIC: i64 = 0x0102_1994;
    rustix::fs::statfs(path).is_ok_and(|fs| fs.f_type == TMPFS_MAGIC)
}

/// A field of /proc/meminfo, which is in KiB, in bytes.
fn field(meminfo: &[u8], name: &[u8]) -> Option<u64> {
    let line = meminfo
        .split(|byte| *byte == b'\n')
        .find_map(|line| line.strip_prefix(name))?;
    let number = line.trim_ascii_start().split(|byte| *byte == b' ').next()?;
    Some(std::str::from_utf8(number).ok()?.parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_and_is_in_bytes() {
        let meminfo = b"MemTotal:  524288 kB\nAnonPages:       812 kB\n";
        assert_eq!(field(meminfo, b"AnonPages:"), Some(812 * 1024));
        assert_eq!(field(meminfo, b"Shmem:"), None);
    }

    #[test]
    fn a_bound_that_is_near_is_watched_closely() {
        const LONG: Duration = Duration::from_secs(1);
        let pauses = [0, 32, 128, 4096].map(|mib| pause_before(mib << 20, LONG).as_millis());
        assert_eq!(pauses, [5, 5, 15, 50]);
        assert_eq!(pause_before(u64::MAX, LONG), LONGEST_PAUSE);
        let early = [1, 20].map(|ms| pause_before(4 << 30, Duration::from_millis(ms)).as_millis());
        assert_eq!(early, [5, 20]);
    }
}
