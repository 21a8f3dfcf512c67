//! A sandbox in Kubernetes' words (Pod, core/v1).
//!
//! The base is hardened, and a pool's template only adds to it: it has no field that could weaken it.

use std::hash::Hasher as _;

use serde_json::{Map, Value, json};

use super::{Settings, template::Template};
use crate::backend::SandboxId;

/// The container that programs run in.
pub(super) const CONTAINER: &str = "sandbox";
/// The agent as everything in the pod calls it.
pub(super) const AGENT: &str = "/sandpool/agent";

/// Labels that say whose a pod is.
pub(super) mod label {
    /// The standard one; all of Sandpool's pods have the same.
    pub(in super::super) const NAME: &str = "app.kubernetes.io/name";
    /// Its value.
    pub(in super::super) const SANDBOX: &str = "sandpool-sandbox";
    /// The server that made the pod; nobody else touches it while that server lives.
    pub(in super::super) const OWNER: &str = "sandpool.dev/owner";
    /// The pool.
    pub(in super::super) const POOL: &str = "sandpool.dev/pool";
    /// A hash of the template.
    pub(in super::super) const TEMPLATE: &str = "sandpool.dev/template";
}

/// How long a pod may take to end when it is asked to; then it is killed.
pub(super) const GRACE_SECONDS: u32 = 1;
/// As whom all else in the pod runs, unless programs run as that user.
const ANOTHER_USER: u32 = 65_531;
/// GKE Sandbox taints its nodes, and labels them, with this (cloud.google.com/kubernetes-engine).
const GKE_SANDBOX: &str = "sandbox.gke.io/runtime";
/// What Kubernetes taints a node with that it has not heard of for a while, 40 s or so
/// (kubernetes.io/docs/reference/labels-annotations-taints).
const LOST_NODE: [&str; 2] = [
    "node.kubernetes.io/not-ready",
    "node.kubernetes.io/unreachable",
];
/// The agent's own directory: its socket, boot scripts, and the programs' sources.
const RUN_DIR_BYTES: u64 = 32 << 20;
/// The agent's program, which the init container leaves there.
const AGENT_DIR_BYTES: u64 = 16 << 20;

/// The pod of one sandbox.
pub(super) fn pod(id: &SandboxId, settings: &Settings, template: &Template) -> Value {
    let spec = spec(settings, template);
    let mut labels = template.labels.clone();
    for (name, value) in [
        (label::NAME, label::SANDBOX.to_owned()),
        (label::OWNER, settings.owner.clone()),
        (label::POOL, template.pool.clone()),
        (label::TEMPLATE, hash(&spec, template)),
    ] {
        labels.insert(name.into(), value);
    }
    let mut annotations = template.annotations.clone();
    for (name, ..) in volumes(template) {
        // gVisor's shim mounts it inside of the sandbox then, instead of serving it from the host: it
        // is faster, and one writer's memory is shared with all who map it. GKE sets these by itself;
        // elsewhere containerd must hand dev.gvisor.* on (pod_annotations).
        for (key, value) in [("type", "tmpfs"), ("share", "container"), ("options", "rw")] {
            annotations.insert(format!("dev.gvisor.spec.mount.{name}.{key}"), value.into());
        }
    }
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": id.as_str(),
            "labels": labels,
            "annotations": annotations,
        },
        "spec": spec,
    })
}

/// What tells the pods of two templates apart: 16 hexadecimal digits.
fn hash(spec: &Value, template: &Template) -> String {
    let mut hasher = Fnv::default();
    hasher.write(spec.to_string().as_bytes());
    hasher.write(
        json!([template.labels, template.annotations])
            .to_string()
            .as_bytes(),
    );
    format!("{:016x}", hasher.finish())
}

/// The writable volumes, all in memory: name, path and size in bytes. /dev/shm is the runtime's.
fn volumes(template: &Template) -> [(&'static str, &'static str, u64); 4] {
    [
        ("workspace", "/workspace", template.workspace_bytes),
        ("tmp", "/tmp", template.tmp_bytes),
        ("home", "/home/sandbox", template.home_bytes),
        ("run", "/run/sandpool", RUN_DIR_BYTES),
    ]
}

fn spec(settings: &Settings, template: &Template) -> Value {
    let security = json!({
        "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": true,
        "capabilities": {"drop": ["ALL"]},
    });
    // Nothing else in the pod runs as the programs' user. The pause container's threads would count among
    // theirs (RLIMIT_NPROC). And gVisor lets a file's owner truncate it by open(2) also where it is mounted
    // read-only, so the agent's program must not be theirs.
    let another = if template.user == ANOTHER_USER {
        ANOTHER_USER - 1
    } else {
        ANOTHER_USER
    };
    let mut own = security.clone();
    own["runAsUser"] = template.user.into();
    let resources = json!({
        "limits": {
            "cpu": cpus(template.cpus.limit),
            "memory": template.memory.limit.to_string(),
            "ephemeral-storage": AGENT_DIR_BYTES.to_string(),
        },
        "requests": {
            "cpu": cpus(template.cpus.request),
            "memory": template.memory.request.to_string(),
            "ephemeral-storage": AGENT_DIR_BYTES.to_string(),
        },
    });
    let (mut volumes, mut mounts, mut installers) = (Vec::new(), Vec::new(), Vec::new());
    if !template.agent_in_image {
        volumes.push(json!({
            "name": "agent",
            "emptyDir": {"sizeLimit": AGENT_DIR_BYTES.to_string()},
        }));
        mounts.push(json!({"name": "agent", "mountPath": "/sandpool", "readOnly": true}));
        installers.push(json!({
            "name": "agent",
            "image": settings.agent_image,
            "command": ["/usr/local/bin/sandpool-agent", "install", AGENT],
            "securityContext": security,
            "resources": resources,
            "volumeMounts": [{"name": "agent", "mountPath": "/sandpool"}],
        }));
    }
    for (name, path, bytes) in self::volumes(template) {
        volumes.push(json!({
            "name": name,
            "emptyDir": {"medium": "Memory", "sizeLimit": bytes.to_string()},
        }));
        mounts.push(json!({"name": name, "mountPath": path}));
    }
    for (number, volume) in template.volumes.iter().enumerate() {
        let name = format!("extra-{number}");
        let mut source: Map<String, Value> = volume.source.clone().into_iter().collect();
        source.insert("name".into(), json!(name));
        volumes.push(source.into());
        mounts.push(json!({
            "name": name, "mountPath": volume.mount_path, "readOnly": !volume.writable,
        }));
    }
    let mut tolerations = template.tolerations.clone();
    tolerations.push(json!({
        "key": GKE_SANDBOX, "operator": "Equal", "value": "gvisor", "effect": "NoSchedule",
    }));
    // No longer than a program is waited for; without these it would be five minutes.
    for lost in LOST_NODE {
        tolerations.push(json!({
            "key": lost, "operator": "Exists", "effect": "NoExecute",
            "tolerationSeconds": settings.reattach_timeout.as_secs(),
        }));
    }
    json!({
        "runtimeClassName": template.runtime_class,
        "restartPolicy": "Never",
        "activeDeadlineSeconds": template.active_deadline_seconds,
        // The agent ends at once when it is told to. With 0 the API server would forget the pod
        // while it still runs.
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "hostname": "sandbox",
        // No name is to be looked up, in the cluster least of all.
        "dnsPolicy": "None",
        "dnsConfig": {"nameservers": ["127.0.0.1"]},
        "nodeSelector": template.node_selector,
        "tolerations": tolerations,
        "imagePullSecrets": template.image_pull_secrets.iter()
            .map(|name| json!({"name": name})).collect::<Vec<_>>(),
        "securityContext": {
            "runAsNonRoot": true,
            "runAsUser": another,
            "runAsGroup": template.group,
            "fsGroup": template.group,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "initContainers": installers,
        "containers": [{
            "name": CONTAINER,
            "image": template.image,
            "command": [AGENT, "detached"],
            // A file of the node's, without a limit, that everyone may write to: not where programs
            // come to (src/agent/install.rs; kubernetes/kubernetes#122224).
            "terminationMessagePath": "/sandpool/private/termination-log",
            "workingDir": "/workspace",
            "env": [
                {"name": "PATH", "value": "/usr/local/bin:/usr/bin:/bin"},
                {"name": "HOME", "value": "/home/sandbox"},
                {"name": "LANG", "value": "C.UTF-8"},
            ],
            "securityContext": own,
            "resources": resources,
            "volumeMounts": mounts,
        }],
        "volumes": volumes,
    })
}

/// In thousandths of a processor, as a Quantity.
fn cpus(number: f64) -> String {
    format!("{}m", (number * 1000.0).ceil())
}

/// FNV-1a, 64 bits: the same in every release of every toolchain, as a label that outlives the
/// server has to be (draft-eastlake-fnv, section 2).
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl std::hash::Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::backend::kubernetes::template::{Amount, Volume};

    fn template() -> Template {
        Template {
            pool: "main".into(),
            image: "python".into(),
            agent_in_image: false,
            image_pull_secrets: vec!["secret".into()],
            runtime_class: "gvisor".into(),
            node_selector: [("disk".into(), "fast".into())].into(),
            tolerations: vec![json!({"key": "mine", "operator": "Exists"})],
            labels: [
                ("team".into(), "blue".into()),
                (label::OWNER.into(), "another".into()),
            ]
            .into(),
            annotations: [("note".into(), "text".into())].into(),
            volumes: vec![Volume {
                mount_path: "/data".into(),
                writable: false,
                source: [("configMap".into(), json!({"name": "data"}))].into(),
            }],
            user: 65_532,
            group: 65_533,
            cpus: Amount {
                limit: 1.5,
                request: 0.25,
            },
            memory: Amount {
                limit: 2000,
                request: 1000,
            },
            workspace_bytes: 1 << 20,
            tmp_bytes: 2 << 20,
            home_bytes: 3 << 20,
            active_deadline_seconds: 60,
        }
    }

    fn settings() -> Settings {
        Settings {
            namespace: "sandboxes".into(),
            owner: "s".into(),
            agent_image: "agent".into(),
            start_timeout: Duration::from_secs(60),
            reattach_timeout: Duration::from_secs(30),
            require_network_policy: true,
            must_not_reach: Vec::new(),
        }
    }

    fn made(template: &Template) -> Value {
        pod(&SandboxId::new("main", "s", 1), &settings(), template)
    }

    /// The restricted Pod Security Standard, and what Sandpool asks for beyond it.
    #[test]
    fn a_pod_has_no_privileges() {
        let pod = made(&template());
        let spec = &pod["spec"];
        assert_eq!(spec["runtimeClassName"], "gvisor");
        assert_eq!(spec["automountServiceAccountToken"], false);
        assert_eq!(spec["enableServiceLinks"], false);
        assert_eq!(spec["restartPolicy"], "Never");
        assert_eq!(spec["activeDeadlineSeconds"], 60);
        assert_eq!(
            spec["securityContext"],
            json!({
                "runAsNonRoot": true, "runAsUser": 65_531, "runAsGroup": 65_533, "fsGroup": 65_533,
                "seccompProfile": {"type": "RuntimeDefault"},
            })
        );
        let restricted = json!({
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": {"drop": ["ALL"]},
        });
        let mut own = restricted.clone();
        own["runAsUser"] = 65_532.into();
        for (container, security) in [
            (&spec["initContainers"][0], restricted),
            (&spec["containers"][0], own),
        ] {
            assert_eq!(container["securityContext"], security);
            for resource in ["cpu", "memory", "ephemeral-storage"] {
                let limit = &container["resources"]["limits"][resource];
                assert!(limit.is_string(), "{resource}: {limit}");
            }
        }
        for key in ["hostNetwork", "hostPID", "hostIPC", "serviceAccountName"] {
            assert_eq!(spec.get(key), None);
        }
        let agent = &spec["containers"][0]["volumeMounts"][0];
        assert_eq!(
            (&agent["name"], &agent["readOnly"]),
            (&json!("agent"), &json!(true))
        );
    }

    #[test]
    fn an_image_that_holds_the_agent_needs_no_installer() {
        let template = Template {
            agent_in_image: true,
            ..template()
        };
        let spec = &made(&template)["spec"];
        assert_eq!(spec["initContainers"], json!([]));
        for list in [&spec["volumes"], &spec["containers"][0]["volumeMounts"]] {
            let list = list.as_array().unwrap();
            assert!(list.iter().all(|it| it["name"] != "agent"), "{list:?}");
        }
    }

    #[test]
    fn a_template_adds_to_a_pod() {
        let pod = made(&template());
        let spec = &pod["spec"];
        assert_eq!(pod["metadata"]["labels"]["team"], "blue");
        assert_eq!(pod["metadata"]["labels"][label::OWNER], "s");
        assert_eq!(pod["metadata"]["annotations"]["note"], "text");
        assert_eq!(spec["nodeSelector"]["disk"], "fast");
        assert_eq!(spec["imagePullSecrets"], json!([{"name": "secret"}]));
        let tolerations = spec["tolerations"].as_array().unwrap();
        let keys: Vec<_> = tolerations.iter().map(|it| &it["key"]).collect();
        assert_eq!(keys, ["mine", GKE_SANDBOX, LOST_NODE[0], LOST_NODE[1]]);
        assert_eq!(tolerations[2]["tolerationSeconds"], 30);
        let container = &spec["containers"][0];
        assert_eq!(container["image"], "python");
        assert_eq!(container["resources"]["limits"]["cpu"], "1500m");
        assert_eq!(container["resources"]["requests"]["cpu"], "250m");
        let volume = spec["volumes"].as_array().unwrap().last().unwrap();
        assert_eq!(
            volume,
            &json!({"name": "extra-0", "configMap": {"name": "data"}})
        );
        let mount = container["volumeMounts"]
            .as_array()
            .unwrap()
            .last()
            .unwrap();
        assert_eq!(
            mount,
            &json!({"name": "extra-0", "mountPath": "/data", "readOnly": true})
        );
    }

    #[test]
    fn the_hash_tells_templates_apart_and_nothing_else() {
        let hash_of = |pod: &Value| pod["metadata"]["labels"][label::TEMPLATE].clone();
        let first = made(&template());
        let mut another = settings();
        another.owner = "t".into();
        let second = pod(&SandboxId::new("main", "t", 2), &another, &template());
        assert_eq!(hash_of(&first), hash_of(&second));
        let mut other = template();
        other.labels.insert("team".into(), "red".into());
        assert_ne!(hash_of(&first), hash_of(&made(&other)));
        let mut other = template();
        other.user = 1000;
        assert_ne!(hash_of(&first), hash_of(&made(&other)));
        let mut newer = settings();
        newer.agent_image = "agent:2".into();
        let newer_agent = pod(&SandboxId::new("main", "s", 1), &newer, &template());
        assert_ne!(hash_of(&first), hash_of(&newer_agent));
    }
}
