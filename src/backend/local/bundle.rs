//! A sandbox in the words of the OCI runtime specification (config.json, version 1.0.2).

use std::{fs, io, path::Path};

use serde_json::{Value, json};

use super::{rootfs::Rootfs, template::Template};

/// Where the agent is inside the sandbox.
pub(super) const AGENT: &str = "/sandpool/agent";
/// The agent's own directory: its socket, boot scripts, and the programs' sources.
const RUN_DIR_BYTES: u64 = 32 << 20;
/// POSIX shared memory and semaphores, which multiprocessing needs. Counted as memory.
const SHM_BYTES: u64 = 64 << 20;
/// One scheduling period of the CPU limit, in microseconds.
const CPU_PERIOD: u64 = 100_000;
/// Host processes and threads of one sandbox: gVisor's own, and one for each thread inside.
const HOST_PIDS: u64 = 4096;

/// Makes a sandbox's directory.
pub(super) fn write(
    dir: &Path,
    template: &Template,
    rootfs: &Rootfs,
    agent: &Path,
    cgroup: &str,
) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let config = config(template, rootfs, agent, cgroup);
    fs::write(dir.join("config.json"), serde_json::to_vec(&config)?)
}

fn config(template: &Template, rootfs: &Rootfs, agent: &Path, cgroup: &str) -> Value {
    let tmpfs = |destination: &str, bytes: u64, mode: &str| {
        json!({
            "destination": destination, "type": "tmpfs", "source": "tmpfs",
            "options": [
                "nosuid", "nodev", format!("size={bytes}"), format!("mode={mode}"),
                format!("uid={}", template.user), format!("gid={}", template.group),
            ],
        })
    };
    let bind = |destination: &str, source: &Path| {
        json!({
            "destination": destination, "type": "bind", "source": source,
            "options": ["ro", "bind", "nosuid", "nodev"],
        })
    };
    let volumes = &template.volumes;
    let mut mounts = vec![
        json!({"destination": "/proc", "type": "proc", "source": "proc"}),
        tmpfs("/tmp", volumes.tmp, "1777"),
        tmpfs("/workspace", volumes.workspace, "0755"),
        tmpfs("/home/sandbox", volumes.home, "0755"),
        tmpfs("/run/sandpool", RUN_DIR_BYTES, "0755"),
        tmpfs("/dev/shm", SHM_BYTES, "1777"),
        bind(AGENT, agent),
    ];
    mounts.extend(
        rootfs
            .binds
            .iter()
            .map(|(destination, source)| bind(destination, source)),
    );
    // A share of a period; the sandbox's CPU limit is a small positive number.
    let quota = (template.cpus * CPU_PERIOD as f64) as i64;
    json!({
        "ociVersion": "1.0.2",
        "hostname": "sandbox",
        "root": {"path": rootfs.root, "readonly": true},
        "process": {
            "args": [AGENT],
            "cwd": "/workspace",
            "env": [
                "PATH=/usr/local/bin:/usr/bin:/bin",
                "HOME=/home/sandbox",
                "LANG=C.UTF-8",
            ],
            "user": {"uid": template.user, "gid": template.group},
            "noNewPrivileges": true,
            "capabilities": {},
            "rlimits": [
                {"type": "RLIMIT_NOFILE", "soft": 1024, "hard": 65536},
                {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
            ],
        },
        "mounts": mounts,
        "linux": {
            "cgroupsPath": cgroup,
            "resources": {
                "memory": {"limit": template.memory_bytes},
                "cpu": {"quota": quota, "period": CPU_PERIOD},
                "pids": {"limit": HOST_PIDS},
            },
            "namespaces": [
                {"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"},
                {"type": "mount"},
            ],
        },
    })
}
