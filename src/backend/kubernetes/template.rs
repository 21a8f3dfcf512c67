//! What the pods of one pool have in common.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

/// What the pods of one pool have in common. Whatever of it changes, changes the pods' hash.
#[derive(Clone, Debug, Serialize)]
pub struct Template {
    /// The pool's name.
    pub pool: String,
    /// The root file system that programs see: any image, as it is.
    pub image: String,
    /// Whether that image holds the agent, as `sandpool-agent install /sandpool/agent` leaves it.
    pub agent_in_image: bool,
    /// Names of secrets in the pods' namespace.
    pub image_pull_secrets: Vec<String>,
    /// The RuntimeClass; its handler must be gVisor's.
    pub runtime_class: String,
    /// On nodes with these labels only.
    pub node_selector: BTreeMap<String, String>,
    /// Also on nodes with these taints; each as Kubernetes' `Toleration`.
    pub tolerations: Vec<Value>,
    /// More labels of the pods'; Sandpool's own win.
    pub labels: BTreeMap<String, String>,
    /// More annotations of the pods'.
    pub annotations: BTreeMap<String, String>,
    /// More volumes.
    pub volumes: Vec<Volume>,
    /// The user that everything in the pod runs as; not 0.
    pub user: u32,
    /// Its group, also of the volumes.
    pub group: u32,
    /// Processors: the limit, and what the scheduler sets aside.
    pub cpus: Amount<f64>,
    /// Bytes of memory, with the volumes in memory: the same two.
    pub memory: Amount<u64>,
    /// Bytes of /workspace.
    pub workspace_bytes: u64,
    /// Bytes of /tmp.
    pub tmp_bytes: u64,
    /// Bytes of HOME.
    pub home_bytes: u64,
    /// Seconds from a pod's start until Kubernetes ends it, whatever became of its server.
    pub active_deadline_seconds: u64,
}

/// What a pod may use, and what is set aside for it.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Amount<T> {
    /// At most this.
    pub limit: T,
    /// At least this.
    pub request: T,
}

/// A volume of the operator's.
#[derive(Clone, Debug, Serialize)]
pub struct Volume {
    /// Where programs see it; absolute.
    pub mount_path: String,
    /// Whether programs may write to it.
    pub writable: bool,
    /// What it is: one member of Kubernetes' `Volume`, by its name; not `hostPath`.
    pub source: BTreeMap<String, Value>,
}
