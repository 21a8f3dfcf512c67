//! From a pool's configuration to a pool that fills.

use std::{sync::Arc, time::Duration};

use super::{ServeError, kubernetes, local};
use crate::{
    api::{
        PoolInfo,
        translate::{NamedRules, PoolRules},
    },
    backend::{Backend, kubernetes::Cluster, local::Machine},
    config::{self, BackendConfig, BackendKind, PoolConfig},
    dispatch::{CheckOwnership, NamedBounds, SandboxProvision, Served},
    execution::{LimitBounds, Limits},
    metrics::PoolMetrics,
    pool::{Pool, PoolSettings},
    proto::agent::Language,
    sandbox::Preparation,
};

/// How long a sandbox may take from its start until its interpreters wait.
const WARM_UP_TIMEOUT: Duration = Duration::from_secs(60);

/// Where a server's sandboxes are.
pub(crate) enum Place {
    /// On this machine.
    Local(Machine),
    /// In a cluster.
    Kubernetes(Arc<Cluster>),
}

impl Place {
    /// Takes it into use, in the name of `server`.
    pub(crate) async fn open(config: &BackendConfig, server: &str) -> Result<Self, ServeError> {
        Ok(match config.kind {
            BackendKind::Local => Self::Local(local::machine(&config.local, server)?),
            BackendKind::Kubernetes => Self::Kubernetes(kubernetes::cluster(config, server).await?),
        })
    }

    /// Whether the sandboxes are this server's alone still; asked at each lease.
    pub(super) fn check_ownership(&self) -> CheckOwnership {
        match self {
            // Nobody takes a living process's lock.
            Self::Local(_) => Arc::new(|| Ok(())),
            Self::Kubernetes(cluster) => {
                let cluster = cluster.clone();
                Arc::new(move || cluster.check_ownership())
            }
        }
    }

    /// Resolves once the sandboxes are no longer this server's.
    pub(super) async fn lost(&self) {
        match self {
            Self::Local(_) => std::future::pending().await,
            Self::Kubernetes(cluster) => cluster.lost().await,
        }
    }

    /// The cluster, if it is one.
    pub(super) fn cluster(&self) -> Option<Arc<Cluster>> {
        match self {
            Self::Local(_) => None,
            Self::Kubernetes(cluster) => Some(cluster.clone()),
        }
    }

    /// Gives it back, once there is no sandbox any more.
    pub(crate) async fn close(self) {
        match self {
            Self::Local(machine) => machine.close().await,
            Self::Kubernetes(cluster) => cluster.close().await,
        }
    }

    /// What the API calls it.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Local(_) => "local",
            Self::Kubernetes(_) => "kubernetes",
        }
    }

    fn backend(&self, pool: &str, config: &PoolConfig) -> Result<Arc<dyn Backend>, ServeError> {
        Ok(match self {
            Self::Local(machine) => Arc::new(local::backend(machine, config)?),
            Self::Kubernetes(cluster) => {
                Arc::new(kubernetes::backend(cluster.clone(), pool, config)?)
            }
        })
    }

    fn languages(&self, pool: &str, config: &PoolConfig) -> Result<Vec<Language>, ServeError> {
        match self {
            Self::Local(_) => local::languages(pool, config),
            Self::Kubernetes(_) => Ok(kubernetes::languages(config)),
        }
    }

    /// How long a sandbox may take until it is warm.
    fn warm_up_timeout(&self) -> Duration {
        match self {
            Self::Local(_) => WARM_UP_TIMEOUT,
            Self::Kubernetes(cluster) => cluster.start_timeout() + WARM_UP_TIMEOUT,
        }
    }
}

/// Starts one pool.
pub(super) fn start(
    name: &str,
    config: &PoolConfig,
    place: &Place,
    server: &str,
    metrics: Arc<PoolMetrics>,
) -> Result<(Served, PoolInfo), ServeError> {
    let (provision, info) = provision(name, config, place, metrics.clone())?;
    let settings = PoolSettings {
        name: name.to_owned(),
        min_idle: config.min_idle,
        max_sandboxes: config.max_sandboxes,
        max_queued: config.max_queued,
        max_queued_per_caller: Some(config.max_queued_per_caller),
        max_starting: config.max_starting,
        start_delay: config.start_delay,
        connected_idle: config.connected_idle,
        max_idle_age: config.max_idle_age,
    };
    let pool = Pool::spawn(settings, Arc::new(provision), server);
    let named = NamedBounds::new(config.named.max_lifetime, config.named.max_per_caller);
    let served = Served {
        pool,
        metrics,
        named,
    };
    Ok((served, info))
}

/// What makes a pool's sandboxes, and what the API tells of them.
pub(crate) fn provision(
    name: &str,
    config: &PoolConfig,
    place: &Place,
    metrics: Arc<PoolMetrics>,
) -> Result<(SandboxProvision, PoolInfo), ServeError> {
    let languages = place.languages(name, config)?;
    let info = PoolInfo {
        rules: PoolRules {
            languages: languages.iter().map(|l| l.name.clone()).collect(),
            bounds: LimitBounds {
                default: limits(&config.limits.default),
                max: limits(&config.limits.max),
            },
            named: NamedRules {
                default_lifetime: config.named.default_lifetime,
                max_lifetime: config.named.max_lifetime,
                default_idle_timeout: config.named.default_idle_timeout,
            },
        },
        preloads: languages
            .iter()
            .map(|language| (language.name.clone(), language.preload.clone()))
            .collect(),
        backend: place.name(),
    };
    let provision = SandboxProvision {
        backend: place.backend(name, config)?,
        preparation: Preparation {
            languages,
            env: config.env.variables().clone().into_iter().collect(),
            timeout: place.warm_up_timeout(),
        },
        metrics,
    };
    Ok((provision, info))
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
