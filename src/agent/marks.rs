//! Which processes are an execution's, where several share a sandbox.
//!
//! Every program has a mark that all it starts inherit, whatever they fork, whoever their parent becomes and
//! whatever session they are in: a bound on resident memory of its own (setrlimit(2), RLIMIT_RSS), which
//! neither Linux nor gVisor enforces. It is larger than any memory, and its number is in the lowest bits.
//! A program may lower it, and so escape from its own execution's end: within its own sandbox, which
//! is one trust domain, and until that ends.

use std::{
    collections::HashMap,
    io,
    sync::atomic::{AtomicU64, Ordering},
};

use rustix::process::{Pid, Resource, Rlimit};

use super::processes::{memory_bytes, processes};
use crate::reaper::{kill, stat};

/// Beyond all memory, in bytes.
const FIRST: u64 = 1 << 50;
/// Rounds of stopping what was not there in the round before. Whoever is stopped forks no more.
const MAX_ROUNDS: usize = 100;

/// One execution's mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Mark(u64);

impl Mark {
    /// One that nobody has had.
    pub(super) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(FIRST);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// Marks a process, which must not have started others yet.
    pub(super) fn put_on(self, pid: Pid) {
        // Fails only when the process has gone already.
        let _ = rustix::process::prlimit(Some(pid), Resource::Rss, self.limit());
    }

    /// Marks the calling process.
    pub(super) fn put_on_oneself(self) -> io::Result<()> {
        Ok(rustix::process::setrlimit(Resource::Rss, self.limit())?)
    }

    fn limit(self) -> Rlimit {
        Rlimit {
            current: Some(self.0),
            maximum: Some(self.0),
        }
    }

    /// The mark of a process, if it has one.
    fn of(pid: Pid) -> Option<Self> {
        let mut limit = std::mem::MaybeUninit::<libc::rlimit>::zeroed();
        let number = pid.as_raw_nonzero().get();
        // SAFETY: the pointer is to a local that lives through the call; nothing is set. rustix has no
        // call that only asks.
        let asked = unsafe {
            libc::prlimit(
                number,
                libc::RLIMIT_RSS,
                std::ptr::null(),
                limit.as_mut_ptr(),
            )
        };
        // SAFETY: all zeroes is a valid rlimit.
        let mark = unsafe { limit.assume_init() }.rlim_max;
        (asked == 0 && mark >= FIRST && mark != libc::RLIM_INFINITY).then_some(Self(mark))
    }

    /// Kills all that have it.
    pub(super) fn kill_all(self) {
        let mut stopped = std::collections::HashSet::new();
        for _ in 0..MAX_ROUNDS {
            let before = stopped.len();
            for pid in processes().filter(|pid| Self::of(*pid) == Some(self)) {
                if stopped.insert(pid) {
                    kill(pid.as_raw_nonzero().get(), libc::SIGSTOP);
                }
            }
            if stopped.len() == before {
                break;
            }
        }
        for pid in stopped {
            kill(pid.as_raw_nonzero().get(), libc::SIGKILL);
        }
    }

    /// Whether anyone has it.
    pub(super) fn is_on_anyone(self) -> bool {
        processes().any(|pid| Self::of(pid) == Some(self))
    }
}

/// How much memory all that have a mark have, in bytes. Pages that processes share count for each.
pub(super) fn memory_by_mark() -> HashMap<Mark, u64> {
    let mut memory = HashMap::new();
    for pid in processes() {
        if let Some(mark) = Mark::of(pid) {
            *memory.entry(mark).or_default() += memory_bytes(&stat(pid));
        }
    }
    memory
}
