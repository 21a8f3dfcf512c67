//! What a pod's status means for its sandbox (core/v1 PodStatus), without any I/O.

use std::net::IpAddr;

use kube::core::Object;
use serde::{Deserialize, Serialize};

use super::pod::CONTAINER;
use crate::backend::{Death, words};

/// A pod as far as Sandpool looks at it: a tenth of the whole.
pub(super) type SlimPod = Object<Nothing, Status>;

/// What is not looked at.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Nothing {}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Status {
    phase: String,
    reason: String,
    message: String,
    #[serde(rename = "hostIP")]
    host_ip: String,
    conditions: Vec<Condition>,
    init_container_statuses: Vec<Container>,
    container_statuses: Vec<Container>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
    reason: String,
    message: String,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Container {
    name: String,
    ready: bool,
    state: ContainerState,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct ContainerState {
    waiting: Option<Words>,
    terminated: Option<Terminated>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Words {
    reason: String,
    message: String,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Terminated {
    reason: String,
    message: String,
    exit_code: i32,
}

/// The address of its node, once it has one.
pub(super) fn node(pod: &SlimPod) -> Option<IpAddr> {
    pod.status.as_ref()?.host_ip.parse().ok()
}

/// Whether the pod's node is ready, as far as the pod shows it. Of a node that it has not heard of for a while,
/// or that says so itself, Kubernetes takes all pods for not ready, and leaves what the kubelet has said of
/// their containers (kubernetes/pkg/controller/util/node, MarkPodsNotReady). A readiness gate, which nobody asked
/// for but admission, looks the same but for its reason.
pub(super) fn node_is_ready(pod: &SlimPod) -> bool {
    let Some(status) = &pod.status else {
        return true;
    };
    let not_ready = status.condition("Ready", "False");
    let by_its_node = not_ready.is_some_and(|it| it.reason != "ReadinessGatesNotReady");
    !(by_its_node && status.condition("ContainersReady", "True").is_some())
}

/// Somebody has deleted the pod.
pub(super) fn deleted() -> Death {
    Death::Infrastructure("its pod was deleted".into())
}

/// Where a pod stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// It is on its way; what it waits for, as far as Kubernetes says.
    Starting(String),
    /// It will not start as it is, and why: its image cannot be had, say.
    Stuck(String),
    /// The agent's container runs.
    Ready,
    /// It has ended, or is about to be ended.
    Dead(Death),
}

/// Reasons of waiting containers that do not mend themselves within a start's time
/// (kubernetes/pkg/kubelet/images/types.go, kubelet/kuberuntime/kuberuntime_container.go).
const STUCK: [&str; 9] = [
    "CrashLoopBackOff",
    "CreateContainerConfigError",
    "CreateContainerError",
    "ErrImageNeverPull",
    "ErrImagePull",
    "ImageInspectError",
    "ImagePullBackOff",
    "InvalidImageName",
    "RunContainerError",
];

/// Reads the status. Who deleted a pod cannot be seen in it: that is told by the caller.
pub(super) fn phase(pod: &SlimPod) -> Phase {
    let Some(status) = &pod.status else {
        return Phase::Starting("the scheduler".into());
    };
    if let Some(death) = status.death() {
        return Phase::Dead(death);
    }
    if pod.metadata.deletion_timestamp.is_some() {
        return Phase::Dead(deleted());
    }
    if status
        .containers()
        .any(|it| it.name == CONTAINER && it.ready)
    {
        return Phase::Ready;
    }
    let mut waits_for = None;
    for container in status.containers() {
        if let Some(Words { reason, message }) = &container.state.waiting {
            if STUCK.contains(&reason.as_str()) {
                return Phase::Stuck(said(reason, message));
            }
            waits_for.get_or_insert_with(|| said(reason, message));
        }
    }
    if let Some(condition) = status.condition("PodScheduled", "False") {
        waits_for = Some(said(&condition.reason, &condition.message));
    }
    Phase::Starting(waits_for.unwrap_or_else(|| "its container".into()))
}

impl Status {
    fn containers(&self) -> impl Iterator<Item = &Container> + Clone {
        let init = self.init_container_statuses.iter();
        init.chain(&self.container_statuses)
    }

    fn condition(&self, kind: &str, status: &str) -> Option<&Condition> {
        let mut conditions = self.conditions.iter();
        conditions.find(|it| it.kind == kind && it.status == status)
    }

    fn death(&self) -> Option<Death> {
        let mut terminated = self
            .containers()
            .filter_map(|it| it.state.terminated.as_ref());
        if terminated.clone().any(|it| it.reason == "OOMKilled") {
            return Some(Death::OutOfMemory);
        }
        // An init container that has done its work has ended, too.
        let ended = terminated.find(|it| it.exit_code != 0);
        // Evidence of a cause outside the sandbox: eviction, preemption, a node's shutdown or loss,
        // the pod's own deadline.
        if !self.reason.is_empty() {
            return Some(Death::Infrastructure(said(&self.reason, &self.message)));
        }
        if let Some(condition) = self.condition("DisruptionTarget", "True") {
            let reason = said(&condition.reason, &condition.message);
            return Some(Death::Infrastructure(reason));
        }
        let own = self
            .container_statuses
            .iter()
            .find(|it| it.name == CONTAINER);
        let own = own.and_then(|it| it.state.terminated.as_ref());
        match (own.or(ended), self.phase.as_str()) {
            (Some(it), _) => Some(Death::Unknown(format!(
                "its container ended with exit code {}: {}",
                it.exit_code,
                said(&it.reason, &it.message)
            ))),
            (None, "Succeeded" | "Failed") => Some(Death::Unknown("its pod ended".into())),
            (None, _) => None,
        }
    }
}

/// A container's message may be the program's own.
fn said(reason: &str, message: &str) -> String {
    match (reason, message) {
        (reason, "") => words(reason),
        ("", message) => words(message),
        (reason, message) => words(&format!("{reason}: {message}")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn phase_of(status: Value) -> Phase {
        let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": []}, "status": status});
        phase(&serde_json::from_value(pod).unwrap())
    }

    fn infrastructure(words: &str) -> Phase {
        Phase::Dead(Death::Infrastructure(words.into()))
    }

    #[test]
    fn a_pod_is_ready_when_the_agents_container_is() {
        let container = |ready| {
            json!({"phase": "Running", "containerStatuses": [
                {"name": "sandbox", "ready": ready, "state": {"running": {"startedAt": "x"}}}]})
        };
        assert_eq!(phase_of(container(true)), Phase::Ready);
        assert!(matches!(phase_of(container(false)), Phase::Starting(_)));
    }

    #[test]
    fn a_node_is_not_ready_when_its_pod_is_not_and_the_containers_are() {
        for (ready, reason, containers_ready, node) in [
            ("True", "", "True", true),
            ("False", "ContainersNotReady", "False", true),
            ("False", "ReadinessGatesNotReady", "True", true),
            ("False", "", "True", false),
        ] {
            let pod = json!({"metadata": {"name": "p"}, "spec": {}, "status": {"conditions": [
                {"type": "Ready", "status": ready, "reason": reason},
                {"type": "ContainersReady", "status": containers_ready}]}});
            let pod = serde_json::from_value(pod).unwrap();
            assert_eq!(node_is_ready(&pod), node, "{reason}");
        }
    }

    #[test]
    fn what_a_starting_pod_waits_for_is_told() {
        assert_eq!(
            phase_of(
                json!({"phase": "Pending", "conditions": [{"type": "PodScheduled",
                "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}]})
            ),
            Phase::Starting("Unschedulable: 0/1 nodes".into())
        );
        assert_eq!(
            phase_of(json!({"phase": "Pending", "initContainerStatuses": [
                {"name": "agent", "state": {"waiting": {"reason": "PodInitializing"}}}]})),
            Phase::Starting("PodInitializing".into())
        );
    }

    #[test]
    fn an_image_that_cannot_be_had_is_told_at_once() {
        assert_eq!(
            phase_of(json!({"phase": "Pending", "initContainerStatuses": [],
                "containerStatuses": [{"name": "sandbox", "state": {"waiting":
                    {"reason": "ErrImagePull", "message": "not found"}}}]})),
            Phase::Stuck("ErrImagePull: not found".into())
        );
    }

    #[test]
    fn an_init_container_that_is_done_is_no_death() {
        let status = json!({"phase": "Pending", "initContainerStatuses": [
            {"name": "agent", "state": {"terminated": {"reason": "Completed", "exitCode": 0}}}]});
        assert!(matches!(phase_of(status), Phase::Starting(_)));
        let status = json!({"phase": "Failed", "initContainerStatuses": [
            {"name": "agent", "state": {"terminated": {"reason": "Error", "exitCode": 1}}}]});
        let Phase::Dead(Death::Unknown(words)) = phase_of(status) else {
            panic!()
        };
        assert!(words.contains("exit code 1"), "{words}");
    }

    #[test]
    fn each_death_has_its_cause() {
        let ended = |reason: &str, code: i32| {
            json!({"phase": "Failed",
                "initContainerStatuses": [{"name": "agent", "state":
                    {"terminated": {"reason": "Completed", "exitCode": 0}}}],
                "containerStatuses": [{"name": "sandbox", "state":
                    {"terminated": {"reason": reason, "exitCode": code}}}]})
        };
        assert_eq!(
            phase_of(ended("OOMKilled", 137)),
            Phase::Dead(Death::OutOfMemory)
        );
        assert!(matches!(
            phase_of(ended("Error", 137)),
            Phase::Dead(Death::Unknown(_))
        ));
        assert_eq!(
            phase_of(json!({"phase": "Failed", "reason": "Evicted", "message": "disk"})),
            infrastructure("Evicted: disk")
        );
        assert_eq!(
            phase_of(
                json!({"phase": "Running", "conditions": [{"type": "DisruptionTarget",
                "status": "True", "reason": "DeletionByTaintManager", "message": "node"}]})
            ),
            infrastructure("DeletionByTaintManager: node")
        );
        let pod = json!({"metadata": {"name": "p", "deletionTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {}, "status": {"phase": "Running"}});
        assert_eq!(
            phase(&serde_json::from_value(pod).unwrap()),
            infrastructure("its pod was deleted")
        );
    }
}
