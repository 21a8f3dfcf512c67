//! From the configuration to sandboxes in a cluster.

use std::{fmt::Display, net::SocketAddr, sync::Arc};

use http::Uri;
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::Value;

use super::ServeError;
use crate::{
    backend::kubernetes::{
        self, Amount, Cluster, KubernetesBackend, Settings, Template, Volume, examine::Examiner,
    },
    config::{BackendConfig, KubernetesConfig, PoolConfig, TolerationConfig, VolumeConfig},
    proto::agent::Language,
};

fn failed(error: impl Display) -> ServeError {
    ServeError::Cluster {
        reason: error.to_string(),
    }
}

/// Where the cluster is, and who asks.
async fn cluster_config(config: &KubernetesConfig) -> Result<Config, ServeError> {
    match &config.kubeconfig {
        Some(path) => {
            let read = Kubeconfig::read_from(path).map_err(failed)?;
            let options = KubeConfigOptions::default();
            Config::from_custom_kubeconfig(read, &options)
                .await
                .map_err(failed)
        }
        None => Config::infer().await.map_err(failed),
    }
}

/// A way to the API server at that address, and what is used of the cluster in the name of `server`.
async fn connect(
    backend: &BackendConfig,
    server: &str,
) -> Result<(Uri, Client, Settings), ServeError> {
    let config = &backend.kubernetes;
    let found = cluster_config(config).await?;
    let address = found.cluster_url.clone();
    let mut must_not_reach = api_server(&address).await;
    must_not_reach.extend(&config.must_not_reach);
    let settings = Settings {
        namespace: config.namespace.clone(),
        owner: server.to_owned(),
        agent_image: config.agent_image.clone(),
        start_timeout: config.start_timeout,
        reattach_timeout: backend.reattach_timeout,
        require_network_policy: config.require_network_policy,
        must_not_reach,
    };
    let client = kubernetes::client(found).map_err(failed)?;
    Ok((address, client, settings))
}

/// Connects, and watches the namespace.
pub(super) async fn cluster(
    backend: &BackendConfig,
    server: &str,
) -> Result<Arc<Cluster>, ServeError> {
    let (_, client, settings) = connect(backend, server).await?;
    Cluster::open(client, settings)
        .await
        .map(Arc::new)
        .map_err(failed)
}

/// Who asks the cluster what it has, and the API server's address. Nothing has been asked yet.
pub(crate) async fn examiner(backend: &BackendConfig) -> Result<(Examiner, Uri), ServeError> {
    let (address, client, settings) = connect(backend, "doctor").await?;
    Ok((Examiner::new(client, settings), address))
}

/// Where the API server is: as this server reaches it, and as pods do.
async fn api_server(url: &Uri) -> Vec<SocketAddr> {
    let mut hosts = Vec::new();
    if let Some(host) = url.host() {
        let host = host.trim_matches(['[', ']']).to_owned();
        hosts.push((host, url.port_u16().unwrap_or(443)));
    }
    // Kubernetes tells it every pod.
    let variable = |name| std::env::var(name).ok();
    if let Some(host) = variable("KUBERNETES_SERVICE_HOST") {
        let port = variable("KUBERNETES_SERVICE_PORT").and_then(|port| port.parse().ok());
        hosts.push((host, port.unwrap_or(443)));
    }
    let mut addresses = Vec::new();
    for host in hosts {
        // A name that cannot be looked up is told by whatever is asked next.
        addresses.extend(tokio::net::lookup_host(host).await.into_iter().flatten());
    }
    // A tunnel's: in a sandbox it is the sandbox itself, whose refusal would count as an answer.
    addresses.retain(|address| !address.ip().is_loopback());
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

/// What makes a pool's sandboxes.
pub(super) fn backend(
    cluster: Arc<Cluster>,
    pool: &str,
    config: &PoolConfig,
) -> Result<KubernetesBackend, ServeError> {
    Ok(KubernetesBackend::new(cluster, template(pool, config)?))
}

/// What a pool's pods have in common.
pub(crate) fn template(pool: &str, config: &PoolConfig) -> Result<Template, ServeError> {
    let pod = &config.pod;
    let memory = config.host_memory().bytes();
    Ok(Template {
        pool: pool.to_owned(),
        image: pod.image.clone(),
        agent_in_image: pod.agent_in_image,
        image_pull_secrets: pod.image_pull_secrets.clone(),
        runtime_class: pod.runtime_class.clone(),
        node_selector: pod.node_selector.clone(),
        tolerations: pod.tolerations.iter().map(toleration).collect(),
        labels: pod.labels.clone(),
        annotations: pod.annotations.clone(),
        volumes: pod
            .volumes
            .iter()
            .map(|volume| volume_of(pool, volume))
            .collect::<Result<_, _>>()?,
        user: config.user,
        group: config.group,
        cpus: Amount {
            limit: config.cpus,
            request: or_all(pod.cpus_requested, config.cpus),
        },
        memory: Amount {
            limit: memory,
            request: or_all(pod.memory_requested.bytes(), memory),
        },
        workspace_bytes: config.volumes.workspace.bytes(),
        tmp_bytes: config.volumes.tmp.bytes(),
        home_bytes: config.volumes.home.bytes(),
        active_deadline_seconds: (config.max_idle_age
            + config.limits.max.timeout.max(config.named.max_lifetime))
        .as_secs()
            + SLACK_SECONDS,
    })
}

/// How much longer than it is used Kubernetes lets a pod live, whatever became of its server.
const SLACK_SECONDS: u64 = 600;

/// What is set aside: 0 stands for all that may be used.
fn or_all<T: Default + PartialEq>(requested: T, all: T) -> T {
    if requested == T::default() {
        all
    } else {
        requested
    }
}

fn toleration(config: &TolerationConfig) -> Value {
    let operator = match config.value {
        Some(_) => "Equal",
        None => "Exists",
    };
    let mut toleration = serde_json::json!({"key": config.key, "operator": operator});
    for (name, value) in [("value", &config.value), ("effect", &config.effect)] {
        if let Some(value) = value {
            toleration[name] = value.as_str().into();
        }
    }
    toleration
}

fn volume_of(pool: &str, config: &VolumeConfig) -> Result<Volume, ServeError> {
    let source = config.source.iter().map(|(name, value)| {
        let value = serde_json::to_value(value)
            .map_err(|error| failed(format_args!("pools.{pool}.pod.volumes: {error}")))?;
        Ok((name.clone(), value))
    });
    Ok(Volume {
        mount_path: config.mount_path.clone(),
        writable: config.writable,
        source: source.collect::<Result<_, ServeError>>()?,
    })
}

/// The languages. Where no interpreter is named, the image's /usr/local/bin, /usr/bin and /bin are searched:
/// what is in an image can only be seen from inside.
pub(super) fn languages(config: &PoolConfig) -> Vec<Language> {
    config
        .languages()
        .filter(|(_, settings)| !settings.optional)
        .map(|(language, settings)| Language {
            name: language.as_str().to_owned(),
            preload: settings.preload.clone(),
            spares: settings.spares,
            interpreter: settings.interpreter.as_ref().map_or_else(
                || language.program().to_owned(),
                |path| path.to_string_lossy().into_owned(),
            ),
        })
        .collect()
}
