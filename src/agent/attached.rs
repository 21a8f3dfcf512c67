//! How many processes have brought the agent a connection and wait for its end.
//!
//! They are of the programs' user, so they count in its limit of processes; after a cut there is one more
//! until the agent notices.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// The number of them.
#[derive(Clone, Default)]
pub(super) struct Attached(Arc<AtomicU64>);

/// One of them, as long as this lives.
pub(super) struct Attachment(Attached);

impl Attached {
    pub(super) fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn one_more(&self) -> Attachment {
        self.0.fetch_add(1, Ordering::Relaxed);
        Attachment(self.clone())
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}
