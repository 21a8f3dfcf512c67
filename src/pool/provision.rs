//! What the pool needs from below: something that starts and deletes sandboxes.

use std::pin::Pin;

use tokio::sync::watch;

use crate::backend::SandboxId;

/// A future on the heap that any thread may poll.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send + 'static>>;

/// Starts and deletes the sandboxes of one pool.
///
/// Neither future may block its thread, not even before its first await: the pool's one task
/// polls each of them once before it gives those that have to wait a task of their own. A panic in
/// one counts as its failure. Whoever implements this logs its errors: the pool keeps only the
/// last start's, for its status.
pub trait Provision: Send + Sync + 'static {
    /// A started, warm sandbox with its connection. Dropping it closes the connection and no more.
    type Sandbox: Send + 'static;

    /// Starts a sandbox and warms it. An error is a reason for people. Whether it fails or the
    /// future is dropped, the pool calls [`Provision::delete`] for what is left, and only then.
    fn start(
        &self,
        id: &SandboxId,
    ) -> impl Future<Output = Result<Provisioned<Self::Sandbox>, String>> + Send;

    /// Why none of its sandboxes may be leased at present, as long as there is such a reason: the pool
    /// then deletes those that are idle. Leases go on.
    fn refusal(&self) -> watch::Receiver<Option<String>> {
        watch::channel(None).1
    }

    /// Whether a program could run in it at once. Where there is another one, that is leased instead.
    /// Asked under the pool's lock: it must not wait.
    fn is_connected(_idle: &Self::Sandbox) -> bool {
        true
    }

    /// Deletes the sandbox and all that was made for it. One that is not there is deleted. An
    /// error is a reason for people; the pool tries again for ever, so the future must end.
    fn delete(&self, id: &SandboxId) -> impl Future<Output = Result<(), String>> + Send;
}

/// What [`Provision::start`] gives.
pub struct Provisioned<S> {
    /// The sandbox, ready to be leased.
    pub sandbox: S,
    /// Ends with the reason once the sandbox is dead and the cause is known. The pool then deletes
    /// it at once, even if it is leased, so nothing may still want to look at the remains.
    pub gone: BoxFuture<String>,
    /// Told whether the sandbox shall keep its connection while it is idle, which it does at first.
    pub connected: watch::Sender<bool>,
}
