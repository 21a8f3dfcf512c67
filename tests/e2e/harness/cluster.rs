//! Servers and sandboxes as the cluster sees them, where the tests run on one.
//!
//! TEST_BACKEND=kubernetes runs all tests on the cluster that KUBECONFIG names, by kubectl.
//! TEST_AGENT_IMAGE, TEST_IMAGE and TEST_WHOLE_IMAGE name the images.

use std::{env, fs, io::Write, net::SocketAddr, path::Path, process::Command, sync::OnceLock};

use serde_json::{Value, json};
use tempfile::NamedTempFile;

use super::host;

/// Where the tests' pods are.
pub const NAMESPACE: &str = "sandpool-e2e";
/// Whose pod it is (src/backend/kubernetes/pod.rs).
const OWNER: &str = "sandpool.dev/owner";

/// The API server as the tests' own kubeconfig has it.
pub fn api_server() -> SocketAddr {
    let server = "--output=jsonpath={.clusters[0].cluster.server}";
    let url = kubectl(&["config", "view", "--minify", server]).unwrap();
    url.trim_start_matches("https://").parse().unwrap()
}

/// Whether the tests run on Kubernetes.
pub fn is_used() -> bool {
    static USED: OnceLock<bool> = OnceLock::new();
    *USED.get_or_init(|| match env::var("TEST_BACKEND").as_deref() {
        Ok("kubernetes") => {
            make_namespace();
            true
        }
        Ok("local") | Err(_) => false,
        Ok(other) => panic!("TEST_BACKEND is {other:?}, allowed are local and kubernetes"),
    })
}

/// Makes the tests' namespace as deploy/base makes the sandboxes', but for its label, which has policies
/// look at it. It may be there since the last time.
fn make_namespace() {
    let made = kubectl(&["create", "namespace", NAMESPACE]);
    let known = |error: &String| error.contains("AlreadyExists");
    assert!(made.as_ref().err().is_none_or(known), "{made:?}");
    let policy = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": "nothing"},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]},
    });
    apply(&policy);
}

/// Makes an object in the tests' namespace, or changes it.
pub fn apply(object: &Value) {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(object.to_string().as_bytes()).unwrap();
    let file = file.path().to_str().unwrap();
    kubectl(&["--namespace", NAMESPACE, "apply", "--filename", file]).unwrap();
}

/// What a server's configuration says of the cluster and, for each pool, of its pods.
pub fn config(pools: impl Iterator<Item = String>) -> String {
    let agent = image("TEST_AGENT_IMAGE", "localhost/sandpool:test");
    let sandbox = image("TEST_IMAGE", "localhost/languages:1");
    let mut text = format!(
        "[backend]\nkind = \"kubernetes\"\n\
         [backend.kubernetes]\nnamespace = {NAMESPACE:?}\nagent_image = {agent:?}\n"
    );
    for pool in pools {
        // So little is asked for that a small node takes all of them.
        text += &format!(
            "[pools.{pool}.pod]\nimage = {sandbox:?}\n\
             cpus_requested = 0.01\nmemory_requested = \"16MiB\"\n"
        );
    }
    text
}

fn image(variable: &str, usual: &str) -> String {
    env::var(variable).unwrap_or_else(|_| usual.into())
}

/// The image that holds the agent and the languages.
pub fn whole_image() -> String {
    image("TEST_WHOLE_IMAGE", "localhost/languages:agent")
}

/// kubectl's output, or its complaint.
pub fn kubectl(arguments: &[&str]) -> Result<String, String> {
    let output = Command::new("kubectl").args(arguments).output();
    let output = output.map_err(|error| format!("kubectl: {error}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

/// A command in a pod's container, which is still to be named.
pub fn exec(pod: &str) -> Command {
    let namespace = field(pod, "metadata.namespace");
    let mut command = Command::new("kubectl");
    command.args(["--namespace", &namespace, "exec", "--stdin", pod, "--"]);
    command
}

/// The names of the server's pods, wherever they are.
pub fn pods(server: &str) -> Vec<String> {
    let owner = format!("--selector={OWNER}={server}");
    let names = "--output=jsonpath={.items[*].metadata.name}";
    let listed = kubectl(&["get", "pods", "--all-namespaces", &owner, names]).unwrap();
    listed.split_whitespace().map(str::to_owned).collect()
}

/// A pod's field, wherever it is.
fn field(pod: &str, field: &str) -> String {
    let this = format!("--field-selector=metadata.name={pod}");
    let field = format!("--output=jsonpath={{.items[0].{field}}}");
    kubectl(&["get", "pods", "--all-namespaces", &this, &field]).unwrap()
}

/// Waits for the end of the server's Lease and of its pods, which another server deletes.
pub fn wait_buried(server: &str) {
    let lease = format!("lease/sandpool-{server}");
    let owner = format!("--selector={OWNER}={server}");
    wait_deleted(&["pods", &owner]);
    wait_deleted(&[&lease]);
}

/// Waits until these objects, as kubectl names them, are gone.
pub fn wait_deleted(objects: &[&str]) {
    let wait = [
        "--namespace",
        NAMESPACE,
        "wait",
        "--for=delete",
        "--timeout=90s",
    ];
    kubectl(&[&wait[..], objects].concat()).unwrap();
}

/// Writes the tests' own kubeconfig to a file, which can then be changed.
pub fn write_kubeconfig(path: &Path) {
    let whole = kubectl(&["config", "view", "--minify", "--flatten"]).unwrap();
    fs::write(path, whole).unwrap();
}

/// Changes a kubeconfig, by `kubectl config`.
pub fn configure(kubeconfig: &Path, arguments: &[&str]) {
    let file = format!("--kubeconfig={}", kubeconfig.display());
    kubectl(&[&["config", &file][..], arguments].concat()).unwrap();
}

/// Has a kubeconfig speak in the name of the account that a token is of.
pub fn authenticate(kubeconfig: &Path, token: &str) {
    let token = format!("--token={token}");
    configure(kubeconfig, &["set-credentials", "account", &token]);
    configure(kubeconfig, &["set-context", "--current", "--user=account"]);
}

/// Sends a signal to the gVisor process that is the sandbox, which must be on this machine.
pub fn signal(pod: &str, signal: i32) {
    let uid = field(pod, "metadata.uid");
    let mut found = fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| is_kernel_of(*pid, &uid));
    let pid = found.next().expect("the pod's gVisor is on this machine");
    host::kill(pid, signal);
}

/// Whether a process is gVisor's kernel, in the cgroup of that pod.
fn is_kernel_of(pid: i32, pod_uid: &str) -> bool {
    let of = |file| fs::read(Path::new("/proc").join(pid.to_string()).join(file));
    let cgroup = of("cgroup").unwrap_or_default();
    // The kubelet writes it with underscores where systemd is the cgroups' manager.
    let cgroup = String::from_utf8_lossy(&cgroup).replace('_', "-");
    cgroup.contains(pod_uid)
        && of("cmdline")
            .unwrap_or_default()
            .starts_with(b"runsc-sandbox")
}
