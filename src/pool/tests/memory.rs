//! Sandboxes that are only names, and fail, hang or die as a test wants.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use tokio::sync::{oneshot, watch};

use crate::{
    backend::SandboxId,
    pool::{Provision, Provisioned},
};

/// How long a start takes; a delete takes half of it.
pub(super) const START: Duration = Duration::from_millis(700);

#[derive(Default)]
pub(super) struct Memory(Mutex<Inner>, Pace);

#[derive(Default)]
enum Pace {
    #[default]
    Timed,
    /// Some starts and deletes end at their first poll, the others soon after.
    Hasty,
}

#[derive(Default)]
struct Inner {
    fail_starts: u32,
    fail_deletes: u32,
    panic_starts: u32,
    panic_deletes: u32,
    hang_starts: bool,
    starting: Vec<String>,
    // With the means to kill it.
    alive: BTreeMap<String, Option<oneshot::Sender<()>>>,
    deleted: Vec<String>,
    deletes: u32,
    deleted_while_starting: u32,
    refusal: watch::Sender<Option<String>>,
}

/// Takes one off, if there is one.
fn take(counter: &mut u32) -> bool {
    let taken = *counter > 0;
    *counter = counter.saturating_sub(1);
    taken
}

impl Memory {
    pub(super) fn hasty() -> Self {
        Self(Mutex::default(), Pace::Hasty)
    }

    async fn work(&self, name: &str, time: Duration) {
        match self.1 {
            Pace::Timed => tokio::time::sleep(time).await,
            Pace::Hasty if name.ends_with(['1', '2', '3']) => tokio::task::yield_now().await,
            Pace::Hasty => {}
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }

    pub(super) fn fail_starts(&self, times: u32) {
        self.inner().fail_starts = times;
    }

    pub(super) fn fail_deletes(&self, times: u32) {
        self.inner().fail_deletes = times;
    }

    pub(super) fn panic_starts(&self, times: u32) {
        self.inner().panic_starts = times;
    }

    pub(super) fn panic_deletes(&self, times: u32) {
        self.inner().panic_deletes = times;
    }

    pub(super) fn hang_starts(&self) {
        self.inner().hang_starts = true;
    }

    pub(super) fn refuse(&self, reason: Option<&str>) {
        self.inner().refusal.send_replace(reason.map(Into::into));
    }

    pub(super) fn kill(&self, id: &str) {
        self.inner()
            .alive
            .get_mut(id)
            .unwrap()
            .take()
            .unwrap()
            .send(())
            .unwrap();
    }

    pub(super) fn alive(&self) -> Vec<String> {
        self.inner().alive.keys().cloned().collect()
    }

    pub(super) fn deleted(&self) -> Vec<String> {
        self.inner().deleted.clone()
    }

    /// How many attempts there were.
    pub(super) fn deletes(&self) -> u32 {
        self.inner().deletes
    }

    pub(super) fn deleted_while_starting(&self) -> u32 {
        self.inner().deleted_while_starting
    }
}

/// Removes its name from those that are starting, however the start ends.
struct Starting<'a>(&'a Memory, &'a str);

impl Drop for Starting<'_> {
    fn drop(&mut self) {
        self.0.inner().starting.retain(|name| name != self.1);
    }
}

impl Provision for Memory {
    type Sandbox = String;

    async fn start(&self, id: &SandboxId) -> Result<Provisioned<String>, String> {
        let name = id.as_str();
        let hang = {
            let mut inner = self.inner();
            inner.starting.push(name.into());
            inner.hang_starts
        };
        let _starting = Starting(self, name);
        if hang {
            std::future::pending::<()>().await;
        }
        // The first panic comes before the first await, the others after it.
        let panic = take(&mut self.inner().panic_starts);
        assert!(!panic || name != "py-s1-0", "start is broken");
        self.work(name, START).await;
        assert!(!panic, "start is broken later");
        let mut inner = self.inner();
        if take(&mut inner.fail_starts) {
            return Err("no memory left".into());
        }
        let (kill, killed) = oneshot::channel();
        inner.alive.insert(name.into(), Some(kill));
        let gone = Box::pin(async move {
            match killed.await {
                Ok(()) => "killed".into(),
                Err(_) => "deleted".into(),
            }
        });
        Ok(Provisioned {
            sandbox: name.into(),
            gone,
            connected: watch::Sender::new(true),
        })
    }

    fn refusal(&self) -> watch::Receiver<Option<String>> {
        self.inner().refusal.subscribe()
    }

    async fn delete(&self, id: &SandboxId) -> Result<(), String> {
        let name = id.as_str();
        {
            let mut inner = self.inner();
            inner.deletes += 1;
            inner.deleted_while_starting += u32::from(inner.starting.iter().any(|n| n == name));
        }
        let panic = take(&mut self.inner().panic_deletes);
        assert!(!panic, "delete is broken");
        self.work(name, START / 2).await;
        let mut inner = self.inner();
        if take(&mut inner.fail_deletes) {
            return Err("not found, or so".into());
        }
        inner.alive.remove(name);
        inner.deleted.push(name.into());
        Ok(())
    }
}
