//! What a cluster's answers mean, and what to do about them.

use std::collections::BTreeSet;

use crate::{
    backend::kubernetes::{
        Quantity,
        examine::{Admission, QuotaLine, Verdict, Version},
        network::{Network, Open},
        rights::{Right, Scope},
    },
    cli::doctor::Finding::{self, Bad, Good},
    config::{ByteSize, Config},
};

/// Major and minor: from here on every cluster has ValidatingAdmissionPolicy.
const OLDEST_KUBERNETES: (u32, u32) = (1, 30);

pub(super) fn version(found: &Version, address: &str) -> Finding {
    let text = format!("Kubernetes {} at {address}", found.text);
    if found
        .number
        .is_some_and(|number| number >= OLDEST_KUBERNETES)
    {
        return Good(text);
    }
    let (major, minor) = OLDEST_KUBERNETES;
    Bad(
        text,
        format!("Sandpool needs Kubernetes {major}.{minor} or later: update the cluster"),
    )
}

/// `needed`: how many there should be.
pub(super) fn rights(needed: usize, missing: &[Right], namespace: &str) -> Vec<Finding> {
    if missing.is_empty() {
        let words = format!("all {needed} that the server uses, in namespace {namespace}");
        return vec![Good(words)];
    }
    let words = |right: &Right| {
        let place = match right.scope {
            Scope::Namespace => format!("in namespace {namespace}"),
            Scope::Cluster => "in the cluster".to_owned(),
        };
        let remedy = "apply deploy/base/rights.yaml, with the server's own service account in it";
        Bad(format!("may not {right} {place}"), remedy.into())
    };
    missing.iter().map(words).collect()
}

pub(super) fn namespace(exists: bool, name: &str) -> Finding {
    if exists {
        return Good(name.to_owned());
    }
    Bad(
        format!("{name} does not exist"),
        "apply deploy/base/sandboxes.yaml, or set backend.kubernetes.namespace".into(),
    )
}

pub(super) fn runtime_class(name: &str, handler: Option<String>) -> Finding {
    match handler {
        Some(handler) => Good(format!("{name} (handler {handler})")),
        None => Bad(
            format!("{name} does not exist"),
            "install gVisor on the nodes and make a RuntimeClass for it \
             (https://gvisor.dev/docs/user_guide/containerd/quick_start/; on GKE, add a node pool \
             with GKE Sandbox), or set pools.NAME.pod.runtime_class"
                .into(),
        ),
    }
}

pub(super) fn network(found: &Network) -> Finding {
    let Some(open) = found.open() else {
        let names: BTreeSet<_> = found.closed_in.iter().chain(&found.closed_out).collect();
        let names: Vec<_> = names.into_iter().map(|name| format!("{name:?}")).collect();
        return Good(format!(
            "{} closes all pods, in and out; whether that is enforced, each sandbox tries",
            names.join(", ")
        ));
    };
    let remedy = match open {
        Open::By(_) => {
            "delete it, or have it select other pods: policies only ever add to each other"
        }
        Open::Direction(_) => "apply deploy/base/sandboxes.yaml",
    };
    Bad(open.to_string(), remedy.into())
}

/// Where the pool's own pod is refused, the refusal of the others may have the same cause.
pub(super) fn admission(found: &Admission, namespace: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Verdict::Refused(reason) = &found.own {
        findings.push(Bad(
            format!("its pod would be refused: {reason}"),
            "change whatever says so: a quota, pod security, a RuntimeClass, an admission policy \
             (deploy/base/admission.yaml names the one RuntimeClass that it allows)"
                .into(),
        ));
    }
    for (verdict, what) in [
        (&found.without_gvisor, "without gVisor"),
        (&found.with_token, "with a service account's token"),
    ] {
        if *verdict == Verdict::Accepted {
            findings.push(Bad(
                format!("a pod {what} would be accepted"),
                format!(
                    "apply deploy/base/admission.yaml, and have it look at the namespace: \
                     kubectl label namespace {namespace} sandpool.dev/sandboxes=true"
                ),
            ));
        }
    }
    if findings.is_empty() {
        let words = "accepts its pods, and none without gVisor or with a service account's token";
        findings.push(Good(words.into()));
    }
    findings
}

pub(super) fn quotas(lines: &[QuotaLine], namespace: &str) -> Finding {
    let words = |lines: Vec<&QuotaLine>| {
        let each = lines.into_iter().map(|line| {
            let amount = |quantity| amount(&line.resource, quantity);
            format!(
                "{} {}: {} needed of {}, {} used now",
                line.quota,
                line.resource,
                amount(line.needed),
                amount(line.hard),
                amount(line.used)
            )
        });
        each.collect::<Vec<_>>().join("; ")
    };
    let short: Vec<_> = lines.iter().filter(|line| !line.fits()).collect();
    if !short.is_empty() {
        let remedy = format!(
            "raise it (kubectl --namespace {namespace} edit resourcequota), or lower max_sandboxes \
             of the pools"
        );
        return Bad(words(short), remedy);
    }
    if lines.is_empty() {
        return Good("none that counts sandboxes".into());
    }
    Good(words(lines.iter().collect()))
}

/// Bytes with their unit, all else as a number.
fn amount(resource: &str, quantity: Quantity) -> String {
    let is_bytes = resource.ends_with("memory") || resource.ends_with("storage");
    match quantity.whole().filter(|_| is_bytes) {
        Some(bytes) => ByteSize::new(bytes).to_string(),
        None => quantity.to_string(),
    }
}

/// What to do where a sandbox of `pool` does not start.
pub(in super::super) fn remedy(config: &Config, pool: &str, reason: &str) -> String {
    let kubernetes = &config.backend.kubernetes;
    let pod = &config.pools[pool].pod;
    let holds = |words: &[&str]| words.iter().any(|words| reason.contains(words));
    // The kubelet's and the scheduler's own words (backend/kubernetes/status.rs).
    if holds(&["ImagePull", "ImageInspectError", "InvalidImageName"]) {
        return format!(
            "see that the nodes can pull {} and {}: their names, the registry, and \
             pools.{pool}.pod.image_pull_secrets",
            pod.image, kubernetes.agent_image
        );
    }
    if holds(&["Unschedulable"]) {
        return format!(
            "see that nodes with gVisor are there and have room: kubectl describe nodes; \
             pools.{pool}.pod has node_selector, tolerations, cpus_requested and memory_requested"
        );
    }
    if holds(&["of the NetworkPolicies"]) {
        return "see \"network policy\" above, or, where gVisor gives its sandboxes no network, set \
                backend.kubernetes.require_network_policy = false"
            .into();
    }
    if holds(&["network is not closed"]) {
        return "use a network plugin that enforces NetworkPolicy, or gVisor without a network \
                (docs/kubernetes.md)"
            .into();
    }
    if holds(&["is not gVisor"]) {
        return format!(
            "have RuntimeClass {} name gVisor's handler: kubectl get runtimeclass {0}",
            pod.runtime_class
        );
    }
    format!(
        "see what the cluster says: kubectl --namespace {} get events",
        kubernetes.namespace
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::kubernetes::{
        examine::Needs,
        rights::{CREATE_PODS, CREATE_TOKEN_REVIEWS, SERVER},
    };

    #[test]
    fn a_version_is_compared_as_numbers() {
        let finding = |number| {
            let text = "v".to_owned();
            matches!(version(&Version { text, number }, "here"), Good(_))
        };
        assert!(finding(Some((1, 30))));
        assert!(finding(Some((2, 0))));
        assert!(!finding(Some((1, 9))));
        assert!(!finding(None));
    }

    #[test]
    fn each_missing_right_has_its_line() {
        let Bad(words, _) = &rights(10, &[SERVER[5]], "sandboxes")[0] else {
            panic!()
        };
        assert_eq!(words, "may not create pods/exec in namespace sandboxes");
        let missing = [CREATE_PODS, CREATE_TOKEN_REVIEWS];
        assert_eq!(rights(11, &missing, "sandboxes").len(), 2);
    }

    #[test]
    fn a_network_must_be_closed_both_ways_and_opened_by_nobody() {
        let names = || vec!["nothing".to_owned()];
        let closed = Network {
            closed_in: names(),
            closed_out: names(),
            opened_by: Vec::new(),
        };
        assert!(matches!(network(&closed), Good(_)));
        for (open, words) in [
            (
                Network {
                    closed_out: Vec::new(),
                    ..closed.clone()
                },
                "lets nothing out",
            ),
            (Network::default(), "lets nothing in or out"),
            (
                Network {
                    opened_by: vec!["dns".into()],
                    ..closed.clone()
                },
                "dns lets something through",
            ),
        ] {
            let Bad(said, _) = network(&open) else {
                panic!("{open:?}")
            };
            assert!(said.contains(words), "{said}");
        }
    }

    #[test]
    fn what_admission_should_refuse_is_told_also_where_it_refuses_the_pools_own() {
        let refused = || Verdict::Refused("no room".into());
        let count = |own, without_gvisor, with_token| {
            let found = Admission {
                own,
                without_gvisor,
                with_token,
                needs: Needs::default(),
            };
            let findings = admission(&found, "sandboxes");
            findings.iter().filter(|it| matches!(it, Bad(..))).count()
        };
        assert_eq!(count(Verdict::Accepted, refused(), refused()), 0);
        assert_eq!(count(refused(), refused(), refused()), 1);
        assert_eq!(count(Verdict::Accepted, Verdict::Accepted, refused()), 1);
        assert_eq!(count(refused(), refused(), Verdict::Accepted), 2);
    }

    #[test]
    fn a_quota_is_told_in_numbers() {
        let line = |resource: &str, needed: &str| QuotaLine {
            quota: "small".into(),
            resource: resource.into(),
            needed: needed.parse().unwrap(),
            hard: "2Gi".parse().unwrap(),
            used: "500m".parse().unwrap(),
        };
        assert_eq!(
            quotas(&[line("pods", "3"), line("limits.memory", "1.5Gi")], "n"),
            Good(
                "small pods: 3 needed of 2147483648, 0.5 used now; \
                 small limits.memory: 1536MiB needed of 2GiB, 0.5 used now"
                    .into()
            )
        );
        let Bad(words, _) = quotas(&[line("pods", "3"), line("memory", "3Gi")], "n") else {
            panic!()
        };
        assert_eq!(words, "small memory: 3GiB needed of 2GiB, 0.5 used now");
    }

    #[test]
    fn the_remedy_follows_from_the_reason() {
        let mut config = Config::default();
        config.backend.kubernetes.agent_image = "registry/agent".into();
        let pool = config.pools.entry("main".into()).or_default();
        pool.pod.image = "registry/python".into();
        for (reason, words) in [
            (
                "cannot start the pod: ErrImagePull: no such image",
                "registry/python and registry/agent",
            ),
            (
                "cannot start the pod: ImagePullBackOff: wait",
                "pools.main.pod.image_pull_secrets",
            ),
            (
                "it still waits for Unschedulable: 0/1 nodes",
                "node_selector",
            ),
            (
                "the sandbox's network is not closed, it reaches 10.0.0.1:443",
                "network plugin",
            ),
            (
                "the sandbox is not gVisor: Linux",
                "RuntimeClass gvisor name",
            ),
            ("anything else", "--namespace sandpool-sandboxes get events"),
        ] {
            let said = remedy(&config, "main", reason);
            assert!(said.contains(words), "{reason}: {said}");
        }
    }
}
