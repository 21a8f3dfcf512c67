//! What the cluster has made of a pod: admission may change what was asked for, and nobody may have
//! weakened it.

use serde_json::Value;

/// Namespaces of the node's that a pod can have asked for.
const HOST: [&str; 3] = ["hostNetwork", "hostPID", "hostIPC"];

/// In what a pod, as the API server answered its creation, is weaker than what was asked for; `None`:
/// in nothing.
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
    let token = list(&made["volumes"]).find(|volume| {
        let mut sources = list(&volume["projected"]["sources"]);
        sources.any(|source| !source["serviceAccountToken"].is_null())
    });
    if let Some(volume) = token {
        return Some(format!(
            "volume {} holds a service account's token",
            volume["name"]
        ));
    }
    for kind in ["containers", "initContainers"] {
        let known = |name: &Value| list(&asked[kind]).any(|container| container["name"] == *name);
        let mut names = list(&made[kind]).map(|container| &container["name"]);
        if let Some(name) = names.find(|name| !known(name)) {
            return Some(format!("{kind} has {name}"));
        }
    }
    None
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
            "initContainers": [{"name": "agent"}],
            "containers": [{"name": "sandbox"}],
            "volumes": [{"name": "agent", "emptyDir": {}}],
        }})
    }

    #[test]
    fn what_a_cluster_adds_to_every_pod_weakens_none() {
        let mut made = asked();
        made["spec"]["nodeName"] = "node1".into();
        made["spec"]["hostNetwork"] = false.into();
        made["spec"]["tolerations"] = json!([{"key": "gpu"}]);
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
                "containers",
                json!([{"name": "sandbox"}, {"name": "proxy"}]),
                "containers has \"proxy\"",
            ),
            (
                "initContainers",
                json!([{"name": "proxy-init"}]),
                "initContainers has \"proxy-init\"",
            ),
        ] {
            let mut made = asked();
            made["spec"][field] = value;
            assert_eq!(weakened(&asked(), &made).as_deref(), Some(words));
        }
    }
}
