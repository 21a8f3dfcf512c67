//! Servers and sandboxes as the machine sees them: cgroups, processes, mounts, directories.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
    ptr,
};

/// Sends a signal to a process of this machine.
pub fn kill(pid: i32, signal: i32) {
    assert!(pid > 1);
    // SAFETY: takes numbers only.
    let _ = unsafe { libc::kill(pid, signal) };
}

/// A process that somebody else started, and that does not die before it is let go: the thread that
/// seized it is its tracer (ptrace(2)).
pub struct HeldAtItsEnd(i32);

impl HeldAtItsEnd {
    /// From now on it stops where it would die.
    pub fn seize(pid: i32) -> Self {
        ptrace(libc::PTRACE_SEIZE, pid, libc::PTRACE_O_TRACEEXIT);
        Self(pid)
    }

    /// Waits until it would die.
    pub fn wait(&self) {
        let mut status = 0;
        // SAFETY: the pointer is to a local that lives through the call.
        let pid = unsafe { libc::waitpid(self.0, &raw mut status, libc::__WALL) };
        assert_eq!(pid, self.0);
        assert_eq!(status >> 16, libc::PTRACE_EVENT_EXIT);
    }

    /// It dies.
    pub fn let_go(self) {
        ptrace(libc::PTRACE_DETACH, self.0, 0);
    }
}

fn ptrace(request: libc::c_uint, pid: i32, data: i32) {
    let none = ptr::null_mut::<libc::c_void>();
    // SAFETY: both requests take numbers only.
    let done = unsafe { libc::ptrace(request, pid, none, data as libc::c_long) };
    assert_eq!(done, 0, "{}", io::Error::last_os_error());
}

/// The cgroup below /sandpool in every hierarchy that has it.
fn cgroups(below: &str) -> Vec<PathBuf> {
    let mount = Path::new("/sys/fs/cgroup");
    let v1 = fs::read_dir(mount)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path());
    [mount.to_owned()]
        .into_iter()
        .chain(v1)
        .map(|hierarchy| hierarchy.join("sandpool").join(below))
        .filter(|dir| dir.is_dir())
        .collect()
}

fn processes_in(dir: &Path) -> Vec<i32> {
    let mut pids: Vec<i32> = fs::read_to_string(dir.join("cgroup.procs"))
        .unwrap_or_default()
        .lines()
        .filter_map(|line| line.parse().ok())
        .collect();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            pids.extend(processes_in(&entry.path()));
        }
    }
    pids
}

fn command_line(pid: i32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ")
}

/// All that there is of a server: its cgroups, their processes, its directory and those in it, mounts in
/// it, and processes that name it.
pub fn traces(server: &str, dir: &Path) -> Vec<String> {
    let mut traces = Vec::new();
    for cgroup in cgroups(server) {
        traces.push(format!("cgroup {}", cgroup.display()));
        for pid in processes_in(&cgroup) {
            traces.push(format!("process {pid}: {}", command_line(pid)));
        }
    }
    if let Ok(entries) = fs::read_dir(dir) {
        traces.push(format!("directory {}", dir.display()));
        let paths = entries.flatten().map(|entry| entry.path());
        let directories = paths.filter(|path| path.is_dir());
        traces.extend(directories.map(|path| format!("directory {}", path.display())));
    }
    let name = dir.to_str().unwrap();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    traces.extend(
        mounts
            .lines()
            .filter(|line| line.contains(name))
            .map(|line| format!("mount {line}")),
    );
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        if let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        {
            let line = command_line(pid);
            if line.contains(name) {
                traces.push(format!("process {pid}: {line}"));
            }
        }
    }
    traces
}

/// Signals gVisor's kernel for a sandbox: the process that is the sandbox.
pub fn signal(server: &str, sandbox: &str, signal: i32) {
    let found = cgroups(&format!("{server}/{sandbox}"))
        .iter()
        .flat_map(|dir| processes_in(dir))
        .find(|pid| command_line(*pid).starts_with("runsc-sandbox"));
    kill(found.expect("the sandbox has a gVisor process"), signal);
}

/// A command in a sandbox, which is still to be named. `dir`: where the sandbox keeps what it has.
pub fn exec(dir: &Path, sandbox: &str) -> Command {
    let mut command = Command::new("runsc");
    command.arg("--root").arg(dir.join("state"));
    command.args(["exec", "--cwd", "/", "--user", "65532:65532", sandbox]);
    command
}

/// The ids of a server's sandboxes.
pub fn sandboxes(server: &str) -> Vec<String> {
    let end = format!("-{server}-");
    let mut ids: Vec<String> = cgroups(server)
        .iter()
        .flat_map(|dir| fs::read_dir(dir).unwrap().flatten())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.contains(&end))
        .collect();
    ids.sort();
    ids.dedup();
    ids
}
