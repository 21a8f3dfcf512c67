//! The floor in a cluster: an interpreter that waits in a pod like Sandpool's own, given its program by
//! a plain exec that was opened beforehand, without agent and gRPC.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, ResourceExt,
    api::{AttachParams, DeleteParams, ListParams, PostParams},
    runtime::wait::await_condition,
};
use sandpool::backend::kubernetes::exec::{Exec, PodStream, open};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::common::floor::BOOT;

/// As the floor on one machine starts it; an exec's stdin is a pipe, so it says on stdout that it waits.
const START: &str = r#"
mkdir -p /tmp/floor/boot /tmp/floor/1
printf %s "$1" >/tmp/floor/boot/sitecustomize.py
printf %s "$2" >/tmp/floor/1/main.py
cd /workspace
PYTHONPATH=/tmp/floor/boot exec /usr/bin/python3 /tmp/floor/1/main.py 3<&0 </dev/null
"#;

/// A pod like another one, in which nothing runs but `sleep`.
pub(crate) struct SleepingPod {
    pods: Api<Pod>,
    pub(crate) name: String,
}

impl SleepingPod {
    /// `like`: a pod of Sandpool's. The new one has no owner whom Sandpool would ask about it.
    pub(crate) async fn start(client: &Client, namespace: &str, like: &Pod) -> Self {
        let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
        let like = serde_json::to_value(like).unwrap();
        let mut spec = like["spec"].clone();
        for made_by_the_cluster in [
            "nodeName",
            "serviceAccount",
            "serviceAccountName",
            "priority",
        ] {
            spec.as_object_mut().unwrap().remove(made_by_the_cluster);
        }
        let container = &mut spec["containers"][0];
        // One that does not end at SIGTERM would cost its grace period.
        let sleep = "trap 'exit 0' TERM; sleep infinity & wait";
        container["command"] = json!(["/bin/sh", "-c", sleep]);
        let container = container.as_object_mut().unwrap();
        for agents_own in ["args", "readinessProbe"] {
            container.remove(agents_own);
        }
        let pod = json!({
            "metadata": {
                "generateName": "floor-",
                "annotations": like["metadata"]["annotations"],
            },
            "spec": spec,
        });
        let pod: Pod = serde_json::from_value(pod).unwrap();
        let made = pods.create(&PostParams::default(), &pod).await.unwrap();
        let name = made.name_any();
        let ready = await_condition(pods.clone(), &name, |pod: Option<&Pod>| {
            pod.is_some_and(is_ready)
        });
        ready.await.unwrap();
        Self { pods, name }
    }

    /// One exec of kube's own, until its first output.
    pub(crate) async fn kubes_exec(&self, command: &[&str]) {
        let parameters = AttachParams::default().container("sandbox");
        let command = command.iter().copied();
        let mut exec = self
            .pods
            .exec(&self.name, command, &parameters)
            .await
            .unwrap();
        let mut stdout = exec.stdout().unwrap();
        stdout.read_u8().await.unwrap();
    }

    /// Opens an exec.
    pub(crate) async fn exec(&self, client: &Client, command: &[&str]) -> PodStream {
        let exec = Exec {
            namespace: self.pods.namespace().unwrap(),
            pod: &self.name,
            container: "sandbox",
            command,
        };
        open(client, exec).await.unwrap()
    }

    /// Deletes it with the grace period that it has of Sandpool's, and waits until it is gone. Without
    /// one it would vanish at once from the API only, and the node still be busy with it.
    pub(crate) async fn delete(self) {
        let parameters = DeleteParams::default();
        self.pods.delete(&self.name, &parameters).await.unwrap();
        let gone = await_condition(self.pods, &self.name, |pod: Option<&Pod>| pod.is_none());
        gone.await.unwrap();
    }
}

fn is_ready(pod: &Pod) -> bool {
    let status = pod.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|conditions| {
        conditions
            .iter()
            .any(|condition| condition.type_ == "Ready" && condition.status == "True")
    })
}

/// A pod with one waiting interpreter.
pub(crate) struct PodFloor {
    pod: SleepingPod,
    exec: PodStream,
}

impl PodFloor {
    pub(crate) async fn start(client: &Client, namespace: &str, like: &Pod, program: &str) -> Self {
        let pod = SleepingPod::start(client, namespace, like).await;
        let boot = BOOT.replace("os.write(3, b\"r\")", "os.write(1, b\"r\")");
        assert_ne!(boot, BOOT, "the boot script says otherwise that it waits");
        let command = ["/bin/sh", "-c", START, "sh", &boot, program];
        let mut exec = pod.exec(client, &command).await;
        exec.write_all(b"\n").await.unwrap();
        exec.flush().await.unwrap();
        assert_eq!(exec.read_u8().await.unwrap(), b'r');
        Self { pod, exec }
    }

    /// Gives the program, and waits for its first output.
    pub(crate) async fn run(mut self) -> Duration {
        let record = b"/workspace\x000\0";
        let mut start = u32::try_from(record.len()).unwrap().to_be_bytes().to_vec();
        start.extend_from_slice(record);
        let mut output = [0; 4096];
        let given = Instant::now();
        self.exec.write_all(&start).await.unwrap();
        self.exec.flush().await.unwrap();
        assert!(self.exec.read(&mut output).await.unwrap() > 0);
        let first_output = given.elapsed();
        self.pod.delete().await;
        first_output
    }
}

/// How often anything was written, as the API server counts its requests, but for what is no part of an
/// execution: Leases, which everybody in the cluster renews by the clock.
pub(crate) async fn writes(client: &Client) -> f64 {
    let request = http::Request::get("/metrics").body(Vec::new()).unwrap();
    let metrics = client.request_text(request).await.unwrap();
    let verbs = ["POST", "PUT", "PATCH", "DELETE"].map(|verb| format!("verb=\"{verb}\""));
    metrics
        .lines()
        .filter(|line| line.starts_with("apiserver_request_total{"))
        .filter(|line| !line.contains("resource=\"leases\""))
        // Questions and connections, for which nothing is written.
        .filter(|line| !line.contains("reviews\"") && !line.contains("subresource=\"exec\""))
        .filter(|line| verbs.iter().any(|verb| line.contains(verb)))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

/// One of the server's idle pods.
pub(crate) async fn a_pod_of(client: &Client, namespace: &str) -> Pod {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let sandboxes = ListParams::default().labels("app.kubernetes.io/name=sandpool-sandbox");
    let listed = pods.list(&sandboxes).await.unwrap();
    let running = |pod: &&Pod| {
        let pod: Value = serde_json::to_value(pod).unwrap();
        pod["status"]["phase"] == "Running" && pod["metadata"]["deletionTimestamp"].is_null()
    };
    listed
        .into_iter()
        .find(|pod| running(&pod))
        .expect("an idle sandbox")
}
