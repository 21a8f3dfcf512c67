//! The one place that wires: from a configuration to a running server.

pub(crate) mod access;
mod edge;
pub(crate) mod kubernetes;
pub(crate) mod local;
mod monitor;
pub(crate) mod pools;
pub(crate) mod tls;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    sync::{oneshot, watch},
    time::timeout,
};

pub use self::tls::TlsError;
use self::{
    edge::{Edge, Stage, bind, services},
    monitor::Pages,
    pools::Place,
};
use crate::{
    access::TokensError,
    backend::local::StateDirError,
    config::Config,
    dispatch::{DispatchSettings, Dispatcher, KnownSettings},
    metrics::Metrics,
    reload::ReloadError,
};

/// How long answers on their way may take once everything has ended.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// Why the server does not start, or ends.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address is not to be had.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// From the configuration.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] ReloadError<TlsError>),
    /// The file of tokens cannot be used.
    #[error("access.tokens: {0}")]
    Tokens(#[from] ReloadError<TokensError>),
    /// The machine lacks what the local backend needs.
    #[error("cannot {step}: {source}; `sandpool doctor` says what is missing")]
    Machine {
        /// What was being done.
        step: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// The cluster's configuration cannot be read or used.
    #[error("cannot use the cluster: {reason}")]
    Cluster {
        /// Why.
        reason: String,
    },
    /// What a dead server left cannot be removed, or there is no place for this one's.
    #[error(transparent)]
    StateDir(#[from] StateDirError),
    /// A pool's language has no interpreter in its root file system.
    #[error("pools.{pool}.languages.{language}: {reason}")]
    Language {
        /// The pool.
        pool: String,
        /// The language.
        language: &'static str,
        /// What is missing.
        reason: String,
    },
    /// Reflection's descriptors, or the server itself.
    #[error("the server failed: {0}")]
    Server(String),
}

/// What a server tells while it runs.
pub struct Running {
    /// Where it listens.
    pub address: SocketAddr,
    /// Where it answers for metrics and probes.
    pub metrics: Option<SocketAddr>,
    /// Resolves once every pool has been warm.
    pub warm: oneshot::Receiver<()>,
}

/// Serves until `shutdown` resolves and everything is deleted.
///
/// `announce` is called once the address is bound.
///
/// # Errors
/// See [`ServeError`].
pub async fn run(
    config: Config,
    shutdown: impl Future<Output = ()> + Send,
    announce: impl FnOnce(Running),
) -> Result<(), ServeError> {
    raise_descriptor_limit()?;
    let (listener, address) = bind(config.listen).await?;
    let for_metrics = match config.metrics.listen {
        Some(address) => Some(bind(address).await?),
        None => None,
    };
    let (for_metrics, metrics_address) = for_metrics.unzip();
    access::warn(&config);
    let tls = config.tls.files().map(tls::open).transpose()?;
    let tokens = access::tokens(&config.access)?;
    let server = format!("{:08x}", rand::random::<u32>());
    let place = Place::open(&config.backend, &server).await?;
    tracing::info!(server, backend = place.name(), "starting");
    let edge = Edge::new(
        listener,
        tls,
        access::access(&config.access, tokens, &place),
    );
    let metrics = Metrics::default();
    let parts = start_pools(&config, &place, &server, &metrics)?;
    let pages = Pages::new(metrics, parts.0.clone(), place.cluster());
    let served = serve(&config, &place, edge, parts, shutdown, |warm| {
        announce(Running {
            address,
            metrics: metrics_address,
            warm,
        });
    });
    let result = pages.answer_during(served, for_metrics).await;
    // The last sandbox is gone by now, or its grace time is over: the state directory goes, too.
    place.close().await;
    result
}

/// From now on this process may have as many descriptors as it is allowed to: a sandbox on this machine
/// takes a dozen, one that is attached in a cluster takes one.
fn raise_descriptor_limit() -> Result<(), ServeError> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    setrlimit(Resource::Nofile, raised).map_err(|error| ServeError::Machine {
        step: "raise the limit of open files",
        source: error.into(),
    })
}

type Parts = (Arc<Dispatcher>, Arc<crate::api::Pools>);

fn start_pools(
    config: &Config,
    place: &Place,
    server: &str,
    metrics: &Metrics,
) -> Result<Parts, ServeError> {
    let mut started = std::collections::BTreeMap::new();
    let mut by_name = std::collections::BTreeMap::new();
    for (name, pool) in &config.pools {
        let metrics = metrics.pool(name).into();
        let (served, info) = pools::start(name, pool, place, server, metrics)?;
        started.insert(name.clone(), served);
        by_name.insert(name.clone(), info);
    }
    let settings = DispatchSettings {
        known: KnownSettings {
            remembered: config.executions.remembered as usize,
            remember_for: config.executions.remember_for,
            kept_output: config.executions.kept_output.bytes() as usize,
            kept_output_total: config.executions.kept_output_total.bytes(),
        },
        max_concurrent_per_caller: config.executions.max_concurrent_per_caller,
        reattach_timeout: config.backend.reattach_timeout,
    };
    let dispatcher = Dispatcher::new(started, settings, place.check_ownership());
    let pools = Arc::new(crate::api::Pools {
        by_name,
        default: config.default_pool.clone(),
    });
    Ok((dispatcher, pools))
}

async fn serve(
    config: &Config,
    place: &Place,
    edge: Edge,
    (dispatcher, pools): Parts,
    shutdown: impl Future<Output = ()> + Send,
    announce: impl FnOnce(oneshot::Receiver<()>),
) -> Result<(), ServeError> {
    let (health, health_service) = tonic_health::server::health_reporter();
    let serving = |status| {
        let health = health.clone();
        async move { health.set_service_status("", status).await }
    };
    serving(tonic_health::ServingStatus::NotServing).await;
    let (stage, edge_stage) = watch::channel(Stage::Open);
    let server = edge.serve(services(&dispatcher, &pools, health_service)?, edge_stage);

    let (warm, is_warm) = oneshot::channel();
    announce(is_warm);
    let warming = async {
        for (_, pool) in dispatcher.pools() {
            pool.warm().await;
        }
        serving(tonic_health::ServingStatus::Serving).await;
        // Nobody need be interested.
        let _ = warm.send(());
        std::future::pending::<()>().await;
    };
    let until_stopped = async {
        let result = tokio::select! {
            () = shutdown => Ok(()),
            () = warming => Ok(()),
            () = place.lost() => {
                Err(ServeError::Server("another server took this one for dead".into()))
            }
            name = broken_pool(&dispatcher) => {
                Err(ServeError::Server(format!("the task of pool {name} ended")))
            }
        };
        tracing::info!("shutting down");
        // Before anybody can know of it.
        dispatcher.close();
        serving(tonic_health::ServingStatus::NotServing).await;
        stage.send_replace(Stage::Draining);
        dispatcher.shutdown(config.shutdown.grace).await;
        stage.send_replace(Stage::Closed);
        result
    };
    tokio::pin!(until_stopped);
    tokio::pin!(server);
    tokio::select! {
        // A client that keeps its connection is not waited for.
        result = &mut until_stopped => {
            let served = timeout(LAST_ANSWERS, server).await.unwrap_or(Ok(()));
            result.and(served)
        }
        // A server that ends by itself has failed.
        result = &mut server => {
            dispatcher.shutdown(Duration::ZERO).await;
            result
        }
    }
}

/// The name of the first pool whose task ends, which it does only after a shutdown or a bug.
async fn broken_pool(dispatcher: &Dispatcher) -> &str {
    let mut ended: Vec<_> = dispatcher
        .pools()
        .map(|(name, pool)| {
            Box::pin(async move {
                pool.ended().await;
                name.as_str()
            })
        })
        .collect();
    std::future::poll_fn(|cx| {
        ended
            .iter_mut()
            .find_map(|pool| match pool.as_mut().poll(cx) {
                std::task::Poll::Ready(name) => Some(std::task::Poll::Ready(name)),
                std::task::Poll::Pending => None,
            })
            .unwrap_or(std::task::Poll::Pending)
    })
    .await
}
