//! `[pools.NAME.pod]`: what a pool's pods are on Kubernetes, beyond what all sandboxes have.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{ByteSize, check::Check};

/// What a volume may be: nothing of the node's, and nothing that the cluster would put credentials into
/// by itself.
const VOLUME_SOURCES: [&str; 8] = [
    "configMap",
    "csi",
    "emptyDir",
    "ephemeral",
    "image",
    "nfs",
    "persistentVolumeClaim",
    "secret",
];

/// What annotations begin with that others take for orders: gVisor's shim, CRI-O, a network plugin that gives
/// pods further interfaces (Multus) and, in older releases, the kubelet.
const ORDERS: [&str; 6] = [
    "dev.gvisor.",
    "io.kubernetes.cri-o.",
    "k8s.v1.cni.cncf.io/",
    "container.apparmor.security.",
    "container.seccomp.security.",
    "seccomp.security.",
];

/// What a pool's pods are, beyond what all sandboxes have. Nothing here can weaken a sandbox.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PodConfig {
    /// The root file system that programs see: any image, as it is. Needed.
    pub image: String,
    /// Whether the image holds the agent, as `sandpool-agent install /sandpool/agent` leaves it: then no
    /// init container brings it. `true` or `false`; default false.
    pub agent_in_image: bool,
    /// Names of secrets in the sandboxes' namespace. Default [].
    pub image_pull_secrets: Vec<String>,
    /// The RuntimeClass; its handler must be gVisor's. Default gvisor.
    pub runtime_class: String,
    /// Only nodes with these labels. A table of texts; default empty.
    pub node_selector: BTreeMap<String, String>,
    /// Also nodes with these taints. A list of tables; default [].
    pub tolerations: Vec<TolerationConfig>,
    /// More labels. A table of texts; default empty.
    pub labels: BTreeMap<String, String>,
    /// More annotations, none that weakens a sandbox. A table of texts; default empty.
    pub annotations: BTreeMap<String, String>,
    /// More volumes. A list of tables; default [].
    pub volumes: Vec<VolumeConfig>,
    /// Processors that the scheduler sets aside; 0 (the default) is all that the pod may use.
    pub cpus_requested: f64,
    /// Memory that the scheduler sets aside; 0B (the default) is all that the pod may use.
    pub memory_requested: ByteSize,
}

/// Kubernetes' `Toleration`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TolerationConfig {
    /// The taint's key.
    pub key: String,
    /// Its value; without one any is tolerated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// Its effect; without one each is tolerated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<String>,
}

/// A volume, and where programs see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VolumeConfig {
    /// Where programs see it; absolute.
    pub mount_path: String,
    /// Whether programs may write to it. Default false.
    #[serde(default)]
    pub writable: bool,
    /// One member of Kubernetes' `Volume`, such as `{ configMap = { name = "data" } }`.
    pub source: BTreeMap<String, toml::Value>,
}

impl Default for PodConfig {
    fn default() -> Self {
        Self {
            image: String::new(),
            agent_in_image: false,
            image_pull_secrets: Vec::new(),
            runtime_class: "gvisor".to_owned(),
            node_selector: BTreeMap::new(),
            tolerations: Vec::new(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            volumes: Vec::new(),
            cpus_requested: 0.0,
            memory_requested: ByteSize::default(),
        }
    }
}

impl PodConfig {
    /// `key`: what the section is called.
    pub(super) fn check(&self, key: &str, check: &mut Check) {
        if self.image.is_empty() {
            check.problem(
                format!("{key}.image"),
                "an image, such as \"python:3.13-slim\"",
            );
        }
        if self.runtime_class.is_empty() {
            check.problem(
                format!("{key}.runtime_class"),
                "the name of a RuntimeClass whose handler is gVisor's",
            );
        }
        if !(self.cpus_requested >= 0.0 && self.cpus_requested <= 4096.0) {
            check.problem(format!("{key}.cpus_requested"), "a number from 0 to 4096");
        }
        let order = |key: &&String| ORDERS.iter().any(|order| key.starts_with(order));
        if let Some(annotation) = self.annotations.keys().find(order) {
            check.problem(
                format!("{key}.annotations.{annotation:?}"),
                format!("none that begins with {}", ORDERS.join(", ")),
            );
        }
        for volume in &self.volumes {
            let key = format!("{key}.volumes");
            if !volume.mount_path.starts_with('/') {
                check.problem(&key, "an absolute mount_path in each");
            }
            let mut sources = volume.source.keys();
            match (sources.next(), sources.next()) {
                (Some(source), None) if VOLUME_SOURCES.contains(&source.as_str()) => {}
                _ => check.problem(
                    &key,
                    format!("one source in each, of {}", VOLUME_SOURCES.join(", ")),
                ),
            }
        }
    }
}
