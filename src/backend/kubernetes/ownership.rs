//! Whose a pod is: each server has a Lease (coordination.k8s.io/v1), its pods carry its name, and
//! what belongs to nobody is deleted. Nothing is adopted: such a pod may have been used.
//!
//! A server is dead when its Lease has not changed for the whole duration, by the observer's own
//! monotonic clock, while the API server answered. No clock is compared with another's.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use k8s_openapi::{
    api::{coordination::v1::Lease, core::v1::Pod},
    apimachinery::pkg::apis::meta::v1::MicroTime,
    jiff::Timestamp,
};
use kube::{
    Api, Client, Error,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions},
};
use serde_json::json;
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval},
};

use super::{
    client::{REQUEST_TIMEOUT, RequestError, answer},
    pod::label,
    pods::Pods,
};

/// How long a Lease may stay unchanged before its server counts as dead.
const DURATION: Duration = Duration::from_secs(15);
/// How often a Lease is renewed, and the others' are looked at.
const ROUND: Duration = Duration::from_secs(4);
/// A server that could not renew for so long leases nothing more: another one may come to think that
/// it is dead.
const FENCED_AFTER: Duration = Duration::from_secs(10);
/// Pods whose owner has no Lease are rare, and all pods have to be listed to find them.
const BETWEEN_LISTS: Duration = Duration::from_secs(300);
/// What the servers' Leases are labelled with (label::NAME).
const SERVER: &str = "sandpool-server";

/// This server's Lease, and what it does about the dead.
pub(super) struct Ownership {
    leases: Api<Lease>,
    pods: Api<Pod>,
    deleting: Arc<Pods>,
    owner: String,
    /// When the request was sent that last renewed the Lease.
    renewed: Mutex<Instant>,
    /// Whether another server took this one for dead: its pods are being deleted.
    lost: watch::Sender<bool>,
}

impl Ownership {
    /// Takes out the Lease. No pod of `owner` may be made before.
    pub(super) async fn take(
        client: Client,
        namespace: &str,
        owner: &str,
        deleting: Arc<Pods>,
    ) -> Result<Self, RequestError> {
        let ownership = Self {
            leases: Api::namespaced(client.clone(), namespace),
            pods: Api::namespaced(client, namespace),
            deleting,
            owner: owner.to_owned(),
            renewed: Mutex::new(Instant::now()),
            lost: watch::Sender::new(false),
        };
        answer(REQUEST_TIMEOUT, ownership.create()).await?;
        Ok(ownership)
    }

    async fn create(&self) -> Result<(), Error> {
        let now = MicroTime(Timestamp::now());
        let lease = serde_json::from_value(json!({
            "metadata": {
                "name": name(&self.owner),
                "labels": {label::NAME: SERVER, label::OWNER: self.owner},
            },
            "spec": {
                "holderIdentity": self.owner,
                "leaseDurationSeconds": DURATION.as_secs(),
                "acquireTime": now,
                "renewTime": now,
            },
        }))
        .map_err(Error::SerdeError)?;
        self.leases.create(&PostParams::default(), &lease).await?;
        Ok(())
    }

    /// Whether this server may still lease: its pods are its own.
    pub(super) fn holds(&self) -> bool {
        self.renewed().elapsed() < FENCED_AFTER && !*self.lost.borrow()
    }

    /// When the request was sent that last renewed the Lease.
    pub(super) fn renewed(&self) -> Instant {
        *self.renewed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Resolves once another server has taken this one for dead. There is no way back then.
    pub(super) async fn lost(&self) {
        // The sender is this very value.
        let _ = self.lost.subscribe().wait_for(|lost| *lost).await;
    }

    /// Renews the Lease for as long as it is polled.
    pub(super) async fn renew(self: Arc<Self>) {
        let mut rounds = interval(ROUND);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            rounds.tick().await;
            let sent = Instant::now();
            // A request that takes longer than this is of no use.
            match answer(ROUND, self.renew_once()).await {
                Ok(()) => {
                    *self.renewed.lock().unwrap_or_else(PoisonError::into_inner) = sent;
                }
                Err(error) if error.code() == Some(404) => {
                    tracing::error!("another server took this one for dead");
                    self.lost.send_replace(true);
                    return;
                }
                Err(error) => tracing::warn!(%error, "the Lease was not renewed"),
            }
        }
    }

    async fn renew_once(&self) -> Result<(), Error> {
        let patch = json!({"spec": {"renewTime": MicroTime(Timestamp::now())}});
        let (name, patch) = (name(&self.owner), Patch::Merge(patch));
        let parameters = PatchParams::default();
        self.leases.patch(&name, &parameters, &patch).await?;
        Ok(())
    }

    /// Gives the Lease back, once there is no pod any more.
    pub(super) async fn give_back(&self) -> Result<(), RequestError> {
        self.delete_lease(&self.owner, None).await
    }

    /// Deletes what dead servers left, for as long as it is polled.
    pub(super) async fn bury(self: Arc<Self>) {
        let mut rounds = interval(ROUND);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut observed = Observed::default();
        let mut looked_at = Instant::now();
        let mut without_lease = HashSet::new();
        let mut next_list = Instant::now();
        loop {
            rounds.tick().await;
            // The pods first: whoever made one that is listed had its Lease before.
            if Instant::now() >= next_list {
                match answer(REQUEST_TIMEOUT, self.owners_of_pods()).await {
                    Ok(owners) => {
                        without_lease = owners;
                        next_list = Instant::now() + BETWEEN_LISTS;
                    }
                    Err(error) => tracing::warn!(%error, "cannot list the sandboxes' pods"),
                }
            }
            let versions = match answer(ROUND, self.versions()).await {
                Ok(versions) => versions,
                Err(error) => {
                    tracing::warn!(%error, "cannot list the servers' Leases");
                    continue;
                }
            };
            // Nobody is dead who may have had no chance to say otherwise: while the API server did
            // not answer, or took no renewals, this server's own included.
            if looked_at.elapsed() > ROUND * 2 || !self.holds() {
                observed = Observed::default();
            }
            looked_at = Instant::now();
            let mut all: HashMap<_, _> = without_lease
                .iter()
                .map(|owner: &String| (owner.clone(), None))
                .collect();
            all.extend(versions.into_iter().map(|(owner, it)| (owner, Some(it))));
            all.remove(&self.owner);
            for dead in observed.dead(Instant::now(), all) {
                // Until its pods have gone.
                without_lease.insert(dead.owner.clone());
                match self.bury_one(&dead).await {
                    Ok(true) => drop(without_lease.remove(&dead.owner)),
                    Ok(false) => {}
                    Err(error) => {
                        tracing::warn!(server = dead.owner, %error, "cannot delete what a dead server left");
                    }
                }
            }
        }
    }

    async fn owners_of_pods(&self) -> Result<HashSet<String>, Error> {
        let ours = format!("{}={}", label::NAME, label::SANDBOX);
        let parameters = ListParams::default().labels(&ours);
        let pods = self.pods.list_metadata(&parameters).await?.items;
        Ok(pods
            .into_iter()
            .filter_map(|pod| pod.metadata.labels?.remove(label::OWNER))
            .collect())
    }

    /// The version of each server's Lease; it changes whenever that is renewed.
    async fn versions(&self) -> Result<HashMap<String, String>, Error> {
        let servers = format!("{}={SERVER}", label::NAME);
        let parameters = ListParams::default().labels(&servers);
        let leases = self.leases.list_metadata(&parameters).await?.items;
        Ok(leases
            .into_iter()
            .filter_map(|lease| {
                let owner = lease.metadata.labels?.remove(label::OWNER)?;
                Some((owner, lease.metadata.resource_version?))
            })
            .collect())
    }

    /// Asks for the end of what a dead server left; whether nothing is left.
    async fn bury_one(&self, dead: &Unchanged) -> Result<bool, RequestError> {
        let owner = &dead.owner;
        if dead.version.is_some() {
            // First of all: from here on it cannot come back, and does not lease what is deleted next.
            self.delete_lease(owner, dead.version.clone()).await?;
        }
        let whose = format!("{}={owner}", label::OWNER);
        let parameters = ListParams::default().labels(&whose);
        let listing = self.pods.list_metadata(&parameters);
        let pods = answer(REQUEST_TIMEOUT, listing).await?.items;
        if pods.is_empty() {
            tracing::info!(server = owner, "deleted all that a dead server left");
            return Ok(true);
        }
        tracing::info!(
            server = owner,
            pods = pods.len(),
            "deleting what a dead server left"
        );
        let mut result = Ok(false);
        for pod in pods {
            let (Some(name), uid) = (pod.metadata.name, pod.metadata.uid) else {
                continue;
            };
            // One that cannot be deleted does not keep the others.
            if let Err(error) = self.deleting.delete(&name, uid).await {
                tracing::warn!(sandbox = %name, %error, "pod is not deleted yet");
                result = Err(error);
            }
        }
        result
    }

    /// `version`: unless the Lease has changed since then.
    async fn delete_lease(&self, owner: &str, version: Option<String>) -> Result<(), RequestError> {
        let parameters = DeleteParams::default().preconditions(Preconditions {
            resource_version: version,
            uid: None,
        });
        let name = name(owner);
        match answer(REQUEST_TIMEOUT, self.leases.delete(&name, &parameters)).await {
            Ok(_) => Ok(()),
            Err(error) if error.code() == Some(404) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn name(owner: &str) -> String {
    format!("sandpool-{owner}")
}

/// Since when which Lease is unchanged.
#[derive(Default)]
struct Observed(HashMap<String, (Option<String>, Instant)>);

/// A server whose Lease has not changed for the whole duration.
#[derive(Debug, PartialEq, Eq)]
struct Unchanged {
    owner: String,
    /// Of the Lease; `None` where there is none.
    version: Option<String>,
}

impl Observed {
    /// Who is dead, going by what all have now: the version of their Lease, or none.
    fn dead(&mut self, now: Instant, all: HashMap<String, Option<String>>) -> Vec<Unchanged> {
        self.0.retain(|owner, _| all.contains_key(owner));
        let mut dead = Vec::new();
        for (owner, version) in all {
            let seen = self
                .0
                .entry(owner.clone())
                .or_insert_with(|| (version.clone(), now));
            if seen.0 != version {
                *seen = (version.clone(), now);
            }
            if now - seen.1 >= DURATION {
                dead.push(Unchanged { owner, version });
            }
        }
        dead
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all<const N: usize>(of: [(&str, Option<&str>); N]) -> HashMap<String, Option<String>> {
        of.into_iter()
            .map(|(owner, version)| (owner.to_owned(), version.map(str::to_owned)))
            .collect()
    }

    fn owners(dead: &[Unchanged]) -> Vec<&str> {
        dead.iter().map(|it| it.owner.as_str()).collect()
    }

    #[test]
    fn a_server_is_dead_when_its_lease_is_unchanged_for_the_whole_duration() {
        let mut observed = Observed::default();
        let start = Instant::now();
        let almost = start + DURATION - Duration::from_millis(1);
        assert!(
            observed
                .dead(start, all([("a", Some("1")), ("b", Some("1"))]))
                .is_empty()
        );
        assert!(
            observed
                .dead(almost, all([("a", Some("1")), ("b", Some("2"))]))
                .is_empty()
        );
        let later = start + DURATION;
        let dead = observed.dead(later, all([("a", Some("1")), ("b", Some("2"))]));
        assert_eq!(owners(&dead), ["a"]);
        assert_eq!(dead[0].version.as_deref(), Some("1"));
    }

    #[test]
    fn an_owner_without_a_lease_is_dead_only_after_the_same_time() {
        let mut observed = Observed::default();
        let start = Instant::now();
        assert!(observed.dead(start, all([("a", None)])).is_empty());
        // It takes its Lease out after all.
        let later = start + DURATION;
        assert!(observed.dead(later, all([("a", Some("1"))])).is_empty());
        let dead = observed.dead(later + DURATION, all([("a", Some("1"))]));
        assert_eq!(owners(&dead), ["a"]);
    }

    #[test]
    fn whoever_was_not_heard_of_for_a_while_is_counted_anew() {
        let mut observed = Observed::default();
        let start = Instant::now();
        assert!(observed.dead(start, all([("a", Some("1"))])).is_empty());
        assert!(observed.dead(start + DURATION, all([])).is_empty());
        let again = start + DURATION * 2;
        assert!(observed.dead(again, all([("a", Some("1"))])).is_empty());
    }

    /// A server stops leasing before another one may think that it is dead.
    #[test]
    fn the_times_fit() {
        const { assert!(FENCED_AFTER.as_secs() * 3 <= DURATION.as_secs() * 2) };
        const { assert!(ROUND.as_secs() * 2 < FENCED_AFTER.as_secs()) };
    }
}
