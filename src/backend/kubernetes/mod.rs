//! Sandboxes on Kubernetes: gVisor pods, each with its agent at the end of one exec websocket.
//!
//! - `client`: the connection to the API server; `exec`: running a program in a pod
//! - `template`: what a pool's pods have in common; `pod`: that, in Kubernetes' words; `made`: what the
//!   cluster has made of it
//! - `status`: what a pod's status means; `pods`: the watch, and what it has told
//! - `ownership`: whose a pod is, and what is done about those of the dead
//! - `policies`: the NetworkPolicies of the sandboxes' namespace; `network`: what such let through
//! - `rights`: what an account has to be allowed; `examine`: what a cluster has for sandboxes;
//!   `quantity`: Kubernetes' numbers
//!
//! A sandbox is one pod and nothing else. The API server is asked when a pod is made, attached to
//! and deleted, and never while a request runs.

mod client;
pub mod examine;
pub mod exec;
mod made;
pub mod network;
mod ownership;
mod pod;
mod pods;
mod policies;
mod quantity;
pub mod rights;
mod status;
mod template;
mod token_review;

use std::{
    fmt::Display,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use kube::Client;
use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
    time::{Instant, timeout, timeout_at},
};

pub use client::{ClientError, RequestError, client};
pub use quantity::{NotAQuantity, Quantity};
pub use template::{Amount, Template, Volume};
pub use token_review::TokenReviewer;

use self::{
    exec::{Exec, ExecError},
    ownership::Ownership,
    pods::{Pods, Seen},
    policies::Policies,
    status::Phase,
};
use super::{
    Backend, BoxedByteStream, ConnectError, DeleteError, SandboxId, StartError, StartedSandbox,
};

/// How long an exec may take to be answered.
const ATTACH_TIMEOUT: Duration = Duration::from_secs(15);
/// Where clouds tell a machine its credentials.
const METADATA: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)), 80);
/// The kubelet's port, on each node.
const KUBELET: u16 = 10250;
/// How many execs are asked for at once: an API server that has just restarted has enough to do.
const ATTACHING: usize = 16;
/// How long a pod may take to vanish before its deletion counts as failed, and is asked for again.
const GONE_TIMEOUT: Duration = Duration::from_secs(60);

/// How a server uses its cluster.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where its pods are.
    pub namespace: String,
    /// The server's own name, which its pods and its Lease carry.
    pub owner: String,
    /// The image that holds the agent.
    pub agent_image: String,
    /// How long a pod may take from its creation until it is ready.
    pub start_timeout: Duration,
    /// How long a node may be lost until its pods are given up, in whole seconds.
    pub reattach_timeout: Duration,
    /// Whether NetworkPolicies must close the network of all pods before one is made.
    pub require_network_policy: bool,
    /// What no sandbox may reach, besides its node and the cloud's metadata.
    pub must_not_reach: Vec<SocketAddr>,
}

/// What all pools of one server share: a namespace, the watch of its pods, and a Lease.
pub struct Cluster {
    client: Client,
    settings: Settings,
    pods: Arc<Pods>,
    policies: Arc<Policies>,
    ownership: Arc<Ownership>,
    attaching: Semaphore,
    /// They end with this.
    tasks: Mutex<JoinSet<()>>,
}

/// When a server last heard of its cluster.
#[derive(Clone, Copy, Debug)]
pub struct Contact {
    /// How long ago the request was sent that last renewed the Lease.
    pub lease_renewed: Duration,
    /// How long ago the watch last told of a pod, or was opened, as it is once a minute.
    pub pods_heard: Duration,
    /// How often the watch was interrupted, attempts to open it again included.
    pub watch_interruptions: u64,
}

/// Why a namespace cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot take out a Lease in namespace {namespace}: {reason}")]
pub struct OpenError {
    /// The namespace.
    pub namespace: String,
    /// What the API server said.
    pub reason: String,
}

impl Cluster {
    /// Takes a Lease out; watches the owner's pods from now on, and deletes those of servers that are
    /// dead.
    ///
    /// # Errors
    /// When the API server refuses the Lease, or does not answer.
    pub async fn open(client: Client, settings: Settings) -> Result<Self, OpenError> {
        let Settings {
            namespace, owner, ..
        } = &settings;
        let pods = Arc::new(Pods::new(client.clone(), namespace));
        let taken = Ownership::take(client.clone(), namespace, owner, pods.clone()).await;
        let ownership = Arc::new(taken.map_err(|error| OpenError {
            namespace: namespace.clone(),
            reason: error.to_string(),
        })?);
        let mut tasks = JoinSet::new();
        tasks.spawn(ownership.clone().renew());
        tasks.spawn(ownership.clone().bury());
        let (watched, of) = (pods.clone(), owner.clone());
        tasks.spawn(async move { watched.follow(&of).await });
        let policies = Arc::new(Policies::new(client.clone(), namespace));
        if settings.require_network_policy {
            let followed = policies.clone();
            tasks.spawn(async move { followed.follow().await });
        }
        Ok(Self {
            policies,
            client,
            settings,
            pods,
            ownership,
            attaching: Semaphore::new(ATTACHING),
            tasks: Mutex::new(tasks),
        })
    }

    /// Whether this server's pods are its own still.
    ///
    /// # Errors
    /// With the reason, once its Lease could not be renewed for so long that another server may soon
    /// take it for dead, and delete them.
    pub fn check_ownership(&self) -> Result<(), String> {
        if self.ownership.holds() {
            return Ok(());
        }
        Err("the server has lost touch with its cluster: it could not renew its Lease".into())
    }

    /// Resolves once another server has taken this one for dead, and deletes its pods.
    pub async fn lost(&self) {
        self.ownership.lost().await;
    }

    /// When the cluster was last heard of.
    #[must_use]
    pub fn contact(&self) -> Contact {
        let heard = self.pods.heard();
        Contact {
            lease_renewed: self.ownership.renewed().elapsed(),
            pods_heard: heard.at.elapsed(),
            watch_interruptions: heard.interruptions,
        }
    }

    /// Gives the Lease back. When pods are left it stays, and the other servers delete both.
    pub async fn close(&self) {
        if !self.pods.is_empty() {
            return;
        }
        // A renewal that comes later would find that it is gone.
        let tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        drop(tasks);
        if let Err(error) = self.ownership.give_back().await {
            tracing::warn!(%error, "the Lease was not given back; it runs out by itself");
        }
    }

    /// Asks its API server about tokens that were issued for `audience`.
    #[must_use]
    pub fn token_reviewer(&self, audience: String) -> TokenReviewer {
        TokenReviewer::new(self.client.clone(), audience)
    }

    /// How long a pod may take from its creation until it is ready.
    #[must_use]
    pub const fn start_timeout(&self) -> Duration {
        self.settings.start_timeout
    }
}

/// Makes the sandboxes of one pool.
pub struct KubernetesBackend {
    cluster: Arc<Cluster>,
    template: Template,
    refusal: watch::Receiver<Option<String>>,
}

fn failed<E: Display>(step: &'static str) -> impl Fn(E) -> StartError {
    move |error| StartError::Failed {
        step,
        reason: error.to_string(),
    }
}

impl KubernetesBackend {
    /// Makes pods after `template`.
    #[must_use]
    pub fn new(cluster: Arc<Cluster>, template: Template) -> Self {
        let any = SandboxId::new(&template.pool, &cluster.settings.owner, 0);
        let manifest = pod::pod(&any, &cluster.settings, &template);
        let refusal = cluster.policies.refusal(network::labels(&manifest));
        Self {
            cluster,
            template,
            refusal,
        }
    }

    async fn attach(&self, id: &SandboxId) -> Result<BoxedByteStream, String> {
        let exec = Exec {
            namespace: &self.cluster.settings.namespace,
            pod: id.as_str(),
            container: pod::CONTAINER,
            command: &[pod::AGENT, "attach"],
        };
        let attached = async {
            // Never closed.
            let _place = self.cluster.attaching.acquire().await;
            exec::open(&self.cluster.client, exec).await
        };
        match timeout(ATTACH_TIMEOUT, attached).await {
            Ok(Ok(stream)) => Ok(Box::pin(stream)),
            Ok(Err(error)) => {
                // The watch would tell the same, later, or much later if it stalls.
                if let ExecError::NotFound(_) = error {
                    self.cluster.pods.gone(id.as_str());
                }
                Err(error.to_string())
            }
            Err(_) => Err(format!("no answer within {ATTACH_TIMEOUT:?}")),
        }
    }
}

/// Waits until the agent's container runs.
async fn ready(mut pod: watch::Receiver<Seen>, limit: Duration) -> Result<(), StartError> {
    let failed = failed("start the pod");
    let deadline = Instant::now() + limit;
    loop {
        let seen = pod.borrow_and_update().clone();
        let waits_for = match seen.phase {
            Phase::Ready => return Ok(()),
            Phase::Stuck(reason) => return Err(failed(reason)),
            Phase::Dead(death) => return Err(failed(death.to_string())),
            Phase::Starting(waits_for) => waits_for,
        };
        match timeout_at(deadline, pod.changed()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err(failed("it is no longer watched".into())),
            Err(_) => {
                return Err(failed(format!(
                    "it still waits for {waits_for} after {limit:?}"
                )));
            }
        }
    }
}

#[async_trait]
impl Backend for KubernetesBackend {
    /// No output passes by pipes here: each byte takes the exec.
    async fn start(&self, id: &SandboxId, _outputs: u32) -> Result<StartedSandbox, StartError> {
        let Cluster { settings, pods, .. } = &*self.cluster;
        let manifest = pod::pod(id, settings, &self.template);
        if settings.require_network_policy {
            let labels = network::labels(&manifest);
            self.cluster.policies.check(labels).await?;
        }
        let (pod, death) = pods.expect(id.as_str());
        let made = pods
            .create(id.as_str(), manifest.clone())
            .await
            .map_err(failed("create the pod"))?;
        if let Some(how) = made::weakened(&manifest, &made) {
            return Err(failed("use the pod as admission has changed it")(how));
        }
        ready(pod.clone(), settings.start_timeout).await?;
        let mut must_not_reach = vec![METADATA];
        must_not_reach.extend(&settings.must_not_reach);
        let node = pod.borrow().node;
        must_not_reach.extend(node.map(|node| SocketAddr::new(node, KUBELET)));
        let channel = self
            .attach(id)
            .await
            .map_err(failed("attach to the agent"))?;
        Ok(StartedSandbox {
            channel,
            death,
            outputs: Vec::new(),
            must_not_reach,
        })
    }

    fn refusal(&self) -> watch::Receiver<Option<String>> {
        self.refusal.clone()
    }

    fn outage(&self, id: &SandboxId) -> Option<String> {
        let pod = self.cluster.pods.seen(id.as_str())?;
        let is_ready = pod.borrow().node_is_ready;
        (!is_ready).then(|| "its node is not ready".to_owned())
    }

    async fn connect(&self, id: &SandboxId) -> Result<BoxedByteStream, ConnectError> {
        self.attach(id).await.map_err(|reason| ConnectError {
            id: id.clone(),
            reason,
        })
    }

    async fn delete(&self, id: &SandboxId) -> Result<(), DeleteError> {
        let failed = |reason: String| DeleteError {
            id: id.clone(),
            reason,
        };
        let pods = &self.cluster.pods;
        let Some(mut pod) = pods.seen(id.as_str()) else {
            return Ok(());
        };
        let seen = pod.borrow().clone();
        let gone = seen.gone || {
            let deleted = pods.delete(id.as_str(), seen.uid).await;
            deleted.map_err(|error| failed(error.to_string()))?
        };
        if !gone {
            // What is being deleted still runs, and counts.
            timeout(GONE_TIMEOUT, pod.wait_for(|seen| seen.gone))
                .await
                .map_err(|_| failed(format!("it is still there after {GONE_TIMEOUT:?}")))?
                .map_err(|_| failed("it is no longer watched".into()))?;
        }
        pods.forget(id.as_str());
        Ok(())
    }
}
