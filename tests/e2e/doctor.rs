//! `sandpool doctor` asked about a cluster, as the account that deploy/base gives the server.

use std::{fs, path::Path, process::Stdio};

use tempfile::TempDir;
use tokio::process::Command;

use crate::harness::{
    cluster::{NAMESPACE, authenticate, config, configure, kubectl, write_kubeconfig},
    *,
};

/// What of deploy/base is not the server itself.
const MANIFESTS: [&str; 3] = ["sandboxes.yaml", "admission.yaml", "rights.yaml"];

/// deploy/base under another name, so that tests do not meet in it: where it says sandpool, it is
/// called `name`.
struct Deployment {
    name: String,
    manifest: String,
    dir: TempDir,
}

impl Deployment {
    fn new(purpose: &str) -> Self {
        // The namespaces of the last run may be on their way out.
        let name = format!("sandpool-{purpose}-{}", std::process::id());
        let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/base");
        let manifests = MANIFESTS.map(|file| fs::read_to_string(base.join(file)).unwrap());
        let manifest = manifests
            .join("---\n")
            .replace(": sandpool", &format!(": {name}"))
            .replace("sandpool.dev/sandboxes", &format!("sandpool.dev/{name}"));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("manifest.yaml");
        fs::write(&path, &manifest).unwrap();
        let deployment = Self {
            name,
            manifest: path.to_str().unwrap().to_owned(),
            dir,
        };
        kubectl(&["apply", "--filename", &deployment.manifest]).unwrap();
        deployment.become_the_servers_account();
        let pools = "[pools.main]\nmin_idle = 1\nmax_sandboxes = 2\nlanguages.bash = {}\n";
        let cluster = config(["main".to_owned()].into_iter());
        let cluster = cluster.replace(NAMESPACE, &deployment.sandboxes());
        let config = format!("listen = \"127.0.0.1:0\"\ndefault_pool = \"main\"\n{pools}{cluster}");
        fs::write(deployment.path("sandpool.toml"), config).unwrap();
        deployment
    }

    /// A kubeconfig with the token of the service account instead of the administrator's key.
    fn become_the_servers_account(&self) {
        let kubeconfig = self.dir.path().join("kubeconfig");
        write_kubeconfig(&kubeconfig);
        let token = kubectl(&["--namespace", &self.name, "create", "token", &self.name]).unwrap();
        authenticate(&kubeconfig, token.trim());
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    /// The sandboxes' namespace.
    fn sandboxes(&self) -> String {
        format!("{}-sandboxes", self.name)
    }

    /// kubectl in the sandboxes' namespace.
    fn change(&self, arguments: &[&str]) {
        let namespace = self.sandboxes();
        kubectl(&[&["--namespace", &namespace], arguments].concat()).unwrap();
    }

    /// What doctor says, and whether it is content.
    async fn doctor(&self) -> (bool, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sandpool"));
        command
            .args(["doctor", "--config", &self.path("sandpool.toml")])
            .env("KUBECONFIG", self.path("kubeconfig"))
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let output = command.output().await.unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        (output.status.success(), text)
    }

    /// Asks doctor until it finds exactly these faults, each by the beginning of its line: policies
    /// and rights are in force some time after they were made, with no event for it.
    async fn doctor_finds(&self, faults: &[&str]) -> String {
        let mut last = String::new();
        let found = tokio::time::timeout(PATIENCE, async {
            loop {
                let (content, text) = self.doctor().await;
                assert!(text.starts_with("ok    configuration"), "{text}");
                assert_eq!(content, !text.contains("FAIL"), "{text}");
                let mut lines: Vec<_> = text.lines().collect();
                lines.retain(|line| line.starts_with("FAIL"));
                let pairs = || lines.iter().zip(faults);
                if lines.len() == faults.len()
                    && pairs().all(|(line, it)| line[6..].starts_with(it))
                {
                    return text;
                }
                last = text;
            }
        });
        match found.await {
            Ok(text) => text,
            Err(_) => panic!("never found {faults:?}:\n{last}"),
        }
    }
}

impl Drop for Deployment {
    fn drop(&mut self) {
        let delete = ["delete", "--ignore-not-found", "--wait=false", "--filename"];
        if let Err(error) = kubectl(&[&delete[..], &[&self.manifest]].concat()) {
            println!("{} is not deleted: {error}", self.name);
        }
    }
}

#[tokio::test]
async fn a_cluster_that_deploy_base_was_applied_to_is_fit() {
    only_cluster!("doctor is asked about a cluster");
    let deployment = Deployment::new("fit");
    deployment.change(&["create", "quota", "room", "--hard=pods=2,limits.memory=9Gi"]);
    let text = deployment.doctor_finds(&[]).await;
    let namespace = format!("ok    namespace: {}\n", deployment.sandboxes());
    for line in [
        "ok    cluster: Kubernetes v1.",
        "ok    rights: all 11 that the server uses",
        &namespace,
        "ok    runtime class: gvisor (handler ",
        "ok    network policy: \"nothing\" closes all pods",
        "ok    admission, pool main: accepts its pods, and none without gVisor",
        "ok    quotas: room limits.memory: ",
        "ok    pool main: a gVisor sandbox was warm",
    ] {
        assert!(text.contains(line), "no {line:?} in:\n{text}");
    }
    assert!(text.contains("room pods: 2 needed of 2"), "{text}");
}

#[tokio::test]
async fn exactly_the_rights_that_are_missing_are_named() {
    only_cluster!("rights are a cluster's");
    let deployment = Deployment::new("rights");
    let role = |pods: &str| {
        let patch =
            format!(r#"[{{"op": "replace", "path": "/rules/0/verbs", "value": [{pods}]}}]"#);
        deployment.change(&[
            "patch",
            "role",
            &deployment.name,
            "--type=json",
            "--patch",
            &patch,
        ]);
    };
    role(r#""list", "watch", "create""#);
    let namespace = deployment.sandboxes();
    let fault = format!("rights: may not delete pods in namespace {namespace}");
    deployment.doctor_finds(&[&fault]).await;
    role(r#""list", "delete""#);
    let faults = ["rights: may not watch pods", "rights: may not create pods"];
    let text = deployment.doctor_finds(&faults).await;
    let skipped = "skip  admission and quotas: not looked at: the account lacks the right to \
                   create pods";
    assert!(text.contains(skipped), "{text}");
}

#[tokio::test]
async fn what_the_account_may_not_read_is_not_looked_at_and_no_fault() {
    only_cluster!("rights are a cluster's");
    let deployment = Deployment::new("blind");
    let of_doctor = format!("{}-doctor", deployment.name);
    deployment.change(&["delete", "rolebinding", &of_doctor]);
    deployment.change(&["delete", "clusterrolebinding", &of_doctor]);
    let text = deployment.doctor_finds(&[]).await;
    for (what, right) in [
        ("namespace", "get namespaces"),
        ("runtime class", "get runtimeclasses.node.k8s.io"),
        ("quotas", "list resourcequotas"),
    ] {
        let line = format!("skip  {what}: not looked at: the account lacks the right to {right} (");
        assert!(text.contains(&line), "no {line:?} in:\n{text}");
    }
}

#[tokio::test]
async fn what_is_open_in_a_namespace_is_told() {
    only_cluster!("policies are a cluster's");
    let deployment = Deployment::new("open");
    // Were it bound, it would hold for this namespace.
    let label = format!("sandpool.dev/{}-", deployment.name);
    let namespace = deployment.sandboxes();
    deployment.change(&["label", "namespace", &namespace, &label]);
    deployment.change(&["delete", "networkpolicy", "nothing"]);
    deployment.change(&["create", "quota", "small", "--hard=pods=1"]);
    deployment
        .doctor_finds(&[
            "network policy: there is none that selects all pods and lets nothing in or out",
            "admission, pool main: a pod without gVisor would be accepted",
            "admission, pool main: a pod with a service account's token would be accepted",
            "quotas: small pods: 2 needed of 1, 0 used now",
        ])
        .await;
}

#[tokio::test]
async fn what_pods_need_and_is_not_there_is_told_with_its_remedy() {
    only_cluster!("pods are a cluster's");
    let deployment = Deployment::new("absent");
    let pods = |pod: &str| {
        let config = fs::read_to_string(deployment.path("sandpool.toml")).unwrap();
        let (before, _) = config.split_once("[pools.main.pod]").unwrap();
        let config = format!("{before}[pools.main.pod]\n{pod}");
        fs::write(deployment.path("sandpool.toml"), config).unwrap();
    };
    pods("image = \"localhost/nothing:1\"");
    let text = deployment
        .doctor_finds(&["pool main: cannot start the pod: "])
        .await;
    let remedy = "\n      see that the nodes can pull localhost/nothing:1 and ";
    assert!(text.contains(remedy), "{text}");

    pods("image = \"localhost/nothing:1\"\nruntime_class = \"nothing\"");
    let faults = [
        "runtime class: nothing does not exist",
        "admission, pool main: its pod would be refused: ",
    ];
    let text = deployment.doctor_finds(&faults).await;
    assert!(
        text.contains("\n      install gVisor on the nodes and make a RuntimeClass"),
        "{text}"
    );
}

#[tokio::test]
async fn a_cluster_that_does_not_answer_is_told() {
    only_cluster!("doctor is asked about a cluster");
    let deployment = Deployment::new("mute");
    let file = format!("--kubeconfig={}", deployment.path("kubeconfig"));
    let cluster = kubectl(&[
        &file,
        "config",
        "view",
        "--output=jsonpath={.clusters[0].name}",
    ]);
    // tcpmux, which nobody has.
    let nowhere = "--server=https://127.0.0.1:1";
    let kubeconfig = deployment.dir.path().join("kubeconfig");
    configure(&kubeconfig, &["set-cluster", &cluster.unwrap(), nowhere]);
    let text = deployment.doctor_finds(&["cluster: "]).await;
    assert!(text.contains("Connection refused"), "{text}");
}
