//! Where a server keeps its sandboxes' directories, and what a dead one left.
//!
//! `<state_dir>/<server>/` belongs to one running server, which holds a lock on `<server>/lock`
//! for as long as it lives. A directory whose lock is free belongs to nobody any more. Servers
//! that start at the same time take turns, by a lock on `<state_dir>/lock`.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::fs::{FlockOperation, flock};

use super::cgroup::{Cgroup, Cgroups};

/// How often, and how long in between, a dead server's processes are killed before giving up.
const KILL_ROUNDS: u32 = 200;
const KILL_PAUSE: Duration = Duration::from_millis(20);

/// Why the state directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step} {path}: {source}")]
pub struct StateDirError {
    step: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// This server's own directory. Removed when dropped, at the latest.
pub struct StateDir {
    server: String,
    path: PathBuf,
    cgroup: Cgroup,
    /// Locked while this lives.
    _lock: File,
}

impl StateDir {
    /// Removes what dead servers left, and makes a directory for this one.
    ///
    /// Blocks while a dead server's processes end; meant for a start.
    ///
    /// # Errors
    /// When the directory cannot be written, or something of a dead server cannot be removed.
    pub fn open(parent: &Path, server: &str, cgroups: &Cgroups) -> Result<Self, StateDirError> {
        let failed = |step, path: &Path| {
            let path = path.to_owned();
            move |source| StateDirError { step, path, source }
        };
        fs::create_dir_all(parent).map_err(failed("create", parent))?;
        // Until this server's own lock is held, nobody else may look for dead ones.
        let turn = parent.join("lock");
        let turn_file = File::create(&turn).map_err(failed("create", &turn))?;
        flock(&turn_file, FlockOperation::LockExclusive)
            .map_err(io::Error::from)
            .map_err(failed("lock", &turn))?;
        remove_dead(parent, cgroups)?;
        let path = parent.join(server);
        fs::create_dir(&path).map_err(failed("create", &path))?;
        let lock = path.join("lock");
        let file = File::create(&lock).map_err(failed("create", &lock))?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)
            .map_err(io::Error::from)
            .map_err(failed("lock", &lock))?;
        Ok(Self {
            server: server.to_owned(),
            path,
            cgroup: cgroups.server(server),
            _lock: file,
        })
    }

    /// The server's name, which its cgroups have, too.
    #[must_use]
    pub fn server(&self) -> &str {
        &self.server
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the server's cgroup, with all that is still in it, and then the directory. Where they are gone
    /// already, nothing is done.
    ///
    /// # Errors
    /// While a killed process is still there: again, a little later.
    pub(super) fn remove(&self) -> io::Result<()> {
        self.cgroup.kill_and_remove()?;
        match fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

impl Drop for StateDir {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the next server.
        let _ = self.remove();
    }
}

fn remove_dead(parent: &Path, cgroups: &Cgroups) -> Result<(), StateDirError> {
    let entries = fs::read_dir(parent).map_err(|source| StateDirError {
        step: "read",
        path: parent.to_owned(),
        source,
    })?;
    for entry in entries.flatten() {
        let path = entry.path();
        let Some(server) = entry.file_name().to_str().map(str::to_owned) else {
            continue;
        };
        // Without the lock file it is not one of ours.
        let Ok(lock) = File::open(path.join("lock")) else {
            continue;
        };
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            continue;
        }
        tracing::info!(%server, "removing what a server that has ended left behind");
        let failed = |step| {
            let path = path.clone();
            move |source| StateDirError { step, path, source }
        };
        let cgroup = cgroups.server(&server);
        let mut rounds = 0;
        while let Err(error) = cgroup.kill_and_remove() {
            rounds += 1;
            if rounds > KILL_ROUNDS {
                return Err(failed("remove the cgroup of")(error));
            }
            std::thread::sleep(KILL_PAUSE);
        }
        fs::remove_dir_all(&path).map_err(failed("remove"))?;
    }
    Ok(())
}
