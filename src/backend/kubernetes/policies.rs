//! The NetworkPolicies of the sandboxes' namespace: as they are when a pod is made, and while it
//! waits.

use std::{
    sync::{Arc, Mutex as StdMutex, PoisonError},
    time::Duration,
};

use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::{Api, Client, api::ListParams};
use tokio::{
    sync::{Mutex, watch},
    time::{Instant, MissedTickBehavior, interval},
};

use super::{
    client::{REQUEST_TIMEOUT, RequestError, answer},
    network::{Labels, Network},
};
use crate::backend::StartError;

/// How old the list may be: a pool that is filled makes many pods a second. How often it is looked at
/// for those that wait, too.
const FRESH: Duration = Duration::from_secs(10);

/// The namespace's policies.
pub(super) struct Policies {
    api: Api<NetworkPolicy>,
    listed: Mutex<Option<Listed>>,
    followed: StdMutex<Vec<Followed>>,
}

/// Pods with these labels, and what opens their network.
struct Followed {
    labels: Labels,
    opened: watch::Sender<Option<String>>,
}

struct Listed {
    at: Instant,
    policies: Arc<[NetworkPolicy]>,
}

impl Policies {
    pub(super) fn new(client: Client, namespace: &str) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            listed: Mutex::new(None),
            followed: StdMutex::default(),
        }
    }

    /// Why nothing may run in pods with these labels any more, as [`Policies::follow`] sees it.
    pub(super) fn refusal(&self, labels: Labels) -> watch::Receiver<Option<String>> {
        let (opened, refusal) = watch::channel(None);
        let followed = Followed { labels, opened };
        self.followed().push(followed);
        refusal
    }

    fn followed(&self) -> std::sync::MutexGuard<'_, Vec<Followed>> {
        self.followed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks again and again, for as long as it is polled.
    pub(super) async fn follow(&self) {
        let mut rounds = interval(FRESH);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            rounds.tick().await;
            let policies = self.list(Duration::ZERO).await;
            if let Err(error) = &policies {
                tracing::warn!(%error, "cannot list the NetworkPolicies");
                // An API server that is away says nothing of them; one that keeps them from this
                // server does.
                if error.code() != Some(403) {
                    continue;
                }
            }
            for Followed { labels, opened } in &*self.followed() {
                let reason = match &policies {
                    Ok(policies) => check(policies, labels.clone()).err(),
                    Err(error) => Some(cannot_list(error)),
                };
                let reason = reason.map(|error| error.to_string());
                opened.send_if_modified(|old| {
                    let is_new = *old != reason;
                    *old = reason;
                    is_new
                });
            }
        }
    }

    /// Makes sure that they close the network of a pod with these labels. Whether they are enforced, it
    /// tries itself once it runs.
    ///
    /// # Errors
    /// When they do not, when the account may not list them, and when the API server does not answer.
    pub(super) async fn check(&self, labels: Labels) -> Result<(), StartError> {
        let policies = self.list(FRESH).await;
        check(&policies.map_err(|error| cannot_list(&error))?, labels)
    }

    async fn list(&self, max_age: Duration) -> Result<Arc<[NetworkPolicy]>, RequestError> {
        let mut listed = self.listed.lock().await;
        if let Some(Listed { at, policies }) = &*listed
            && at.elapsed() < max_age
        {
            return Ok(policies.clone());
        }
        let at = Instant::now();
        let list = answer(REQUEST_TIMEOUT, self.api.list(&ListParams::default())).await?;
        let policies: Arc<[NetworkPolicy]> = list.items.into();
        *listed = Some(Listed {
            at,
            policies: policies.clone(),
        });
        Ok(policies)
    }
}

fn check(policies: &[NetworkPolicy], labels: Labels) -> Result<(), StartError> {
    match Network::new(policies, &[labels]).open() {
        Some(open) => Err(StartError::NetworkOpen(open.to_string())),
        None => Ok(()),
    }
}

fn cannot_list(error: &RequestError) -> StartError {
    StartError::Failed {
        step: "list the NetworkPolicies",
        reason: error.to_string(),
    }
}
