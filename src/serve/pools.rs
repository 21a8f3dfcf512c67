//! From a pool's configuration to a pool that fills.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use super::ServeError;
use crate::{
    api::{PoolInfo, translate::PoolRules},
    backend::local::{Cgroups, LocalBackend, Machine, StateDir, Template, Volumes},
    config::{self, LocalConfig, PoolConfig},
    dispatch::{SandboxPool, SandboxProvision},
    execution::{LimitBounds, Limits},
    pool::{Pool, PoolSettings},
    proto::agent::Language,
    sandbox::Preparation,
};

/// How long a sandbox may take from its start until its interpreters wait.
const WARM_UP_TIMEOUT: Duration = Duration::from_secs(60);

/// Takes this machine into use, after removing what dead servers left on it.
pub(crate) fn machine(config: &LocalConfig, server: &str) -> Result<Machine, ServeError> {
    let failed = |step| move |source| ServeError::Machine { step, source };
    let cgroups = Cgroups::find().map_err(failed("find the machine's cgroups"))?;
    let runsc = find_program(&config.runsc).map_err(failed("find runsc"))?;
    let agent = agent_path(config).map_err(failed("find sandpool-agent"))?;
    if !rustix::process::geteuid().is_root() {
        let source = io::Error::new(io::ErrorKind::PermissionDenied, "not root");
        return Err(failed("start sandboxes")(source));
    }
    let state = StateDir::open(&config.state_dir, server, &cgroups)?;
    Machine::new(
        state,
        cgroups,
        runsc,
        config.platform.as_str().to_owned(),
        agent,
    )
    .map_err(failed("become the parent of the sandboxes"))
}

/// A path as it is; a name as PATH has it.
pub(crate) fn find_program(program: &Path) -> io::Result<PathBuf> {
    let not_found = || {
        io::Error::new(
            io::ErrorKind::NotFound,
            format!("{} is not there", program.display()),
        )
    };
    if program.components().count() > 1 {
        return program.canonicalize();
    }
    std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
        .map(|dir| dir.join(program))
        .find(|path| path.is_file())
        .ok_or_else(not_found)
}

/// The agent that the configuration names, or the one beside this program.
pub(crate) fn agent_path(config: &LocalConfig) -> io::Result<PathBuf> {
    let path = match &config.agent {
        Some(path) => path.clone(),
        None => std::env::current_exe()?.with_file_name("sandpool-agent"),
    };
    path.canonicalize().map_err(|error| {
        io::Error::new(
            error.kind(),
            format!("{}: {error} (`make build` builds it)", path.display()),
        )
    })
}

/// Starts one pool.
pub(super) fn start(
    name: &str,
    config: &PoolConfig,
    machine: &Machine,
    server: &str,
) -> Result<(Arc<SandboxPool>, PoolInfo), ServeError> {
    let (provision, info) = provision(name, config, machine)?;
    let settings = PoolSettings {
        name: name.to_owned(),
        min_idle: config.min_idle,
        max_sandboxes: config.max_sandboxes,
        max_queued: config.max_queued,
        max_queued_per_caller: Some(config.max_queued_per_caller),
        max_starting: config.max_starting,
        start_delay: config.start_delay,
        max_idle_age: config.max_idle_age,
    };
    Ok((Pool::spawn(settings, Arc::new(provision), server), info))
}

/// What makes a pool's sandboxes, and what the API tells of them.
pub(crate) fn provision(
    name: &str,
    config: &PoolConfig,
    machine: &Machine,
) -> Result<(SandboxProvision, PoolInfo), ServeError> {
    let languages = languages(name, config)?;
    let template = Template {
        rootfs: config.rootfs.clone(),
        user: config.user,
        group: config.group,
        cpus: config.cpus,
        memory_bytes: config.host_memory().bytes(),
        volumes: Volumes {
            workspace: config.volumes.workspace.bytes(),
            tmp: config.volumes.tmp.bytes(),
            home: config.volumes.home.bytes(),
        },
    };
    let backend =
        LocalBackend::new(machine.clone(), template).map_err(|source| ServeError::Machine {
            step: "make the sandboxes' root file system",
            source,
        })?;
    let info = PoolInfo {
        rules: PoolRules {
            languages: languages.iter().map(|l| l.name.clone()).collect(),
            bounds: LimitBounds {
                default: limits(&config.limits.default),
                max: limits(&config.limits.max),
            },
        },
        preloads: languages
            .iter()
            .map(|language| (language.name.clone(), language.preload.clone()))
            .collect(),
        backend: "local",
    };
    let provision = SandboxProvision {
        backend: Arc::new(backend),
        preparation: Preparation {
            languages,
            env: config.env.variables().clone().into_iter().collect(),
            timeout: WARM_UP_TIMEOUT,
        },
    };
    Ok((provision, info))
}

/// The languages whose interpreters are there.
fn languages(pool: &str, config: &PoolConfig) -> Result<Vec<Language>, ServeError> {
    let root = config.rootfs.as_deref().unwrap_or(Path::new("/"));
    let mut found = Vec::new();
    for (language, settings) in config.languages() {
        let name = language.as_str();
        let candidates = settings.candidates(language);
        // Inside the root file system a link may be absolute, so only the link itself is looked at.
        let interpreter = candidates.iter().find(|path| {
            root.join(path.strip_prefix("/").unwrap_or(path))
                .symlink_metadata()
                .is_ok()
        });
        match interpreter {
            Some(interpreter) => found.push(Language {
                name: name.to_owned(),
                preload: settings.preload.clone(),
                spares: settings.spares,
                interpreter: interpreter.to_string_lossy().into_owned(),
            }),
            None if settings.optional => {
                tracing::info!(pool, language = name, "left out: there is no interpreter");
            }
            None => {
                let looked: Vec<_> = candidates
                    .iter()
                    .map(|path| path.display().to_string())
                    .collect();
                return Err(ServeError::Language {
                    pool: pool.to_owned(),
                    language: name,
                    reason: format!(
                        "no interpreter at {} in the sandbox's root file system; install it, name \
                         another one in `interpreter`, or set `optional = true`",
                        looked.join(", ")
                    ),
                });
            }
        }
    }
    Ok(found)
}

fn limits(limits: &config::Limits) -> Limits {
    Limits {
        timeout: limits.timeout,
        queue_timeout: limits.queue_timeout,
        memory_bytes: limits.memory.bytes(),
        disk_bytes: limits.disk.bytes(),
        output_bytes: limits.output.bytes(),
        output_file_bytes: limits.output_files.bytes(),
        processes: limits.processes,
    }
}
