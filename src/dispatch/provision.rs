//! How a pool's sandboxes are started and deleted.

use std::sync::Arc;

use crate::{
    backend::{Backend, SandboxId},
    pool::{Provision, Provisioned},
    sandbox::{Preparation, Sandbox},
};

/// A backend, and what is done in each of its sandboxes before it is idle.
pub struct SandboxProvision {
    /// Where the sandboxes come from.
    pub backend: Arc<dyn Backend>,
    /// What makes them warm.
    pub preparation: Preparation,
}

impl Provision for SandboxProvision {
    type Sandbox = Sandbox;

    async fn start(&self, id: &SandboxId) -> Result<Provisioned<Sandbox>, String> {
        let sandbox = Sandbox::start(self.backend.clone(), id.clone(), &self.preparation)
            .await
            .map_err(|failure| {
                tracing::warn!(sandbox = %id, reason = %failure, "sandbox did not start");
                failure.to_string()
            })?;
        let death = sandbox.death();
        Ok(Provisioned {
            sandbox,
            gone: Box::pin(async move { death.await.to_string() }),
        })
    }

    async fn delete(&self, id: &SandboxId) -> Result<(), String> {
        self.backend.delete(id).await.map_err(|error| {
            tracing::warn!(sandbox = %id, %error, "sandbox is not deleted yet");
            error.to_string()
        })
    }
}
