//! What the cluster has made of a pod. Admission may change what was asked for, and must not have weakened
//! it.

use serde_json::Value;

/// Namespaces of the node's that a pod could share.
const HOST: [&str; 3] = ["hostNetwork", "hostPID", "hostIPC"];

/// How the pod that the API server has made is weaker than the one that was asked for, if it is. What else
/// admission adds (tolerations, annotations, an image from a mirror) is the cluster's business.
pub(super) fn weakened(asked: &Value, made: &Value) -> Option<String> {
    let (asked, made) = (&asked["spec"], &made["spec"]);
    let class = "runtimeClassName";
    if made[class] != asked[class] {
        return Some(format!(
            "{class} is {} and not {}",
            made[class], asked[class]
        ));
    }
    if let Some(host) = HOST.into_iter().find(|&host| made[host] == true) {
        return Some(format!("{host} is true"));
    }
    if made["automountServiceAccountToken"] != false {
        return Some("it mounts its service account's token".into());
    }
    if let Some(how) = list(&made["volumes"]).find_map(weak_volume) {
        return Some(how);
    }
    ["containers", "initContainers"]
        .into_iter()
        .flat_map(|kind| list(&made[kind]).map(move |made| (kind, made)))
        .find_map(|(kind, made)| {
            let of_that_name = |asked: &&Value| asked["name"] == made["name"];
            match list(&asked[kind]).find(of_that_name) {
                Some(asked) => weak_container(asked, made),
                None => Some(format!("{} is a further one of its {kind}", made["name"])),
            }
        })
}

fn weak_volume(volume: &Value) -> Option<String> {
    let name = &volume["name"];
    if !volume["hostPath"].is_null() {
        return Some(format!("volume {name} is a directory of the node's"));
    }
    let mut sources = list(&volume["projected"]["sources"]);
    sources
        .any(|source| !source["serviceAccountToken"].is_null())
        .then(|| format!("volume {name} holds a service account's token"))
}

fn weak_container(asked: &Value, made: &Value) -> Option<String> {
    let name = &made["name"];
    let (asked, made) = (&asked["securityContext"], &made["securityContext"]);
    let user = "runAsUser";
    if made["privileged"] == true {
        return Some(format!("container {name} is privileged"));
    }
    if made["allowPrivilegeEscalation"] != false {
        return Some(format!("container {name} may gain privileges"));
    }
    if list(&made["capabilities"]["add"]).next().is_some() {
        return Some(format!("container {name} has capabilities"));
    }
    (made[user] != asked[user]).then(|| {
        format!(
            "{user} of container {name} is {} and not {}",
            made[user], asked[user]
        )
    })
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn asked() -> Value {
        json!({"spec": {
            "runtimeClassName": "gvisor", "automountServiceAccountToken": false,
            "initContainers": [{
                "name": "agent", "securityContext": {"allowPrivilegeEscalation": false},
            }],
            "containers": [{
                "name": "sandbox",
                "securityContext": {"allowPrivilegeEscalation": false, "runAsUser": 65_532},
            }],
            "volumes": [{"name": "agent", "emptyDir": {}}],
        }})
    }

    #[test]
    fn what_a_cluster_adds_to_every_pod_weakens_none() {
        let mut made = asked();
        made["spec"]["nodeName"] = "node1".into();
        made["spec"]["hostNetwork"] = false.into();
        made["spec"]["tolerations"] = json!([{"key": "gpu"}]);
        made["spec"]["containers"][0]["image"] = "mirror/python".into();
        assert_eq!(weakened(&asked(), &made), None);
    }

    #[test]
    fn what_admission_has_weakened_is_named() {
        let token = json!([{"name": "t", "projected": {"sources": [
            {"configMap": {}}, {"serviceAccountToken": {"path": "token"}},
        ]}}]);
        for (field, value, words) in [
            (
                "runtimeClassName",
                Value::Null,
                "runtimeClassName is null and not \"gvisor\"",
            ),
            ("hostNetwork", true.into(), "hostNetwork is true"),
            ("hostPID", true.into(), "hostPID is true"),
            ("hostIPC", true.into(), "hostIPC is true"),
            (
                "automountServiceAccountToken",
                Value::Null,
                "it mounts its service account's token",
            ),
            (
                "volumes",
                token,
                "volume \"t\" holds a service account's token",
            ),
            (
                "volumes",
                json!([{"name": "v", "hostPath": {"path": "/"}}]),
                "volume \"v\" is a directory of the node's",
            ),
            (
                "containers",
                json!([asked()["spec"]["containers"][0], {"name": "proxy"}]),
                "\"proxy\" is a further one of its containers",
            ),
            (
                "initContainers",
                json!([{"name": "proxy-init"}]),
                "\"proxy-init\" is a further one of its initContainers",
            ),
        ] {
            let mut made = asked();
            made["spec"][field] = value;
            assert_eq!(weakened(&asked(), &made).as_deref(), Some(words));
        }
    }

    #[test]
    fn a_container_that_admission_has_weakened_is_named() {
        for (field, value, words) in [
            (
                "privileged",
                true.into(),
                "container \"sandbox\" is privileged",
            ),
            (
                "allowPrivilegeEscalation",
                Value::Null,
                "container \"sandbox\" may gain privileges",
            ),
            (
                "capabilities",
                json!({"add": ["NET_ADMIN"], "drop": ["ALL"]}),
                "container \"sandbox\" has capabilities",
            ),
            (
                "runAsUser",
                0.into(),
                "runAsUser of container \"sandbox\" is 0 and not 65532",
            ),
        ] {
            let mut made = asked();
            made["spec"]["containers"][0]["securityContext"][field] = value;
            assert_eq!(weakened(&asked(), &made).as_deref(), Some(words));
        }
    }
}
