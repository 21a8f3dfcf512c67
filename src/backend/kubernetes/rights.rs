//! What an account may do in a cluster. The one list of it: deploy/base/rights.yaml grants these and
//! no more, and `sandpool doctor` asks for them.

use std::fmt;

use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use kube::{Api, Client, api::PostParams};

use super::client::{REQUEST_TIMEOUT, RequestError, answer};

/// One verb on one kind of object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Right {
    /// What is done, as Kubernetes calls it.
    pub verb: &'static str,
    /// The API group; "" is core.
    pub group: &'static str,
    /// The kind of object, in the plural; pods/exec is one, too.
    pub resource: &'static str,
    /// Where.
    pub scope: Scope,
}

/// Where a right holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// In the sandboxes' namespace.
    Namespace,
    /// For objects that are of no namespace.
    Cluster,
}

const fn namespaced(verb: &'static str, group: &'static str, resource: &'static str) -> Right {
    Right {
        verb,
        group,
        resource,
        scope: Scope::Namespace,
    }
}

const fn cluster_wide(verb: &'static str, group: &'static str, resource: &'static str) -> Right {
    Right {
        verb,
        group,
        resource,
        scope: Scope::Cluster,
    }
}

const LEASES: &str = "coordination.k8s.io";

/// Makes pods: without it a dry run tells nothing.
pub const CREATE_PODS: Right = namespaced("create", "", "pods");

/// Whether the sandboxes' network is closed.
pub(super) const LIST_POLICIES: Right = namespaced("list", "networking.k8s.io", "networkpolicies");

/// What the server cannot do without.
pub const SERVER: [Right; 11] = [
    namespaced("list", "", "pods"),
    namespaced("watch", "", "pods"),
    CREATE_PODS,
    namespaced("delete", "", "pods"),
    // An exec: Kubernetes 1.35 and later want create, earlier ones get.
    namespaced("get", "", "pods/exec"),
    namespaced("create", "", "pods/exec"),
    namespaced("list", LEASES, "leases"),
    namespaced("create", LEASES, "leases"),
    namespaced("patch", LEASES, "leases"),
    namespaced("delete", LEASES, "leases"),
    LIST_POLICIES,
];

/// What access.kubernetes needs, too.
pub const CREATE_TOKEN_REVIEWS: Right =
    cluster_wide("create", "authentication.k8s.io", "tokenreviews");

// What only the doctor reads. A namespace counts as being in itself.
pub(super) const GET_NAMESPACE: Right = namespaced("get", "", "namespaces");
pub(super) const LIST_QUOTAS: Right = namespaced("list", "", "resourcequotas");
pub(super) const GET_RUNTIME_CLASSES: Right = cluster_wide("get", "node.k8s.io", "runtimeclasses");

impl fmt::Display for Right {
    /// As `kubectl auth can-i` takes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verb, self.resource)?;
        if self.group.is_empty() {
            return Ok(());
        }
        write!(f, ".{}", self.group)
    }
}

/// Whether the account that `client` shows has `right`, as the API server sees it.
pub(super) async fn has(
    client: &Client,
    namespace: &str,
    right: Right,
) -> Result<bool, RequestError> {
    let (resource, subresource) = match right.resource.split_once('/') {
        Some((resource, subresource)) => (resource, Some(subresource)),
        None => (right.resource, None),
    };
    let attributes = ResourceAttributes {
        verb: Some(right.verb.to_owned()),
        group: Some(right.group.to_owned()),
        resource: Some(resource.to_owned()),
        subresource: subresource.map(str::to_owned),
        namespace: match right.scope {
            Scope::Namespace => Some(namespace.to_owned()),
            Scope::Cluster => None,
        },
        ..ResourceAttributes::default()
    };
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(attributes),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    };
    let reviews: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    let parameters = PostParams::default();
    let reviewed = answer(REQUEST_TIMEOUT, reviews.create(&parameters, &review)).await?;
    Ok(reviewed.status.is_some_and(|status| status.allowed))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    /// (kind of role, its name, verb, group, resource)
    type Granted = (String, String, String, String, String);

    fn granted() -> BTreeSet<Granted> {
        let text = include_str!("../../../deploy/base/rights.yaml");
        let objects: Vec<Value> = serde_saphyr::from_multiple(text).unwrap();
        let mut granted = BTreeSet::new();
        for object in objects {
            let name = object["metadata"]["name"].as_str().unwrap();
            let kind = object["kind"].as_str().unwrap();
            let Some(rules) = object["rules"].as_array() else {
                assert!(!kind.ends_with("Role"), "{kind} {name} has no rules");
                continue;
            };
            for rule in rules {
                let of = |key: &str| {
                    let texts = rule[key].as_array().unwrap().iter();
                    texts.map(|text| text.as_str().unwrap().to_owned())
                };
                for group in of("apiGroups") {
                    for resource in of("resources") {
                        granted.extend(of("verbs").map(|verb| {
                            (
                                kind.to_owned(),
                                name.to_owned(),
                                verb,
                                group.clone(),
                                resource.clone(),
                            )
                        }));
                    }
                }
            }
        }
        granted
    }

    #[test]
    fn the_manifest_grants_what_is_used_and_no_more() {
        let role = |name: &str, rights: &[Right]| -> Vec<Granted> {
            let of = |right: &Right| {
                let kind = match right.scope {
                    Scope::Namespace => "Role",
                    Scope::Cluster => "ClusterRole",
                };
                let [verb, group, resource] = [right.verb, right.group, right.resource];
                [kind, name, verb, group, resource]
                    .map(str::to_owned)
                    .into()
            };
            rights.iter().map(of).collect()
        };
        let doctor = [GET_NAMESPACE, LIST_QUOTAS, GET_RUNTIME_CLASSES];
        let used = [
            role("sandpool", &SERVER),
            role("sandpool-token-reviews", &[CREATE_TOKEN_REVIEWS]),
            role("sandpool-doctor", &doctor),
        ];
        assert_eq!(granted(), used.into_iter().flatten().collect());
    }

    #[test]
    fn a_right_is_said_as_kubectl_says_it() {
        let said = |right: Right| right.to_string();
        assert_eq!(said(SERVER[5]), "create pods/exec");
        assert_eq!(said(SERVER[8]), "patch leases.coordination.k8s.io");
    }
}
