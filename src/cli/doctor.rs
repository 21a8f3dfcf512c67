//! `sandpool doctor`: what this machine lacks, and what to do about it.

use std::{
    process::{Command, ExitCode},
    time::Instant,
};

use clap::Args;

use super::sources::SourceArgs;
use crate::{
    backend::{SandboxId, local::Cgroups},
    config::{BackendKind, Config, LocalConfig},
    metrics::Metrics,
    pool::Provision,
    serve::{
        local::{agent_path, find_program},
        pools::{Place, provision},
    },
};

/// The oldest kernel that gVisor's systrap runs on (gVisor's installation guide).
const OLDEST_KERNEL: (u32, u32) = (4, 15);

#[derive(Args)]
pub(super) struct DoctorArgs {
    #[command(flatten)]
    sources: SourceArgs,
}

/// What a check found out.
enum Finding {
    Good(String),
    /// What is wrong, and what to do.
    Bad(String, String),
}

use Finding::{Bad, Good};

pub(super) async fn main(args: DoctorArgs) -> ExitCode {
    let config = match args.sources.into_sources().load() {
        Ok(loaded) => {
            report("configuration", &Good("valid".into()));
            loaded.config
        }
        Err(error) => {
            let remedy =
                "`sandpool config` prints what is in force; docs/configuration.md lists every key";
            report("configuration", &Bad(error.to_string(), remedy.into()));
            return ExitCode::FAILURE;
        }
    };
    let local = &config.backend.local;
    let mut checks = match config.backend.kind {
        BackendKind::Local => vec![
            ("kernel", kernel()),
            ("privileges", privileges()),
            ("runsc", runsc(local)),
            ("agent", agent(local)),
            ("cgroups", cgroups()),
        ],
        BackendKind::Kubernetes => Vec::new(),
    };
    checks.push(("address", address(&config).await));
    let mut healthy = true;
    for (name, finding) in &checks {
        healthy &= report(name, finding);
    }
    if !healthy {
        println!("skip  sandboxes: only tried when all of the above is well");
        return ExitCode::FAILURE;
    }
    if sandboxes(&config).await {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Prints a finding; whether it is good.
fn report(name: &str, finding: &Finding) -> bool {
    match finding {
        Good(what) => println!("ok    {name}: {what}"),
        Bad(what, remedy) => println!("FAIL  {name}: {what}\n      {remedy}"),
    }
    matches!(finding, Good(_))
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

/// Not a fault when a server runs already: doctor may be asked beside it.
async fn address(config: &Config) -> Finding {
    match tokio::net::TcpListener::bind(config.listen).await {
        Ok(_) => Good(format!("{} is free", config.listen)),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => Good(format!(
            "{} is in use: a server runs there already, or set `listen`",
            config.listen
        )),
        Err(error) => Bad(
            format!("{}: {error}", config.listen),
            "set `listen` to an address of this machine's loopback interface".into(),
        ),
    }
}

/// Starts and deletes one sandbox of each pool.
async fn sandboxes(config: &Config) -> bool {
    let name = format!("doctor{:08x}", rand::random::<u32>());
    let place = match Place::open(&config.backend, &name).await {
        Ok(place) => place,
        Err(error) => {
            let remedy = match config.backend.kind {
                BackendKind::Local => format!(
                    "see that root may write to {}",
                    config.backend.local.state_dir.display()
                ),
                BackendKind::Kubernetes => "set KUBECONFIG or backend.kubernetes.kubeconfig".into(),
            };
            return report("backend", &Bad(error.to_string(), remedy));
        }
    };
    let mut healthy = true;
    for pool in config.pools.keys() {
        let finding = sandbox(config, pool, &place, &name).await;
        healthy &= report(&format!("pool {pool}"), &finding);
    }
    healthy
}

async fn sandbox(config: &Config, pool: &str, place: &Place, server: &str) -> Finding {
    let begun = Instant::now();
    let metrics = Metrics::default().pool(pool);
    let (provision, info) = match provision(pool, &config.pools[pool], place, metrics.into()) {
        Ok(made) => made,
        Err(error) => {
            let remedy = format!("correct [pools.{pool}]");
            return Bad(error.to_string(), remedy);
        }
    };
    let id = SandboxId::new(pool, server, 0);
    let started = provision.start(&id).await.map(|_| begun.elapsed());
    let deleted = provision.delete(&id).await;
    match (started, deleted) {
        (Ok(time), Ok(())) => {
            let languages: Vec<_> = info.preloads.into_iter().map(|(name, _)| name).collect();
            Good(format!(
                "a gVisor sandbox was warm after {time:.0?}: {}",
                languages.join(", ")
            ))
        }
        (Err(reason), _) => Bad(reason, by_hand(config, pool)),
        (_, Err(reason)) => Bad(reason, "see what still runs of it".into()),
    }
}

/// How to see for oneself why a sandbox does not start.
fn by_hand(config: &Config, pool: &str) -> String {
    let backend = &config.backend;
    match backend.kind {
        BackendKind::Local => format!(
            "try it by hand: runsc --platform={} do true",
            backend.local.platform.as_str()
        ),
        BackendKind::Kubernetes => format!(
            "see what the cluster says: kubectl --namespace {} get events; its nodes need \
             RuntimeClass {} and the images",
            backend.kubernetes.namespace, config.pools[pool].pod.runtime_class
        ),
    }
}
