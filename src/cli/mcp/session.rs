//! What lives as long as the session: the connection, the contexts of its sandboxes, and the sandboxes themselves.

use std::{
    collections::{HashMap, HashSet},
    error::Error,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{sync, task::JoinSet, time::timeout};
use tonic::{Code, Status};

use super::{
    connection::{Connector, Link, was_not_sent},
    log::Log,
    trouble::Trouble,
};
use crate::{
    cli::{
        client::{ClientError, Connection, ServerArgs},
        sandboxes,
    },
    proto::v1::{
        CreateContextRequest, DeleteContextRequest, DeleteSandboxRequest, GetSandboxRequest,
        sandbox_service_client::SandboxServiceClient,
    },
};

/// The label of sandboxes that end with the session, whose value is the session's own.
const LABEL: &str = "mcp-session";
/// How long the end may take. What is left then ends by its idle timeout.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// A context of one sandbox, which the first cell makes.
type Slot = Arc<sync::Mutex<Option<String>>>;

/// One client's session.
pub(super) struct Session {
    connector: Connector,
    pool: String,
    log: Log,
    id: String,
    contexts: Mutex<HashMap<String, Slot>>,
    /// Whether a sandbox or a context may be there that is the session's.
    makes: AtomicBool,
}

impl Session {
    pub(super) fn new(server: ServerArgs, pool: String, log: Log) -> Self {
        Self {
            connector: Connector::new(server),
            pool,
            log,
            id: format!("{:016x}", rand::random::<u64>()),
            contexts: Mutex::default(),
            makes: AtomicBool::new(false),
        }
    }

    /// The pool that sandboxes are taken from; "": the server's default.
    pub(super) fn pool(&self) -> &str {
        &self.pool
    }

    /// What the session's own sandboxes are labelled with.
    pub(super) fn labels(&self) -> HashMap<String, String> {
        [(LABEL.to_owned(), self.id.clone())].into()
    }

    /// There will be something to delete at the end: said before it is asked for, since an answer may be lost.
    pub(super) fn will_make(&self) {
        self.makes.store(true, Ordering::Relaxed);
    }

    /// Says so at once if there is no server; calls will try again.
    pub(super) async fn tell_if_away(self: Arc<Self>) {
        if let Err(error) = self.link().await {
            self.log.say(format_args!(
                "{error}: the tools will say the same until there is one"
            ));
        }
    }

    /// The connection, which is made when there is none.
    pub(super) async fn link(&self) -> Result<Link, Trouble> {
        self.connector.link().await.map_err(Trouble::Server)
    }

    /// Why a call failed: by the server's own word, or because it is away.
    pub(super) async fn trouble(&self, link: &Link, status: Status) -> Trouble {
        // What a connection that broke says has a source; what a server says has none.
        let Some(source) = status.source() else {
            return Trouble::Refused(Box::new(status));
        };
        let broke = source.to_string();
        let was_sent = !was_not_sent(source);
        match self.connector.instead_of(link).await {
            Ok(_) if was_sent => Trouble::Broken(broke),
            Ok(_) => Trouble::NotSent(broke),
            Err(away) if was_sent => Trouble::Away(away),
            Err(away) => Trouble::Server(away),
        }
    }

    /// The context that keeps the state of a sandbox's Python; made when there is none.
    pub(super) async fn context(&self, sandbox_id: &str) -> Result<String, Trouble> {
        let slot = self
            .slots()
            .entry(sandbox_id.to_owned())
            .or_default()
            .clone();
        let mut held = slot.lock().await;
        if let Some(context_id) = &*held {
            return Ok(context_id.clone());
        }
        let created = self.create_context(sandbox_id).await;
        match &created {
            Ok(context_id) => *held = Some(context_id.clone()),
            Err(_) => {
                drop(held);
                self.drop_unused(sandbox_id, &slot);
            }
        }
        created
    }

    async fn create_context(&self, sandbox_id: &str) -> Result<String, Trouble> {
        let request = CreateContextRequest {
            sandbox_id: sandbox_id.to_owned(),
            ..CreateContextRequest::default()
        };
        let link = self.link().await?;
        self.will_make();
        let mut client = SandboxServiceClient::new(link.connection());
        match client.create_context(request).await {
            Ok(created) => Ok(created.into_inner().context_id),
            Err(status) => Err(self.trouble(&link, status).await),
        }
    }

    /// Whether there is such a sandbox.
    pub(super) async fn has_sandbox(&self, sandbox_id: &str) -> Result<bool, Trouble> {
        let request = GetSandboxRequest {
            sandbox_id: sandbox_id.to_owned(),
        };
        let link = self.link().await?;
        let mut client = SandboxServiceClient::new(link.connection());
        match client.get_sandbox(request).await {
            Ok(_) => Ok(true),
            Err(status) if status.code() == Code::NotFound => Ok(false),
            Err(status) => Err(self.trouble(&link, status).await),
        }
    }

    /// The next cell of this sandbox gets a new context, unless it has another one than this already.
    pub(super) async fn forget_context(&self, sandbox_id: &str, context_id: &str) {
        let Some(slot) = self.slots().get(sandbox_id).cloned() else {
            return;
        };
        let mut held = slot.lock().await;
        if held.as_deref() == Some(context_id) {
            *held = None;
            drop(held);
            self.drop_unused(sandbox_id, &slot);
        }
    }

    /// Of a sandbox that is gone.
    pub(super) fn forget_sandbox(&self, sandbox_id: &str) {
        self.slots().remove(sandbox_id);
    }

    /// Sandboxes that are gone, or never were, leave nothing. Whoever waits for the slot keeps it: what is put into
    /// one that the map does not have would be lost.
    fn drop_unused(&self, sandbox_id: &str, slot: &Slot) {
        let mut slots = self.slots();
        let is_ours = slots
            .get(sandbox_id)
            .is_some_and(|it| Arc::ptr_eq(it, slot));
        // The map's, and the caller's.
        if is_ours && Arc::strong_count(slot) == 2 {
            slots.remove(sandbox_id);
        }
    }

    fn slots(&self) -> std::sync::MutexGuard<'_, HashMap<String, Slot>> {
        // Nothing that holds it can panic halfway.
        self.contexts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Deletes the session's sandboxes, and its contexts in those of others.
    pub(super) async fn close(&self) {
        if !self.makes.load(Ordering::Relaxed) {
            return;
        }
        // Over a connection of its own: that of the calls may have broken.
        let delete = async { self.delete_all(self.connector.fresh().await?).await };
        let left = match timeout(CLOSE_TIMEOUT, delete).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "deleting them took too long".to_owned(),
        };
        self.log.say(format_args!(
            "sandboxes of this session may be left: {left}"
        ));
    }

    async fn delete_all(&self, connection: Connection) -> Result<(), ClientError> {
        let client = SandboxServiceClient::new(connection);
        let listed = sandboxes::list(client.clone(), self.labels()).await?;
        let own: HashSet<_> = listed
            .sandboxes
            .into_iter()
            .map(|it| it.sandbox_id)
            .collect();
        let mut deletions = JoinSet::new();
        let slots = std::mem::take(&mut *self.slots());
        for (sandbox_id, slot) in slots {
            let context_id = slot.lock().await.take();
            if let Some(context_id) = context_id.filter(|_| !own.contains(&sandbox_id)) {
                let mut client = client.clone();
                let request = DeleteContextRequest {
                    sandbox_id,
                    context_id,
                };
                deletions.spawn(async move { client.delete_context(request).await.map(drop) });
            }
        }
        for sandbox_id in own {
            let mut client = client.clone();
            let request = DeleteSandboxRequest { sandbox_id };
            deletions.spawn(async move { client.delete_sandbox(request).await.map(drop) });
        }
        let mut outcome = Ok(());
        while let Some(deleted) = deletions.join_next().await {
            match deleted {
                // What has ended by itself is gone, too.
                Ok(Err(status)) if status.code() != Code::NotFound => outcome = Err(status.into()),
                _ => {}
            }
        }
        outcome
    }
}

#[cfg(test)]
mod tests {

    use super::*;

    fn session() -> Session {
        let server = ServerArgs::of(&[]);
        Session::new(server, String::new(), Log::start().unwrap())
    }

    fn slot(session: &Session, context_id: &str) -> Slot {
        let slot = Slot::new(sync::Mutex::new(Some(context_id.to_owned())));
        session.slots().insert("s".to_owned(), slot.clone());
        slot
    }

    #[tokio::test]
    async fn only_the_context_that_has_ended_is_forgotten() {
        let session = session();
        drop(slot(&session, "new"));
        session.forget_context("s", "old").await;
        assert_eq!(session.context("s").await.unwrap(), "new");
        session.forget_context("s", "new").await;
        assert!(session.slots().is_empty());
    }

    #[tokio::test]
    async fn a_slot_that_another_cell_waits_for_is_kept() {
        let session = session();
        let waits = slot(&session, "a");
        session.forget_context("s", "a").await;
        assert!(Arc::ptr_eq(&session.slots()["s"], &waits));
        assert!(waits.lock().await.is_none());
    }
}
