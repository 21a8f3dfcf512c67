//! `[backend.*]`: where sandboxes come from.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use super::{check::Check, units};

/// Where sandboxes come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackendConfig {
    /// Which of the two it is. No unit; default local.
    pub kind: BackendKind,
    /// How long a cut connection to a sandbox is tried again before the sandbox counts as lost.
    /// A duration from 1s to 10m; default 30s.
    #[serde(with = "units::duration")]
    pub reattach_timeout: Duration,
    /// gVisor, run directly on this machine.
    pub local: LocalConfig,
    /// gVisor pods of a cluster.
    pub kubernetes: KubernetesConfig,
}

/// Where sandboxes come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackendKind {
    /// gVisor, run directly on this machine.
    Local,
    /// gVisor pods of a cluster.
    Kubernetes,
}

/// gVisor pods of a cluster. Looked at only with that kind of backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KubernetesConfig {
    /// How to reach the cluster; "" (the default) takes what KUBECONFIG or ~/.kube/config names or,
    /// inside of a cluster, the pod's own service account. An absolute path.
    #[serde(with = "units::path_or_empty")]
    pub kubeconfig: Option<PathBuf>,
    /// The sandboxes' namespace, which should hold nothing else. Default sandpool-sandboxes.
    pub namespace: String,
    /// The image that holds the agent. Needed.
    pub agent_image: String,
    /// How long a pod may take from its creation until it runs, a new node's start included.
    /// A duration from 10s to 1h; default 5m.
    #[serde(with = "units::duration")]
    pub start_timeout: Duration,
    /// Whether sandboxes are made and leased only where NetworkPolicies close the network of all
    /// pods. `false` is for a gVisor that gives its sandboxes no network. `true` or `false`; default true.
    pub require_network_policy: bool,
    /// What sandboxes must not reach, besides the API server, their node and a cloud's metadata: one
    /// that reaches any of them is not used. A list of IP addresses with ports; default [].
    pub must_not_reach: Vec<SocketAddr>,
}

/// gVisor, run directly on this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LocalConfig {
    /// gVisor's program: a path, or a name that is looked up in PATH. Default runsc.
    pub runsc: PathBuf,
    /// How gVisor intercepts system calls. No unit; default systrap.
    pub platform: Platform,
    /// Where bundles, sockets and gVisor's own state live; servers may share it.
    /// An absolute path; default /run/sandpool.
    pub state_dir: PathBuf,
    /// The program sandpool-agent; "" (the default) takes the one beside the server's own
    /// executable. An absolute path.
    #[serde(with = "units::path_or_empty")]
    pub agent: Option<PathBuf>,
    /// What sandboxes reach of the network. No unit; default none.
    pub network: Network,
}

/// How gVisor intercepts system calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Platform {
    /// By seccomp; works everywhere.
    Systrap,
    /// By virtualisation; needs /dev/kvm.
    Kvm,
    /// By ptrace; slow, for old gVisor releases.
    Ptrace,
}

impl Platform {
    /// What `runsc --platform` calls it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Systrap => "systrap",
            Self::Kvm => "kvm",
            Self::Ptrace => "ptrace",
        }
    }
}

/// What sandboxes reach of the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// Nothing but their own loopback: the only value for now.
    None,
}

impl Network {
    /// What `runsc --network` calls it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
        }
    }
}

impl Default for BackendConfig {
    fn default() -> Self {
        Self {
            kind: BackendKind::Local,
            reattach_timeout: Duration::from_secs(30),
            local: LocalConfig::default(),
            kubernetes: KubernetesConfig::default(),
        }
    }
}

impl Default for KubernetesConfig {
    fn default() -> Self {
        Self {
            kubeconfig: None,
            namespace: "sandpool-sandboxes".to_owned(),
            agent_image: String::new(),
            start_timeout: Duration::from_secs(300),
            require_network_policy: true,
            must_not_reach: Vec::new(),
        }
    }
}

impl BackendConfig {
    pub(super) fn check(&self, check: &mut Check) {
        let timeout = self.reattach_timeout;
        if timeout < Duration::from_secs(1) || timeout > Duration::from_secs(600) {
            check.problem("backend.reattach_timeout", "a duration from 1s to 10m");
        }
        match self.kind {
            BackendKind::Local => self.local.check(check),
            BackendKind::Kubernetes => self.kubernetes.check(check),
        }
    }
}

impl KubernetesConfig {
    fn check(&self, check: &mut Check) {
        check.absolute("backend.kubernetes.kubeconfig", self.kubeconfig.as_deref());
        if self.namespace.is_empty() {
            check.problem("backend.kubernetes.namespace", "a namespace's name");
        }
        if self.agent_image.is_empty() {
            check.problem(
                "backend.kubernetes.agent_image",
                "the image that holds sandpool-agent: it is Sandpool's own",
            );
        }
        let timeout = self.start_timeout;
        if timeout < Duration::from_secs(10) || timeout > Duration::from_secs(3600) {
            let expected = "a duration from 10s to 1h";
            check.problem("backend.kubernetes.start_timeout", expected);
        }
    }
}

impl Default for LocalConfig {
    fn default() -> Self {
        Self {
            runsc: PathBuf::from("runsc"),
            platform: Platform::Systrap,
            state_dir: PathBuf::from("/run/sandpool"),
            agent: None,
            network: Network::None,
        }
    }
}

impl LocalConfig {
    fn check(&self, check: &mut Check) {
        if self.runsc.as_os_str().is_empty() {
            check.problem("backend.local.runsc", "a path or a program's name");
        }
        if !self.state_dir.is_absolute() {
            check.problem("backend.local.state_dir", "an absolute path");
        }
        check.absolute("backend.local.agent", self.agent.as_deref());
    }
}
