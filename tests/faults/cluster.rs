//! What goes wrong with a cluster, on purpose.

use std::{fs, path::Path, process::Command};

use crate::harness::cluster::{NAMESPACE, kubectl};

/// Deletes a pod, as its owner does not.
pub fn delete(pod: &str) {
    kubectl(&[
        "--namespace",
        NAMESPACE,
        "delete",
        "pod",
        pod,
        "--wait=false",
    ])
    .unwrap();
}

/// Evicts a pod, as `kubectl drain` does.
pub fn evict(pod: &str) {
    let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/{pod}/eviction");
    let eviction = format!(
        r#"{{"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {{"name": "{pod}"}}}}"#
    );
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(&file, eviction).unwrap();
    let file = file.path().to_str().unwrap();
    kubectl(&["create", "--raw", &path, "--filename", file]).unwrap();
}

/// How many pods the namespace may have; `None` takes the limit away.
pub fn set_quota(pods: Option<u32>) {
    let namespace = ["--namespace", NAMESPACE];
    let hard = format!("--hard=pods={}", pods.unwrap_or_default());
    let arguments = match pods {
        Some(_) => vec!["create", "quota", "pods", &hard],
        None => vec!["delete", "quota", "pods", "--ignore-not-found"],
    };
    kubectl(&[&namespace[..], &arguments].concat()).unwrap();
}

/// Starts, stops (asking) or kills one of the node's components (tests/cluster/cluster).
pub fn component(action: &str, name: &str) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cluster/cluster");
    let status = Command::new(script)
        .args([action, "node1", name])
        .status()
        .unwrap();
    assert!(status.success(), "{action} {name}: {status}");
}
