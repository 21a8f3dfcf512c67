//! What goes wrong with a cluster, on purpose.

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use tempfile::NamedTempFile;

pub use crate::harness::cluster::api_server;
use crate::harness::{
    Client, Server,
    cluster::{NAMESPACE, authenticate, configure, kubectl, wait_deleted, write_kubeconfig},
    python, soon,
};

/// A kubeconfig that goes by way of `address`, in the name of a token or of the administrator. The
/// certificate is still the API server's.
pub fn kubeconfig(address: SocketAddr, token: Option<&str>) -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    write_kubeconfig(file.path());
    let server = format!("--server=https://{address}");
    let name = "--tls-server-name=kubernetes";
    configure(file.path(), &["set-cluster", "test", &server, name]);
    if let Some(token) = token {
        authenticate(file.path(), token);
    }
    file
}

/// Waits until the server has noticed that the connection of a sandbox in use was cut.
pub async fn cut(server: &Server, sandbox: &str) {
    server
        .logged("the cut", |line| {
            line.contains("connection was cut") && line.contains(sandbox)
        })
        .await;
}

/// Waits until the API server answers.
pub async fn wait_api_server() {
    soon("the API server", async {
        while kubectl(&["get", "--raw", "/readyz"]).is_err() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    })
    .await;
}

/// The names of all pods there are, whosever they are.
fn pods() -> Vec<String> {
    let list = ["--namespace", NAMESPACE, "get", "pods", "--output=name"];
    let listed = kubectl(&list).unwrap();
    listed.lines().map(str::to_owned).collect()
}

/// Waits until all is as it was before a fault: the pool is full, there is no pod but its idle ones, and
/// they can be used.
pub async fn settled(client: &Client) {
    let pool = client.wait_full("main").await;
    let idle = pool.counts.unwrap().idle as usize;
    soon("an end of all other pods", async {
        while pods().len() != idle {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    })
    .await;
    // One after another: each must be reached.
    for _ in 0..3 {
        let done = python("print('next')").run(client).await;
        done.printed("next\n");
    }
}

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

/// A pod whose deletion does not come to its end until this is dropped.
pub struct Held(String);

/// Holds a pod back from its end.
pub fn hold(pod: &str) -> Held {
    set_finalizers(pod, r#"["sandpool.dev/held"]"#).unwrap();
    Held(pod.to_owned())
}

impl Drop for Held {
    fn drop(&mut self) {
        // It may never have been deleted, or be gone by a failure of the test.
        let _ = set_finalizers(&self.0, "null");
    }
}

fn set_finalizers(pod: &str, finalizers: &str) -> Result<String, String> {
    let patch = format!("--patch={{\"metadata\": {{\"finalizers\": {finalizers}}}}}");
    let arguments = ["--namespace", NAMESPACE, "patch", "pod", pod];
    kubectl(&[&arguments[..], &["--type=merge", &patch]].concat())
}

/// Waits until a pod that was deleted is gone.
pub fn wait_gone(pod: &str) {
    wait_deleted(&[&format!("pod/{pod}")]);
}

/// What Sandpool's own account has asked the API server for, one event a line (tests/cluster/audit.yaml).
pub fn audit() -> String {
    // Not there before the first one.
    fs::read_to_string("/var/lib/sandpool-cluster/node1/log/audit").unwrap_or_default()
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
    script(&[action, "node1", name]);
}

/// One of the node's components, which stands still until this is dropped.
pub struct Frozen(&'static str);

/// Has a component stand still.
pub fn freeze(name: &'static str) -> Frozen {
    component("freeze", name);
    Frozen(name)
}

impl Drop for Frozen {
    fn drop(&mut self) {
        component("thaw", self.0);
    }
}

/// Whether the cluster has that node.
pub fn has(node: &str) -> bool {
    kubectl(&["get", "node", node]).is_ok()
}

/// Where a pod is.
pub fn node(pod: &str) -> String {
    let node = "--output=jsonpath={.spec.nodeName}";
    kubectl(&["--namespace", NAMESPACE, "get", "pod", pod, node]).unwrap()
}

/// A node that gets no more pods until this is dropped.
pub struct Cordoned(&'static str);

/// Has new pods go to the other node.
pub fn cordon(node: &'static str) -> Cordoned {
    kubectl(&["cordon", node]).unwrap();
    Cordoned(node)
}

impl Drop for Cordoned {
    fn drop(&mut self) {
        kubectl(&["uncordon", self.0]).unwrap();
    }
}

/// A node that nobody reaches until this is dropped.
pub struct Lost(&'static str);

/// Cuts a node off, but for the first one, which the others' network goes through.
pub fn lose(node: &'static str) -> Lost {
    script(&["in", "node1", "ip", "link", "set", node, "down"]);
    Lost(node)
}

impl Drop for Lost {
    fn drop(&mut self) {
        script(&["in", "node1", "ip", "link", "set", self.0, "up"]);
    }
}

/// An address that pods reach on their node, until this is dropped.
pub struct OnNode(&'static str);

/// Gives the node another address.
pub fn on_node(address: &'static str) -> OnNode {
    script(&["in", "node1", "ip", "address", "add", address, "dev", "lo"]);
    OnNode(address)
}

impl Drop for OnNode {
    fn drop(&mut self) {
        script(&[
            "in", "node1", "ip", "address", "delete", self.0, "dev", "lo",
        ]);
    }
}

/// Has containerd kill the main process of a pod's container.
pub fn kill_container(pod: &str) {
    let id = "--output=jsonpath={.status.containerStatuses[0].containerID}";
    let id = kubectl(&["--namespace", NAMESPACE, "get", "pod", pod, id]).unwrap();
    kill_task(id.trim_start_matches("containerd://"));
}

/// Has containerd kill the process that holds a pod together: for gVisor, the kernel.
pub fn kill_pod(pod: &str) {
    let label = format!("labels.\"io.kubernetes.pod.name\"=={pod}");
    let kind = "labels.\"io.cri-containerd.kind\"==sandbox";
    let filter = format!("{label},{kind}");
    let id = containerd(&["container", "list", "-q", &filter]);
    kill_task(id.trim());
}

/// Another name of an image, until this is dropped.
pub struct Tag(&'static str);

/// Gives an image that the node has another name.
pub fn tag(image: &str, name: &'static str) -> Tag {
    containerd(&["image", "tag", "--force", image, name]);
    Tag(name)
}

impl Drop for Tag {
    fn drop(&mut self) {
        containerd(&["image", "rm", self.0]);
    }
}

fn kill_task(id: &str) {
    containerd(&["task", "kill", "--signal", "SIGKILL", id]);
}

/// containerd's own command line, for what Kubernetes has there.
fn containerd(arguments: &[&str]) -> String {
    let ctr = ["in", "node1", "ctr", "--namespace", "k8s.io"];
    script(&[&ctr[..], arguments].concat())
}

fn script(arguments: &[&str]) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cluster/cluster");
    let output = Command::new(script)
        .args(arguments)
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", output.status);
    String::from_utf8(output.stdout).unwrap()
}
