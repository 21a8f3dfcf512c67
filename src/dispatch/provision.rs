//! How a pool's sandboxes are started and deleted.

use std::sync::Arc;

use tokio::{sync::watch, time::Instant};

use crate::{
    backend::{Backend, SandboxId},
    metrics::PoolMetrics,
    pool::{Provision, Provisioned},
    sandbox::{Preparation, Sandbox},
};

/// A backend, and what is done in each of its sandboxes before it is idle.
pub struct SandboxProvision {
    /// Where the sandboxes come from.
    pub backend: Arc<dyn Backend>,
    /// What makes them warm.
    pub preparation: Preparation,
    /// Where starts, deletions and reattaches are counted.
    pub metrics: Arc<PoolMetrics>,
}

impl Provision for SandboxProvision {
    type Sandbox = Sandbox;

    async fn start(&self, id: &SandboxId) -> Result<Provisioned<Sandbox>, String> {
        let PoolMetrics {
            starts, reattaches, ..
        } = &*self.metrics;
        starts.begin();
        let begun = Instant::now();
        let sandbox = Sandbox::start(
            self.backend.clone(),
            id.clone(),
            &self.preparation,
            reattaches.clone(),
        )
        .await
        .map_err(|failure| {
            starts.fail();
            tracing::warn!(sandbox = %id, reason = %failure, "sandbox did not start");
            failure.to_string()
        })?;
        self.metrics.warm(begun.elapsed());
        let death = sandbox.death();
        Ok(Provisioned {
            connected: sandbox.connected(),
            sandbox,
            gone: Box::pin(async move { death.await.to_string() }),
        })
    }

    fn refusal(&self) -> watch::Receiver<Option<String>> {
        self.backend.refusal()
    }

    fn is_connected(idle: &Sandbox) -> bool {
        idle.is_connected()
    }

    async fn delete(&self, id: &SandboxId) -> Result<(), String> {
        self.metrics.deletes.begin();
        self.backend.delete(id).await.map_err(|error| {
            self.metrics.deletes.fail();
            tracing::warn!(sandbox = %id, %error, "sandbox is not deleted yet");
            error.to_string()
        })
    }
}
