//! From the configuration to sandboxes on this machine.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::ServeError;
use crate::{
    backend::local::{Cgroups, LocalBackend, Machine, StateDir, Template, Volumes},
    config::{LocalConfig, PoolConfig},
    proto::agent::Language,
};

/// Takes this machine into use, after removing what dead servers left on it.
pub(super) fn machine(config: &LocalConfig, server: &str) -> Result<Machine, ServeError> {
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

/// What makes a pool's sandboxes.
pub(super) fn backend(machine: &Machine, config: &PoolConfig) -> Result<LocalBackend, ServeError> {
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
    LocalBackend::new(machine.clone(), template).map_err(|source| ServeError::Machine {
        step: "make the sandboxes' root file system",
        source,
    })
}

/// The languages whose interpreters are there.
pub(super) fn languages(pool: &str, config: &PoolConfig) -> Result<Vec<Language>, ServeError> {
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
