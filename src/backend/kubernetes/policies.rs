//! The NetworkPolicies of the sandboxes' namespace, as they are when a pod is made.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::{Api, Client, api::ListParams};
use tokio::{sync::Mutex, time::Instant};

use super::{
    client::{REQUEST_TIMEOUT, RequestError, answer},
    network::{Labels, Network},
};

/// How old the list may be: a pool that is filled makes many pods a second.
const FRESH: Duration = Duration::from_secs(10);

/// The namespace's policies.
pub(super) struct Policies {
    api: Api<NetworkPolicy>,
    listed: Mutex<Option<Listed>>,
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
        }
    }

    /// What they let through to and from a pod with these labels.
    ///
    /// # Errors
    /// When the account may not list them, or the API server does not answer.
    pub(super) async fn network(&self, labels: Labels) -> Result<Network, RequestError> {
        Ok(Network::new(&self.list().await?, &[labels]))
    }

    async fn list(&self) -> Result<Arc<[NetworkPolicy]>, RequestError> {
        let mut listed = self.listed.lock().await;
        if let Some(Listed { at, policies }) = &*listed
            && at.elapsed() < FRESH
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
