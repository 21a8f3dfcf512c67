//! What this machine lacks.

use std::process::Command;

use super::{
    Check,
    Finding::{self, Bad, Good},
};
use crate::{
    backend::local::Cgroups,
    config::LocalConfig,
    serve::local::{agent_path, find_program},
};

/// The oldest kernel that gVisor's systrap runs on (gVisor's installation guide).
const OLDEST_KERNEL: (u32, u32) = (4, 15);

pub(super) fn checks(config: &LocalConfig) -> Vec<Check> {
    vec![
        ("kernel".into(), kernel()),
        ("privileges".into(), privileges()),
        ("runsc".into(), runsc(config)),
        ("agent".into(), agent(config)),
        ("cgroups".into(), cgroups()),
    ]
}

/// How to see for oneself why a sandbox does not start.
pub(super) fn by_hand(config: &LocalConfig) -> String {
    format!(
        "try it by hand: runsc --platform={} do true",
        config.platform.as_str()
    )
}

fn kernel() -> Finding {
    let release = rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned();
    let mut numbers = release
        .split(['.', '-'])
        .map_while(|part| part.parse().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version < OLDEST_KERNEL {
        let (major, minor) = OLDEST_KERNEL;
        return Bad(
            format!("Linux {release}"),
            format!("gVisor needs Linux {major}.{minor} or later: update the kernel"),
        );
    }
    Good(format!("Linux {release}"))
}

fn privileges() -> Finding {
    if rustix::process::geteuid().is_root() {
        return Good("root".into());
    }
    Bad(
        "not root".into(),
        "runsc makes namespaces, mounts and cgroups: run sandpool as root (docs/security.md says \
         what that means)"
            .into(),
    )
}

fn runsc(config: &LocalConfig) -> Finding {
    let remedy = "install gVisor (`make install`, or https://gvisor.dev/docs/user_guide/install/), \
                  or set backend.local.runsc";
    let path = match find_program(&config.runsc) {
        Ok(path) => path,
        Err(error) => return Bad(error.to_string(), remedy.into()),
    };
    match Command::new(&path).arg("--version").output() {
        Ok(output) if output.status.success() => {
            let text = String::from_utf8_lossy(&output.stdout);
            let version = text.lines().next().unwrap_or_default();
            Good(format!("{} ({version})", path.display()))
        }
        Ok(output) => Bad(
            format!("{} --version ends with {}", path.display(), output.status),
            remedy.into(),
        ),
        Err(error) => Bad(format!("{}: {error}", path.display()), remedy.into()),
    }
}

fn agent(config: &LocalConfig) -> Finding {
    match agent_path(config) {
        Ok(path) => Good(path.display().to_string()),
        Err(error) => Bad(
            error.to_string(),
            "build it with `make build`, or set backend.local.agent".into(),
        ),
    }
}

fn cgroups() -> Finding {
    let found = match Cgroups::find() {
        Ok(found) => found,
        Err(error) => {
            let remedy = "mount them; in a container, share the host's (--cgroupns=host, /sys/fs/cgroup writable)";
            return Bad(error.to_string(), remedy.into());
        }
    };
    match found.try_out() {
        Ok(()) if found.is_v2() => Good("version 2".into()),
        Ok(()) => Good("version 1".into()),
        Err(error) => Bad(
            format!("cannot make a cgroup: {error}"),
            "make /sys/fs/cgroup writable for root, with the memory, cpu and pids controllers"
                .into(),
        ),
    }
}
