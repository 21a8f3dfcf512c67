//! What the NetworkPolicies of a namespace let through.

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicySpec};
use kube::core::{Selector, SelectorExt};
use serde_json::Value;

/// The labels of a pod.
pub(super) type Labels = BTreeMap<String, String>;

/// The labels of the pod that a manifest asks for.
pub(super) fn labels(manifest: &Value) -> Labels {
    let labels = manifest["metadata"]["labels"].as_object();
    let texts = labels.into_iter().flatten();
    texts
        .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
        .collect()
}

/// What the NetworkPolicies of a namespace let through. Policies only ever add to each other: one
/// closes a direction, and each further one may open it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// The policies that close all pods to what comes in.
    pub closed_in: Vec<String>,
    /// The policies that close all pods to what goes out.
    pub closed_out: Vec<String>,
    /// The policies that let something in or out of a sandbox all the same.
    pub opened_by: Vec<String>,
}

impl Network {
    /// `sandboxes`: the labels of each kind of them.
    pub(super) fn new(policies: &[NetworkPolicy], sandboxes: &[Labels]) -> Self {
        let mut network = Self::default();
        for policy in policies {
            let name = policy.metadata.name.clone().unwrap_or_default();
            let spec = policy.spec.clone().unwrap_or_default();
            let (incoming, outgoing) = (Effect::incoming(&spec), Effect::outgoing(&spec));
            let selector = Selector::try_from(spec.pod_selector.unwrap_or_default()).ok();
            if selector.as_ref().is_some_and(Selector::selects_all) {
                if incoming == Effect::Closes {
                    network.closed_in.push(name.clone());
                }
                if outgoing == Effect::Closes {
                    network.closed_out.push(name.clone());
                }
            }
            // A selector that cannot be read may select anything.
            let selects_sandbox = selector
                .is_none_or(|selector| sandboxes.iter().any(|labels| selector.matches(labels)));
            if selects_sandbox && [incoming, outgoing].contains(&Effect::Opens) {
                network.opened_by.push(name);
            }
        }
        network
    }

    /// What is open; `None`: nothing is, as far as policies can say.
    #[must_use]
    pub fn open(&self) -> Option<Open> {
        if !self.opened_by.is_empty() {
            return Some(Open::By(self.opened_by.clone()));
        }
        match (self.closed_in.is_empty(), self.closed_out.is_empty()) {
            (false, false) => None,
            (true, true) => Some(Open::Direction("in or out")),
            (true, false) => Some(Open::Direction("in")),
            (false, true) => Some(Open::Direction("out")),
        }
    }
}

/// In which way a network is open.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Open {
    /// These policies let something in or out of a sandbox.
    #[error("{} lets something through", .0.join(", "))]
    By(Vec<String>),
    /// It is closed by none, in this direction.
    #[error("there is none that selects all pods and lets nothing {0}")]
    Direction(&'static str),
}

/// What a policy does to one direction of the pods that it selects.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Effect {
    Nothing,
    Closes,
    Opens,
}

impl Effect {
    fn incoming(spec: &NetworkPolicySpec) -> Self {
        Self::of(spec, "Ingress", spec.ingress.iter().flatten().count())
    }

    fn outgoing(spec: &NetworkPolicySpec) -> Self {
        Self::of(spec, "Egress", spec.egress.iter().flatten().count())
    }

    /// The API server fills in `policyTypes` where an operator left it out. Rules of a type that is
    /// not named there count for nothing; each of those that count allows something, "{}" everything.
    fn of(spec: &NetworkPolicySpec, policy_type: &str, rules: usize) -> Self {
        let named = spec
            .policy_types
            .iter()
            .flatten()
            .any(|it| it == policy_type);
        match (named, rules) {
            (false, _) => Self::Nothing,
            (true, 0) => Self::Closes,
            (true, _) => Self::Opens,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn network(specs: &[(&str, Value)]) -> Network {
        let policies = specs.iter().map(|(name, spec)| {
            serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec})).unwrap()
        });
        let sandbox = Labels::from([("app".into(), "sandbox".into())]);
        Network::new(&policies.collect::<Vec<_>>(), &[sandbox])
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn one_policy_closes_both_directions() {
        let all = json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]});
        assert_eq!(
            network(&[("nothing", all)]),
            Network {
                closed_in: names(&["nothing"]),
                closed_out: names(&["nothing"]),
                opened_by: Vec::new(),
            }
        );
    }

    #[test]
    fn a_policy_for_each_direction_does_as_well() {
        let network = network(&[
            ("in", json!({"podSelector": {}, "policyTypes": ["Ingress"]})),
            ("out", json!({"policyTypes": ["Egress"], "egress": []})),
        ]);
        assert_eq!(network.closed_in, names(&["in"]));
        assert_eq!(network.closed_out, names(&["out"]));
    }

    #[test]
    fn a_policy_that_does_not_select_all_pods_closes_nothing() {
        for selector in [
            json!({"matchLabels": {"app": "sandbox"}}),
            json!({"matchExpressions": [{"key": "app", "operator": "Exists"}]}),
        ] {
            let both = ["Ingress", "Egress"];
            let spec = json!({"podSelector": selector, "policyTypes": both});
            assert_eq!(network(&[("some", spec)]), Network::default());
        }
    }

    #[test]
    fn a_policy_that_opens_a_sandbox_is_found() {
        let rule = |selector: Value| {
            json!({"podSelector": selector, "policyTypes": ["Egress"],
                "egress": [{"ports": [{"port": 53, "protocol": "UDP"}]}]})
        };
        let network = network(&[
            ("all", rule(json!({}))),
            (
                "sandboxes",
                rule(json!({"matchLabels": {"app": "sandbox"}})),
            ),
            ("others", rule(json!({"matchLabels": {"app": "server"}}))),
            (
                "unreadable",
                rule(json!({"matchExpressions": [{"key": "app", "operator": "Like"}]})),
            ),
        ]);
        assert_eq!(
            network.opened_by,
            names(&["all", "sandboxes", "unreadable"])
        );
        assert!(network.closed_out.is_empty());
    }

    #[test]
    fn rules_of_a_type_that_is_not_named_count_for_nothing() {
        let spec = json!({"podSelector": {}, "policyTypes": ["Ingress"], "egress": [{}]});
        let network = network(&[("in", spec)]);
        assert_eq!(network.closed_in, names(&["in"]));
        assert!(network.opened_by.is_empty());
    }
}
