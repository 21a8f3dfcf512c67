//! A sandbox in use.

use std::{
    fmt,
    ops::{Deref, DerefMut},
    sync::Arc,
};

use super::{
    provision::Provision,
    shared::{Shared, now},
    state::Number,
};
use crate::backend::SandboxId;

/// The sole right to use a sandbox. Dropping it drops the sandbox and has it deleted, however the
/// request ended: it is never leased again.
pub struct Lease<P: Provision> {
    // In this order: fields are dropped from the top, so the connection is closed first.
    sandbox: P::Sandbox,
    held: Held<P>,
}

struct Held<P: Provision> {
    id: SandboxId,
    number: Number,
    shared: Arc<Shared<P>>,
}

impl<P: Provision> Lease<P> {
    pub(super) fn new(
        sandbox: P::Sandbox,
        id: SandboxId,
        number: Number,
        shared: Arc<Shared<P>>,
    ) -> Self {
        Self {
            sandbox,
            held: Held { id, number, shared },
        }
    }

    /// The sandbox's id.
    #[must_use]
    pub fn id(&self) -> &SandboxId {
        &self.held.id
    }
}

impl<P: Provision> Deref for Lease<P> {
    type Target = P::Sandbox;

    fn deref(&self) -> &P::Sandbox {
        &self.sandbox
    }
}

impl<P: Provision> DerefMut for Lease<P> {
    fn deref_mut(&mut self) -> &mut P::Sandbox {
        &mut self.sandbox
    }
}

impl<P: Provision> fmt::Debug for Lease<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lease({})", self.id())
    }
}

impl<P: Provision> Drop for Held<P> {
    fn drop(&mut self) {
        self.shared
            .update(|inner| inner.state.released(self.number, now()));
    }
}
