//! Random events against a model that knows what must never happen.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::prelude::*;

use super::*;

#[derive(Clone, Copy, Debug)]
enum Event {
    Lease { caller: u8 },
    Cancel(usize),
    Expire(usize),
    Release(usize),
    Started(usize),
    StartFailed(usize),
    Died(usize),
    Deleted(usize),
    DeleteFailed(usize),
    Advance { seconds: u64 },
    Resize { min_idle: u32, max_sandboxes: u32 },
    Refuse(bool),
    Drain,
    ShutDown,
}

fn event() -> impl Strategy<Value = Event> {
    let any = 0..32_usize;
    prop_oneof![
        8 => (0..3_u8).prop_map(|caller| Event::Lease { caller }),
        2 => any.clone().prop_map(Event::Cancel),
        2 => any.clone().prop_map(Event::Expire),
        6 => any.clone().prop_map(Event::Release),
        8 => any.clone().prop_map(Event::Started),
        2 => any.clone().prop_map(Event::StartFailed),
        2 => any.clone().prop_map(Event::Died),
        8 => any.clone().prop_map(Event::Deleted),
        2 => any.prop_map(Event::DeleteFailed),
        4 => (0..200_u64).prop_map(|seconds| Event::Advance { seconds }),
        1 => (0..5_u32, 0..8_u32)
            .prop_map(|(min_idle, max_sandboxes)| Event::Resize { min_idle, max_sandboxes }),
        1 => prop::bool::ANY.prop_map(Event::Refuse),
    ]
}

/// A script, mostly without an end, sometimes with a drain or a shutdown somewhere.
fn script() -> impl Strategy<Value = Vec<Event>> {
    let events = prop::collection::vec(event(), 1..120);
    (events, 0..480_usize, any::<bool>()).prop_map(|(mut events, at, drain)| {
        if at < events.len() {
            events.insert(at, if drain { Event::Drain } else { Event::ShutDown });
        }
        events
    })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Starting,
    Abandoned,
    Idle,
    Leased,
    /// It is over with it: the state machine must say so before the event is done with.
    MustGo,
    Deleting,
    /// Deleting it failed; another attempt must come.
    Undeleted,
}

struct Model {
    pool: Fixture,
    settings: PoolSettings,
    sandboxes: BTreeMap<Number, Phase>,
    /// Idle ones that have no connection.
    disconnected: BTreeSet<Number>,
    started: u64,
    queue: VecDeque<(Ticket, u8)>,
    closed: bool,
    refused: bool,
}

impl Model {
    fn new(settings: PoolSettings) -> Self {
        let mut model = Self {
            pool: Fixture::new(&settings),
            settings,
            sandboxes: BTreeMap::new(),
            disconnected: BTreeSet::new(),
            started: 0,
            queue: VecDeque::new(),
            closed: false,
            refused: false,
        };
        model.check();
        model
    }

    fn nth(&self, index: usize, phases: &[Phase]) -> Option<Number> {
        let mut fitting: Vec<_> = self.sandboxes.iter().collect();
        fitting.retain(|(_, phase)| phases.contains(phase));
        (!fitting.is_empty()).then(|| *fitting[index % fitting.len()].0)
    }

    fn count(&self, phases: &[Phase]) -> u32 {
        self.sandboxes
            .values()
            .filter(|phase| phases.contains(phase))
            .count() as u32
    }

    fn set(&mut self, number: Number, phase: Phase) -> Option<Phase> {
        self.sandboxes.insert(number, phase)
    }

    fn play(&mut self, event: Event) {
        let now = self.pool.now;
        match event {
            Event::Lease { caller } => self.lease(caller),
            Event::Cancel(index) if !self.queue.is_empty() => {
                let (ticket, _) = self.queue.remove(index % self.queue.len()).unwrap();
                self.pool.state.cancelled(ticket);
                assert_eq!(self.pool.state.expired(ticket, now), None, "answered twice");
            }
            Event::Expire(index) if !self.queue.is_empty() => {
                let (ticket, _) = self.queue.remove(index % self.queue.len()).unwrap();
                assert!(self.pool.state.expired(ticket, now).is_some());
                assert_eq!(self.pool.state.expired(ticket, now), None, "answered twice");
            }
            Event::Release(index) => {
                if let Some(number) = self.nth(index, &[Phase::Leased]) {
                    self.set(number, Phase::MustGo);
                    self.pool.state.released(number, now);
                    self.pool.state.released(number, now);
                }
            }
            Event::Started(index) => {
                if let Some(number) = self.nth(index, &[Phase::Starting, Phase::Abandoned]) {
                    let unwanted = self.sandboxes[&number] == Phase::Abandoned || self.refused;
                    self.set(number, if unwanted { Phase::MustGo } else { Phase::Idle });
                    self.pool.state.started(number, number.0, now);
                }
            }
            Event::StartFailed(index) => {
                if let Some(number) = self.nth(index, &[Phase::Starting, Phase::Abandoned]) {
                    self.set(number, Phase::MustGo);
                    self.pool.state.start_failed(number, "no".into(), now);
                }
            }
            Event::Died(index) => {
                // Any number that ever was, and some that never were.
                let number = Number(index as u64 % (self.started + 2));
                if let Some(phase @ (Phase::Idle | Phase::Leased)) = self.sandboxes.get_mut(&number)
                {
                    *phase = Phase::MustGo;
                }
                self.pool.state.died(number, "evicted".into(), now);
            }
            Event::Deleted(index) => {
                if let Some(number) = self.nth(index, &[Phase::Deleting]) {
                    self.sandboxes.remove(&number);
                    self.pool.state.deleted(number, now);
                }
            }
            Event::DeleteFailed(index) => {
                if let Some(number) = self.nth(index, &[Phase::Deleting]) {
                    self.set(number, Phase::Undeleted);
                    self.pool.state.delete_failed(number, now);
                }
            }
            Event::Advance { seconds } => {
                self.pool.advance(Duration::from_secs(seconds));
                let next = self.pool.state.next_tick();
                assert!(
                    next.is_none_or(|at| at > self.pool.now),
                    "the next tick is over already"
                );
            }
            Event::Resize {
                min_idle,
                max_sandboxes,
            } => {
                let resized = self
                    .pool
                    .state
                    .resize(Some(min_idle), Some(max_sandboxes), now);
                if resized.is_ok() {
                    (self.settings.min_idle, self.settings.max_sandboxes) =
                        (min_idle, max_sandboxes);
                }
            }
            Event::Refuse(refused) => {
                self.refused = refused;
                let refusal = refused.then(|| "its network is open".to_owned());
                self.pool.state.refuse(refusal, now);
            }
            Event::Drain => {
                self.closed = true;
                self.pool.state.drain();
            }
            Event::ShutDown => {
                self.closed = true;
                self.pool.state.shut_down();
            }
            Event::Cancel(_) | Event::Expire(_) => {}
        }
        self.check();
    }

    fn lease(&mut self, caller: u8) {
        let waiting = self.queue.len() as u32;
        let of_caller = self
            .queue
            .iter()
            .filter(|(_, other)| *other == caller)
            .count() as u32;
        match self.pool.state.lease(&caller.to_string(), self.pool.now) {
            Ok(Asked::Granted(number, sandbox)) => {
                assert!(self.queue.is_empty(), "jumped the queue");
                assert_eq!(sandbox, number.0);
                assert_eq!(self.set(number, Phase::Leased), Some(Phase::Idle));
            }
            Ok(Asked::Queued(ticket)) => {
                assert_eq!(self.count(&[Phase::Idle]), 0, "queued while one was idle");
                assert!(waiting < self.settings.max_queued);
                assert!(of_caller < self.settings.caller_limit());
                self.queue.push_back((ticket, caller));
            }
            Err(LeaseError::QueueFull { limit, .. }) => assert_eq!(limit, waiting),
            Err(LeaseError::CallerQueueFull { limit, .. }) => assert_eq!(limit, of_caller),
            Err(error) => assert!(self.closed, "{error}"),
        }
    }

    /// Takes work and answers in, and compares.
    fn check(&mut self) {
        for answer in std::mem::take(&mut self.pool.state.answers) {
            match answer {
                Answer::Grant(ticket, number, sandbox) => {
                    let first = self.queue.pop_front().expect("nobody waits");
                    assert_eq!(first.0, ticket, "not first come, first served");
                    assert_eq!(sandbox, number.0);
                    assert_eq!(self.set(number, Phase::Leased), Some(Phase::Idle));
                }
                Answer::Refuse(ticket, _) => {
                    assert!(self.closed);
                    assert_eq!(self.queue.pop_front().map(|(first, _)| first), Some(ticket));
                }
            }
        }
        for work in self.pool.work() {
            match work {
                Work::Start(number) => {
                    assert!(!self.closed, "started in a closed pool");
                    assert_eq!(number.0, self.started, "a number was used twice");
                    self.started += 1;
                    self.set(number, Phase::Starting);
                    assert!(self.sandboxes.len() as u32 <= self.settings.max_sandboxes);
                    assert!(self.count(&[Phase::Starting]) <= self.settings.max_starting);
                }
                Work::Connect(number) => assert!(self.disconnected.remove(&number)),
                Work::Disconnect(number) => assert!(self.disconnected.insert(number)),
                Work::Abandon(number) => {
                    assert_eq!(self.set(number, Phase::Abandoned), Some(Phase::Starting));
                }
                Work::Recycle(number, sandbox) => {
                    let was = self
                        .set(number, Phase::Deleting)
                        .expect("an unknown sandbox");
                    match was {
                        Phase::Idle => assert_eq!(sandbox, Some(number.0)),
                        Phase::MustGo | Phase::Undeleted => {}
                        other => panic!("deleted while {other:?}"),
                    }
                }
            }
        }
        let status = self.pool.state.status();
        assert_eq!(self.count(&[Phase::MustGo]), 0, "a sandbox was lost");
        assert_eq!(status.starting, self.count(&[Phase::Starting]));
        assert_eq!(status.idle, self.count(&[Phase::Idle]));
        assert_eq!(status.leased, self.count(&[Phase::Leased]));
        assert_eq!(
            status.sandboxes(),
            self.sandboxes.len() as u32,
            "a sandbox was lost"
        );
        assert_eq!(status.queued, self.queue.len() as u32);
        assert!(!self.refused || status.idle == 0, "kept for a lease");
        assert!(
            status.queued == 0 || status.idle == 0,
            "one waits while one is idle"
        );
        let idle = self.sandboxes.iter();
        let idle = idle.filter(|(_, phase)| **phase == Phase::Idle);
        let last = idle.skip(self.settings.connected_idle as usize);
        let last: BTreeSet<Number> = last.map(|(number, _)| *number).collect();
        self.disconnected
            .retain(|number| self.sandboxes.get(number) == Some(&Phase::Idle));
        assert!(
            self.closed || self.disconnected == last,
            "others are connected than those that are leased next"
        );
    }

    /// From now on everything succeeds.
    fn all_goes_well(&mut self) {
        self.play(Event::Refuse(false));
        for _ in 0..60 {
            self.play(Event::Started(0));
            self.play(Event::Deleted(0));
            self.play(Event::Advance { seconds: 31 });
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_sandbox_is_lost_or_leased_twice_and_every_ticket_ends_once(
        script in script(),
        min_idle in 0..4_u32,
        max_queued in 0..5_u32,
        max_starting in 1..4_u32,
        connected_idle in 0..4_u32,
    ) {
        let mut model = Model::new(PoolSettings {
            min_idle,
            max_queued,
            max_starting,
            connected_idle,
            max_idle_age: Duration::from_secs(600),
            ..settings()
        });
        for event in script {
            model.play(event);
        }
        model.all_goes_well();
        if !model.closed {
            let room = model.settings.max_sandboxes.saturating_sub(model.count(&[Phase::Leased]));
            let served = model.queue.is_empty() || room == 0;
            prop_assert!(served, "{} wait although {room} could start", model.queue.len());
            let replacing = model.count(&[Phase::Idle, Phase::Starting, Phase::Deleting]);
            prop_assert!(replacing >= room.min(model.settings.min_idle), "too few are idle");
        }
        model.play(Event::ShutDown);
        prop_assert!(model.queue.is_empty(), "one waits for ever");
        while model.count(&[Phase::Leased]) > 0 {
            model.play(Event::Release(0));
        }
        model.all_goes_well();
        prop_assert!(model.pool.state.is_over());
        prop_assert!(model.sandboxes.is_empty());
    }
}
