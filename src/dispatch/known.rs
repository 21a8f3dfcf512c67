//! The ids of executions: the same id of the same caller runs once.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// How long ids are known after their execution's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownSettings {
    /// How many ended ones; beyond that the oldest is forgotten.
    pub remembered: usize,
    /// For how long.
    pub remember_for: Duration,
}

/// That id runs, or ran a while ago.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the execution {id:?} of this caller exists already: an id runs once; choose another one")]
pub struct AlreadyExists {
    /// What the client chose.
    pub id: String,
}

type Key = (String, String);

/// The ids that are known.
pub(super) struct Known {
    settings: KnownSettings,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Each id, and whether it still runs.
    ids: HashMap<Key, bool>,
    ended: VecDeque<(Instant, Key)>,
}

impl Known {
    pub(super) fn new(settings: KnownSettings) -> Self {
        Self {
            settings,
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an id for a caller.
    pub(super) fn begin(self: &Arc<Self>, caller: &str, id: &str) -> Result<Claim, AlreadyExists> {
        let mut state = self.state();
        state.forget(&self.settings);
        let key = (caller.to_owned(), id.to_owned());
        if state.ids.contains_key(&key) {
            return Err(AlreadyExists { id: id.to_owned() });
        }
        state.ids.insert(key.clone(), true);
        Ok(Claim {
            known: self.clone(),
            key,
            ran: false,
        })
    }
}

impl State {
    fn forget(&mut self, settings: &KnownSettings) {
        while let Some((ended, _)) = self.ended.front() {
            if self.ended.len() <= settings.remembered && ended.elapsed() < settings.remember_for {
                break;
            }
            if let Some((_, key)) = self.ended.pop_front() {
                self.ids.remove(&key);
            }
        }
    }
}

/// An id in use. Dropped, it is remembered if anything ran under it, and free again otherwise.
pub(super) struct Claim {
    known: Arc<Known>,
    key: Key,
    ran: bool,
}

impl Claim {
    /// From now on the id is used up.
    pub(super) fn ran(&mut self) {
        self.ran = true;
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut state = self.known.state();
        if self.ran {
            state.ids.insert(self.key.clone(), false);
            state.ended.push_back((Instant::now(), self.key.clone()));
            state.forget(&self.known.settings);
        } else {
            state.ids.remove(&self.key);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn known(remembered: usize) -> Arc<Known> {
        Arc::new(Known::new(KnownSettings {
            remembered,
            remember_for: Duration::from_secs(600),
        }))
    }

    #[tokio::test(start_paused = true)]
    async fn an_id_is_known_while_it_runs_and_for_a_while_after() {
        let known = known(10);
        let mut claim = known.begin("a", "1").unwrap();
        assert!(known.begin("a", "1").is_err());
        assert!(
            known.begin("b", "1").is_ok(),
            "another caller's id is another id"
        );
        claim.ran();
        drop(claim);
        assert!(known.begin("a", "1").is_err());
        tokio::time::advance(Duration::from_secs(600)).await;
        assert!(known.begin("a", "1").is_ok());
    }

    #[test]
    fn an_id_under_which_nothing_ran_is_free_again() {
        let known = known(10);
        drop(known.begin("a", "1").unwrap());
        assert!(known.begin("a", "1").is_ok());
    }

    #[test]
    fn the_oldest_ended_id_is_forgotten_first() {
        let known = known(2);
        for id in ["1", "2", "3"] {
            known.begin("a", id).unwrap().ran();
        }
        assert!(known.begin("a", "1").is_ok());
        assert!(known.begin("a", "2").is_err());
        assert_eq!(known.state().ids.len(), 2);
    }
}
