//! The sandboxes' cgroups: gVisor makes and joins them, this looks into them and removes them.
//!
//! In cgroup v1 a sandbox has one in each controller's hierarchy, in v2 there is one hierarchy.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::reaper::kill;

const MOUNT: &str = "/sys/fs/cgroup";
/// All of Sandpool's cgroups are below this one.
const PARENT: &str = "sandpool";

/// The hierarchies of this machine.
#[derive(Clone, Debug)]
pub struct Cgroups {
    hierarchies: Vec<PathBuf>,
}

impl Cgroups {
    /// Finds what is mounted at /sys/fs/cgroup.
    ///
    /// # Errors
    /// When there is no hierarchy, or none that can be written to.
    pub fn find() -> io::Result<Self> {
        let mount = Path::new(MOUNT);
        if mount.join("cgroup.controllers").exists() {
            return Ok(Self {
                hierarchies: vec![mount.to_owned()],
            });
        }
        let mut hierarchies: Vec<PathBuf> = fs::read_dir(mount)?
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.join("cgroup.procs").exists())
            .collect();
        hierarchies.sort();
        if hierarchies.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                "no cgroup hierarchy is mounted at /sys/fs/cgroup",
            ));
        }
        Ok(Self { hierarchies })
    }

    /// Whether there is one hierarchy for all controllers.
    #[must_use]
    pub fn is_v2(&self) -> bool {
        self.hierarchies.len() == 1 && self.hierarchies[0] == Path::new(MOUNT)
    }

    /// Makes a cgroup in each hierarchy and removes it, to see whether that is allowed.
    ///
    /// # Errors
    /// When it is not.
    pub fn try_out(&self) -> io::Result<()> {
        let cgroup = self.sandbox("try", &format!("{}", std::process::id()));
        cgroup.dirs.iter().try_for_each(fs::create_dir_all)?;
        cgroup.kill_and_remove()?;
        self.server("try").kill_and_remove()
    }

    /// The cgroup of one sandbox of a server.
    pub(super) fn sandbox(&self, server: &str, sandbox: &str) -> Cgroup {
        self.cgroup(format!("/{PARENT}/{server}/{sandbox}"))
    }

    /// The cgroup that holds all of a server's sandboxes.
    pub(super) fn server(&self, server: &str) -> Cgroup {
        self.cgroup(format!("/{PARENT}/{server}"))
    }

    fn cgroup(&self, path: String) -> Cgroup {
        let dirs = self
            .hierarchies
            .iter()
            .map(|hierarchy| hierarchy.join(&path[1..]))
            .collect();
        Cgroup { path, dirs }
    }
}

/// One cgroup, in all hierarchies. It need not exist.
pub(super) struct Cgroup {
    path: String,
    dirs: Vec<PathBuf>,
}

impl Cgroup {
    /// As the OCI configuration names it.
    pub(super) fn oci_path(&self) -> &str {
        &self.path
    }

    /// Kills everyone in it and below it, and removes it.
    ///
    /// Fails while someone is still there: again, a little later.
    pub(super) fn kill_and_remove(&self) -> io::Result<()> {
        self.dirs.iter().try_for_each(|dir| kill_and_remove(dir))
    }

    /// How often the host's memory limit has killed a process of it.
    pub(super) fn oom_kills(&self) -> u64 {
        self.dirs
            .iter()
            .flat_map(|dir| ["memory.events", "memory.oom_control"].map(|name| dir.join(name)))
            .filter_map(|file| fs::read_to_string(file).ok())
            .filter_map(|text| {
                let line = text
                    .lines()
                    .find_map(|line| line.strip_prefix("oom_kill "))?;
                line.trim().parse::<u64>().ok()
            })
            .sum()
    }
}

fn kill_and_remove(dir: &Path) -> io::Result<()> {
    let gone = |error: &io::Error| {
        error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ENODEV)
    };
    let pids = match fs::read_to_string(dir.join("cgroup.procs")) {
        Err(error) if gone(&error) => return Ok(()),
        other => other?,
    };
    for pid in pids.lines().filter_map(|line| line.parse::<i32>().ok()) {
        // 0 is a process of another PID namespace: not one of ours, and not to be killed as 0.
        if pid > 1 {
            kill(pid, libc::SIGKILL);
        }
    }
    for entry in fs::read_dir(dir)?.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            kill_and_remove(&entry.path())?;
        }
    }
    match fs::remove_dir(dir) {
        Err(error) if !gone(&error) => Err(error),
        _ => Ok(()),
    }
}
