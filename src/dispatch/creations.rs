//! Creations that may be repeated: the same request id of the same creator is one creation.
//!
//! An answer may be lost with its connection, or come when its caller has just given up: nobody could tell then
//! whether there is a sandbox. Asked again with the same id (AIP-155, <https://google.aip.dev/155>), the server
//! answers with what it has made.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::OwnedMutexGuard;

/// Whose creation, and its id.
type Key = (String, String);

/// The creations that are under way, by their ids.
#[derive(Default)]
pub(super) struct Creations(Mutex<HashMap<Key, Arc<tokio::sync::Mutex<()>>>>);

/// The right to look for what was made, and to make it. Others with the same id wait until it is dropped.
pub(super) struct Turn<'a> {
    creations: &'a Creations,
    key: Key,
    turn: Option<OwnedMutexGuard<()>>,
}

impl Creations {
    fn by_key(&self) -> MutexGuard<'_, HashMap<Key, Arc<tokio::sync::Mutex<()>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for those that came before with the same id, each of which is bounded by its own queue_timeout and the time
    /// that its files take. None: there is no id.
    pub(super) async fn turn(&self, creator: &str, request_id: &str) -> Option<Turn<'_>> {
        if request_id.is_empty() {
            return None;
        }
        let key = (creator.to_owned(), request_id.to_owned());
        let mutex = self.by_key().entry(key.clone()).or_default().clone();
        // Made before the wait: whoever gives up waiting leaves nothing behind either.
        let mut turn = Turn {
            creations: self,
            key,
            turn: None,
        };
        turn.turn = Some(mutex.lock_owned().await);
        Some(turn)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut by_key = self.creations.by_key();
        self.turn = None;
        // Nobody waits for it.
        if by_key
            .get(&self.key)
            .is_some_and(|mutex| Arc::strong_count(mutex) == 1)
        {
            by_key.remove(&self.key);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::{future::Future, pin::pin, task::Poll};

    use super::*;

    async fn is_waiting(turn: impl Future) -> bool {
        let mut turn = pin!(turn);
        std::future::poll_fn(|cx| Poll::Ready(turn.as_mut().poll(cx).is_pending())).await
    }

    #[tokio::test]
    async fn one_after_the_other_by_id_and_nothing_is_left() {
        let creations = Creations::default();
        assert!(creations.turn("a", "").await.is_none());
        let first = creations.turn("a", "1").await;
        let others = [("a", "2"), ("b", "1")];
        for (creator, id) in others {
            drop(creations.turn(creator, id).await);
        }
        let mut second = Box::pin(creations.turn("a", "1"));
        assert!(is_waiting(second.as_mut()).await);
        // One that gives up waiting costs nobody their turn.
        assert!(is_waiting(creations.turn("a", "1")).await);
        drop(first);
        drop(second.await);
        assert!(creations.by_key().is_empty());
    }
}
