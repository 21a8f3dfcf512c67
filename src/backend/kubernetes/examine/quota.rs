//! Whether the pods of a server fit into the quotas of their namespace.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ResourceQuota, ResourceQuotaSpec};
use serde_json::{Map, Value};

use super::super::quantity::{NotAQuantity, Quantity};

/// What pods take of a quota, by the names that quotas have for it: pods, requests.cpu,
/// limits.memory and so on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs(BTreeMap<String, Quantity>);

impl Needs {
    /// Of one pod, as Kubernetes counts: its containers together or, where that is more, the largest
    /// of its init containers, which run before; and the overhead of its RuntimeClass.
    pub(super) fn of(pod: &Value) -> Result<Self, NotAQuantity> {
        let mut needs = BTreeMap::from([("pods".to_owned(), Quantity::ONE)]);
        let spec = &pod["spec"];
        for kind in ["requests", "limits"] {
            let mut together = BTreeMap::new();
            for (resource, quantity) in resources(&spec["containers"], kind)? {
                add(&mut together, resource, quantity);
            }
            for (resource, quantity) in resources(&spec["initContainers"], kind)? {
                let largest = together.entry(resource).or_default();
                *largest = quantity.max(*largest);
            }
            for (resource, quantity) in quantities(&spec["overhead"])? {
                add(&mut together, resource, quantity);
            }
            for (resource, quantity) in together {
                needs.insert(format!("{kind}.{resource}"), quantity);
            }
        }
        Ok(Self(needs))
    }

    /// Adds `count` pods that need `other` each.
    pub fn add(&mut self, other: &Self, count: u32) {
        for (resource, quantity) in &other.0 {
            add(&mut self.0, resource.clone(), *quantity * count);
        }
    }

    /// `resource`: as a quota names it.
    fn get(&self, resource: &str) -> Option<Quantity> {
        let name = match resource {
            "count/pods" => "pods",
            "cpu" => "requests.cpu",
            "memory" => "requests.memory",
            "ephemeral-storage" => "requests.ephemeral-storage",
            other => other,
        };
        self.0.get(name).copied()
    }
}

fn add(to: &mut BTreeMap<String, Quantity>, resource: String, quantity: Quantity) {
    let sum = to.entry(resource).or_default();
    *sum = *sum + quantity;
}

/// The requests or limits of all of the containers, one after the other.
fn resources(containers: &Value, kind: &str) -> Result<Vec<(String, Quantity)>, NotAQuantity> {
    let containers = containers.as_array().into_iter().flatten();
    let each = containers.map(|container| quantities(&container["resources"][kind]));
    Ok(each.collect::<Result<Vec<_>, _>>()?.concat())
}

fn quantities(map: &Value) -> Result<Vec<(String, Quantity)>, NotAQuantity> {
    let entries = map.as_object().into_iter().flat_map(Map::iter);
    entries
        .map(|(resource, value)| {
            // A number may stand without quotes.
            let text = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            Ok((resource.clone(), text.parse()?))
        })
        .collect()
}

/// One line of a quota that counts for sandboxes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuotaLine {
    /// The quota's name.
    pub quota: String,
    /// What it bounds: pods, limits.memory and so on.
    pub resource: String,
    /// What all pools need when each has all of its sandboxes.
    pub needed: Quantity,
    /// How much there may be.
    pub hard: Quantity,
    /// How much of it is taken now, by whomever.
    pub used: Quantity,
}

impl QuotaLine {
    /// Whether all sandboxes would have room, if nothing else took any.
    #[must_use]
    pub fn fits(&self) -> bool {
        self.needed <= self.hard
    }
}

/// What the quotas bound of that which is needed.
pub(super) fn lines(
    quotas: Vec<ResourceQuota>,
    needs: &Needs,
) -> Result<Vec<QuotaLine>, NotAQuantity> {
    let mut lines = Vec::new();
    for quota in quotas {
        let spec = quota.spec.unwrap_or_default();
        if !applies(&spec) {
            continue;
        }
        let name = quota.metadata.name.unwrap_or_default();
        let used = quota.status.unwrap_or_default().used.unwrap_or_default();
        for (resource, hard) in spec.hard.unwrap_or_default() {
            let Some(needed) = needs.get(&resource) else {
                continue;
            };
            let used = used.get(&resource).map(|it| it.0.parse()).transpose()?;
            lines.push(QuotaLine {
                quota: name.clone(),
                resource,
                needed,
                hard: hard.0.parse()?,
                // Not counted yet where it is new.
                used: used.unwrap_or_default(),
            });
        }
    }
    Ok(lines)
}

/// Whether a quota counts sandboxes: they have a deadline, limits, and no priority class.
fn applies(spec: &ResourceQuotaSpec) -> bool {
    let scopes = spec.scopes.iter().flatten();
    let selected = spec
        .scope_selector
        .iter()
        .flat_map(|selector| selector.match_expressions.iter().flatten());
    scopes
        .map(|scope| (scope.as_str(), "Exists"))
        .chain(selected.map(|it| (it.scope_name.as_str(), it.operator.as_str())))
        .all(|scope| {
            matches!(
                scope,
                ("Terminating" | "NotBestEffort", _) | ("PriorityClass", "NotIn" | "DoesNotExist")
            )
        })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn quantity(text: &str) -> Quantity {
        text.parse().unwrap()
    }

    fn pod() -> Value {
        let resources = |cpu: &str, memory: &str| {
            json!({"resources": {
                "requests": {"cpu": cpu, "memory": memory},
                "limits": {"memory": memory},
            }})
        };
        json!({"spec": {
            "initContainers": [resources("100m", "3Gi")],
            "containers": [resources("250m", "1Gi"), resources("250m", "1Gi")],
            "overhead": {"cpu": "50m"},
        }})
    }

    fn quota(spec: Value) -> ResourceQuota {
        serde_json::from_value(json!({
            "metadata": {"name": "sandboxes"}, "spec": spec, "status": {"used": {"pods": "2"}},
        }))
        .unwrap()
    }

    fn needs(count: u32) -> Needs {
        let mut needs = Needs::default();
        needs.add(&Needs::of(&pod()).unwrap(), count);
        needs
    }

    #[test]
    fn a_pod_needs_its_containers_together_or_its_largest_init_container() {
        let needs = needs(2);
        for (resource, needed) in [
            ("pods", "2"),
            ("count/pods", "2"),
            ("cpu", "1.1"),
            ("requests.cpu", "1.1"),
            ("memory", "6Gi"),
            ("limits.memory", "6Gi"),
        ] {
            assert_eq!(needs.get(resource), Some(quantity(needed)), "{resource}");
        }
        assert_eq!(needs.get("configmaps"), None);
    }

    #[test]
    fn each_line_of_a_quota_is_compared() {
        let hard = json!({"pods": "5", "limits.memory": "14Gi", "configmaps": "1"});
        let lines = lines(vec![quota(json!({"hard": hard}))], &needs(5)).unwrap();
        let said: Vec<_> = lines
            .iter()
            .map(|line| (line.resource.as_str(), line.used, line.fits()))
            .collect();
        let none = Quantity::default();
        assert_eq!(
            said,
            [
                ("limits.memory", none, false),
                ("pods", quantity("2"), true)
            ]
        );
        assert_eq!(lines[0].needed, quantity("15Gi"));
        assert_eq!(lines[0].hard, quantity("14Gi"));
    }

    #[test]
    fn a_quota_for_other_pods_does_not_count() {
        let counts = |scope: Value| {
            let mut spec = json!({"hard": {"pods": "5"}});
            spec.as_object_mut()
                .unwrap()
                .extend(scope.as_object().unwrap().clone());
            !lines(vec![quota(spec)], &needs(1)).unwrap().is_empty()
        };
        let priority = |operator: &str| {
            json!({"scopeSelector": {"matchExpressions":
                [{"scopeName": "PriorityClass", "operator": operator, "values": ["high"]}]}})
        };
        assert!(counts(json!({})));
        assert!(counts(json!({"scopes": ["Terminating", "NotBestEffort"]})));
        assert!(counts(priority("NotIn")));
        assert!(!counts(json!({"scopes": ["Terminating", "BestEffort"]})));
        assert!(!counts(json!({"scopes": ["NotTerminating"]})));
        assert!(!counts(priority("In")));
    }

    #[test]
    fn a_quantity_that_cannot_be_read_is_told() {
        assert!(lines(vec![quota(json!({"hard": {"pods": "many"}}))], &needs(1)).is_err());
    }
}
