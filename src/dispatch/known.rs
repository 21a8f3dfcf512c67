//! The executions that are known by their ids: the same id of the same caller runs once.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::record::{NewRecord, Record};

/// How long executions are known after their end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownSettings {
    /// How many ended ones; beyond that the oldest is forgotten.
    pub remembered: usize,
    /// For how long.
    pub remember_for: Duration,
    /// Bytes of each stream that are kept of one that outlives its call.
    pub kept_output: usize,
    /// Bytes of output that are kept of ended ones in all.
    pub kept_output_total: u64,
}

/// That id runs, or ran a while ago, with another spec.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the execution {id:?} of this caller exists already, and is another one: an id runs once; choose \
     another one"
)]
pub struct AlreadyExists {
    /// What the client chose.
    pub id: String,
}

/// The caller has no such execution, or it was forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "there is no such execution of this caller, or none any more: they are known for {0:?} after their end"
)]
pub struct NoExecution(pub Duration);

type Key = (String, String);

/// The executions that are known.
pub(super) struct Known {
    pub(super) settings: KnownSettings,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    records: HashMap<Key, Arc<Record>>,
    ended: VecDeque<Ended>,
    /// How many of the ended, from the first one on, have given up their output.
    emptied: usize,
    /// What the others hold.
    held: u64,
}

struct Ended {
    at: Instant,
    key: Key,
    held: u64,
}

/// What an id is.
pub(super) enum Begun {
    /// New: it is to be run.
    New(Claim),
    /// Known, of the same spec.
    Known(Arc<Record>),
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
    pub(super) fn begin(
        self: &Arc<Self>,
        caller: &str,
        new: NewRecord,
    ) -> Result<Begun, AlreadyExists> {
        let mut state = self.state();
        state.forget(&self.settings);
        let key = (caller.to_owned(), new.execution_id.clone());
        if let Some(known) = state.records.get(&key) {
            if known.is_of(new.fingerprint) {
                return Ok(Begun::Known(known.clone()));
            }
            return Err(AlreadyExists {
                id: new.execution_id,
            });
        }
        let record = Record::new(new);
        state.records.insert(key.clone(), record.clone());
        Ok(Begun::New(Claim {
            known: self.clone(),
            key,
            record,
            ran: false,
        }))
    }

    /// A caller's execution.
    pub(super) fn get(&self, caller: &str, id: &str) -> Result<Arc<Record>, NoExecution> {
        let mut state = self.state();
        state.forget(&self.settings);
        let found = state.records.get(&(caller.to_owned(), id.to_owned()));
        found
            .cloned()
            .ok_or(NoExecution(self.settings.remember_for))
    }

    /// All of a caller's executions.
    pub(super) fn of(&self, caller: &str) -> Vec<Arc<Record>> {
        let mut state = self.state();
        state.forget(&self.settings);
        let records = state.records.iter();
        records
            .filter(|((of, _), _)| of == caller)
            .map(|(_, record)| record.clone())
            .collect()
    }
}

impl State {
    fn forget(&mut self, settings: &KnownSettings) {
        while let Some(first) = self.ended.front() {
            if self.ended.len() <= settings.remembered && first.at.elapsed() < settings.remember_for
            {
                break;
            }
            if let Some(first) = self.ended.pop_front() {
                self.records.remove(&first.key);
                if self.emptied > 0 {
                    self.emptied -= 1;
                } else {
                    self.held -= first.held;
                }
            }
        }
        while self.held > settings.kept_output_total
            && let Some(oldest) = self.ended.get(self.emptied)
        {
            if let Some(record) = self.records.get(&oldest.key) {
                record.forget_output();
            }
            self.held -= oldest.held;
            self.emptied += 1;
        }
    }
}

/// An id in use. Dropped, it is remembered if anything ran under it, and free again otherwise.
pub(super) struct Claim {
    known: Arc<Known>,
    key: Key,
    record: Arc<Record>,
    ran: bool,
}

impl Claim {
    /// What is kept of it.
    pub(super) const fn record(&self) -> &Arc<Record> {
        &self.record
    }

    /// From now on the id is used up.
    pub(super) fn ran(&mut self) {
        self.ran = true;
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut state = self.known.state();
        if self.ran {
            let held = self.record.held();
            state.held += held;
            state.ended.push_back(Ended {
                at: Instant::now(),
                key: self.key.clone(),
                held,
            });
            state.forget(&self.known.settings);
        } else {
            state.records.remove(&self.key);
            self.record.give_up();
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::{
        dispatch::Sink,
        sandbox::{Event, Events},
    };

    fn known(remembered: usize) -> Arc<Known> {
        Arc::new(Known::new(KnownSettings {
            remembered,
            remember_for: Duration::from_secs(600),
            kept_output: 100,
            kept_output_total: 250,
        }))
    }

    fn new(id: &str) -> NewRecord {
        NewRecord {
            execution_id: id.to_owned(),
            pool: "p".into(),
            labels: Default::default(),
            fingerprint: 1,
            keep: None,
            kept: 100,
        }
    }

    /// Takes an id that must be new.
    fn claim(known: &Arc<Known>, caller: &str, id: &str) -> Claim {
        match known.begin(caller, new(id)).unwrap() {
            Begun::New(claim) => claim,
            Begun::Known(_) => panic!("{id} is known"),
        }
    }

    fn is_known(known: &Arc<Known>, caller: &str, id: &str) -> bool {
        matches!(known.begin(caller, new(id)), Ok(Begun::Known(_)))
    }

    #[tokio::test(start_paused = true)]
    async fn an_id_is_known_while_it_runs_and_for_a_while_after() {
        let known = known(10);
        let mut first = claim(&known, "a", "1");
        assert!(is_known(&known, "a", "1"));
        drop(claim(&known, "b", "1")); // Another caller's id is another id.
        first.ran();
        drop(first);
        assert!(is_known(&known, "a", "1"));
        tokio::time::advance(Duration::from_secs(600)).await;
        assert!(!is_known(&known, "a", "1"));
    }

    #[test]
    fn an_id_under_which_nothing_ran_is_free_again() {
        let known = known(10);
        drop(claim(&known, "a", "1"));
        claim(&known, "a", "1");
    }

    #[test]
    fn another_spec_is_another_execution() {
        let known = known(10);
        let _first = claim(&known, "a", "1");
        let other = NewRecord {
            fingerprint: 2,
            ..new("1")
        };
        assert!(known.begin("a", other).is_err());
    }

    #[test]
    fn the_oldest_ended_id_is_forgotten_first() {
        let known = known(2);
        for id in ["1", "2", "3"] {
            claim(&known, "a", id).ran();
        }
        assert!(known.get("a", "1").is_err());
        assert!(known.get("a", "2").is_ok());
        assert_eq!(known.of("a").len(), 2);
    }

    #[test]
    fn the_oldest_output_is_given_up_first() {
        let known = known(3);
        for id in ["1", "2", "3", "4"] {
            let mut claim = claim(&known, "a", id);
            let sink = Sink::Kept(claim.record().clone());
            sink.give(Event::Stdout(vec![b'x'; 90].into()));
            claim.ran();
        }
        let held = |id| known.get("a", id).map(|record| record.held());
        assert!(held("1").is_err());
        assert_eq!([held("2"), held("3"), held("4")], [Ok(0), Ok(90), Ok(90)]);
    }
}
