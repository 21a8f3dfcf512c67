//! What the sandboxes of a pool have in common.

use std::path::PathBuf;

/// A pool's sandbox, before it has a name.
#[derive(Clone, Debug, PartialEq)]
pub struct Template {
    /// Root file system, read-only in the sandbox; `None`: the machine's own /usr, and little else.
    pub rootfs: Option<PathBuf>,
    /// Numeric user of everything in the sandbox; not 0.
    pub user: u32,
    /// Numeric group; not 0.
    pub group: u32,
    /// CPU time per time, for the whole sandbox.
    pub cpus: f64,
    /// Memory of programs, volumes and gVisor itself together: beyond it the host kills the sandbox.
    pub memory_bytes: u64,
    /// The writable file systems, all in memory.
    pub volumes: Volumes,
}

/// Sizes in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Volumes {
    /// /workspace, where programs start.
    pub workspace: u64,
    /// /tmp.
    pub tmp: u64,
    /// /home/sandbox.
    pub home: u64,
}

impl Volumes {
    /// All of them together.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.workspace + self.tmp + self.home
    }
}
