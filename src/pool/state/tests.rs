//! The state machine by itself. `model.rs` runs it against a model.

#![allow(clippy::expect_used, clippy::unwrap_used)]

mod model;

use super::*;

fn settings() -> PoolSettings {
    PoolSettings {
        name: "py".into(),
        min_idle: 2,
        max_sandboxes: 4,
        max_queued: 4,
        max_queued_per_caller: None,
        max_starting: 4,
        start_delay: Duration::ZERO,
        connected_idle: 500,
        max_idle_age: Duration::from_secs(3600),
    }
}

/// A pool without jitter, and its clock.
struct Fixture {
    state: State<u64>,
    now: Instant,
}

impl Fixture {
    fn new(settings: &PoolSettings) -> Self {
        Self::connected(settings, |_| true)
    }

    /// In which those are connected of which `is_connected` says so.
    fn connected(settings: &PoolSettings, is_connected: fn(&u64) -> bool) -> Self {
        let now = Instant::now();
        Self {
            state: State::new(settings, || 0.0, is_connected, now),
            now,
        }
    }

    /// With everything started that is to be started.
    fn warm(settings: &PoolSettings) -> Self {
        Self::new(settings).warmed()
    }

    fn warmed(self) -> Self {
        let mut pool = self;
        while !pool.state.work.is_empty() {
            pool.start_all();
        }
        pool
    }

    fn work(&mut self) -> Vec<Work<u64>> {
        std::mem::take(&mut self.state.work)
    }

    fn start_all(&mut self) {
        for work in self.work() {
            let Work::Start(number) = work else {
                panic!("not a start: {work:?}")
            };
            self.state.started(number, number.0, self.now);
        }
    }

    fn fail_all(&mut self) -> usize {
        let mut failed = 0;
        for work in self.work() {
            match work {
                Work::Start(number) => {
                    self.state
                        .start_failed(number, "no memory".into(), self.now);
                    failed += 1;
                }
                Work::Recycle(number, _) => self.state.deleted(number, self.now),
                other => panic!("unexpected: {other:?}"),
            }
        }
        failed
    }

    fn lease(&mut self) -> Number {
        match self.state.lease("caller", self.now) {
            Ok(Asked::Granted(number, _)) => number,
            other => panic!("not granted: {other:?}"),
        }
    }

    fn queue(&mut self) -> Ticket {
        match self.state.lease("caller", self.now) {
            Ok(Asked::Queued(ticket)) => ticket,
            other => panic!("not queued: {other:?}"),
        }
    }

    fn advance(&mut self, by: Duration) {
        self.now += by;
        self.state.tick(self.now);
    }
}

#[test]
fn a_new_pool_starts_min_idle_and_is_ready_when_they_are() {
    let mut pool = Fixture::new(&settings());
    assert_eq!(pool.state.status().health, PoolHealth::Warming);
    pool.start_all();
    let status = pool.state.status();
    assert_eq!((status.idle, status.starting, status.warmed), (2, 0, true));
    assert_eq!(status.health, PoolHealth::Ready);
}

#[test]
fn the_oldest_is_leased_first_and_replaced_at_once() {
    let mut pool = Fixture::warm(&settings());
    assert_eq!(pool.lease(), Number(0));
    assert_eq!(pool.work(), [Work::Start(Number(2))]);
}

#[test]
fn the_oldest_that_is_connected_is_leased_before_any_that_is_not() {
    let settings = PoolSettings {
        min_idle: 4,
        ..settings()
    };
    let is_odd = |sandbox: &u64| sandbox % 2 == 1;
    let mut pool = Fixture::connected(&settings, is_odd).warmed();
    let leased = [(); 4].map(|()| pool.lease());
    assert_eq!(leased, [1, 3, 0, 2].map(Number));
}

#[test]
fn a_pool_that_may_lease_nothing_deletes_what_waits_and_what_gets_ready() {
    let reason = "the network is open";
    let mut pool = Fixture::warm(&settings());
    let leased = pool.lease();
    assert_eq!(pool.work(), [Work::Start(Number(2))]);
    pool.state.refuse(Some(reason.into()), pool.now);
    assert_eq!(pool.work(), [Work::Recycle(Number(1), Some(1))]);
    let ticket = pool.queue();
    pool.state.started(Number(2), 2, pool.now);
    assert_eq!(pool.work(), [Work::Recycle(Number(2), Some(2))]);
    let status = pool.state.status();
    assert_eq!((status.idle, status.leased, status.queued), (0, 1, 1));
    let PoolHealth::Unhealthy { reason: told, .. } = status.health else {
        panic!("{:?}", status.health)
    };
    assert_eq!(&*told, reason);
    // The lease goes on; its end is as usual.
    pool.state.released(leased, pool.now);
    for number in 0..3 {
        pool.state.deleted(Number(number), pool.now);
    }

    pool.state.refuse(None, pool.now);
    pool.advance(Duration::from_secs(60));
    pool.work();
    pool.state.started(Number(3), 3, pool.now);
    let granted = std::mem::take(&mut pool.state.answers);
    assert_eq!(granted, [Answer::Grant(ticket, Number(3), 3)]);
    assert_eq!(pool.state.status().health, PoolHealth::Ready);
}

#[test]
fn a_replacement_that_nobody_waits_for_is_put_off_once() {
    let delay = Duration::from_millis(25);
    let mut pool = Fixture::warm(&PoolSettings {
        start_delay: delay,
        ..settings()
    });
    pool.lease();
    assert_eq!(pool.work(), []);
    assert_eq!(pool.state.next_tick(), Some(pool.now + delay));
    // What is leased meanwhile is replaced together with the first.
    pool.advance(delay - Duration::from_millis(1));
    pool.lease();
    assert_eq!(pool.work(), []);
    pool.advance(Duration::from_millis(1));
    assert_eq!(
        pool.work(),
        [Work::Start(Number(2)), Work::Start(Number(3))]
    );
    assert!(pool.state.next_tick() > Some(pool.now));
}

#[test]
fn nobody_in_the_queue_waits_for_a_start_that_was_put_off() {
    let mut pool = Fixture::warm(&PoolSettings {
        start_delay: Duration::from_millis(25),
        min_idle: 1,
        ..settings()
    });
    pool.lease();
    assert_eq!(pool.work(), []);
    pool.queue();
    assert_eq!(
        pool.work(),
        [Work::Start(Number(1)), Work::Start(Number(2))]
    );
}

#[test]
fn a_released_sandbox_is_deleted_and_takes_room_until_it_is() {
    let mut pool = Fixture::warm(&PoolSettings {
        max_sandboxes: 2,
        ..settings()
    });
    let number = pool.lease();
    pool.state.released(number, pool.now);
    assert_eq!(pool.work(), [Work::Recycle(number, None)]);
    pool.state.deleted(number, pool.now);
    assert_eq!(pool.work(), [Work::Start(Number(2))]);
}

#[test]
fn the_queue_adds_to_what_is_started() {
    let mut pool = Fixture::new(&settings());
    pool.queue();
    assert_eq!(pool.work().len(), 3);
}

#[test]
fn whoever_waits_gets_the_first_that_starts() {
    let mut pool = Fixture::new(&settings());
    let first = pool.queue();
    let second = pool.queue();
    pool.state.cancelled(first);
    pool.state.started(Number(1), 1, pool.now);
    assert_eq!(pool.state.answers, [Answer::Grant(second, Number(1), 1)]);
}

#[test]
fn starts_are_limited_in_number() {
    let mut pool = Fixture::new(&PoolSettings {
        max_starting: 1,
        ..settings()
    });
    assert_eq!(pool.work(), [Work::Start(Number(0))]);
    pool.state.started(Number(0), 0, pool.now);
    assert_eq!(pool.work(), [Work::Start(Number(1))]);
}

#[test]
fn failing_starts_are_retried_one_at_a_time_ever_later() {
    let mut pool = Fixture::new(&settings());
    assert_eq!(pool.fail_all(), 2);
    assert_eq!(pool.fail_all(), 0);
    let delays = [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000];
    for (failed, delay) in (2..).zip(delays.map(Duration::from_millis)) {
        pool.advance(delay - Duration::from_millis(1));
        assert_eq!(pool.fail_all(), 0, "started before {delay:?}");
        pool.advance(Duration::from_millis(1));
        assert_eq!(pool.fail_all(), 1, "not started after {delay:?}");
        assert_eq!(pool.fail_all(), 0);
        let reason = "no memory".into();
        let health = PoolHealth::Unhealthy {
            reason,
            failed_starts: failed + 1,
        };
        assert_eq!(pool.state.status().health, health);
    }
    pool.advance(Duration::from_secs(30));
    pool.start_all();
    assert_eq!(pool.state.status().health, PoolHealth::Warming);
    assert_eq!(pool.work(), [Work::Start(Number(11))]);
}

#[test]
fn one_that_dies_as_soon_as_it_is_up_is_not_replaced_at_once() {
    let mut pool = Fixture::warm(&settings());
    pool.state.died(Number(0), "agent crashed".into(), pool.now);
    assert_eq!(pool.work(), [Work::Recycle(Number(0), Some(0))]);
    pool.advance(Duration::from_millis(500));
    assert_eq!(pool.work(), [Work::Start(Number(2))]);
}

#[test]
fn one_that_dies_later_is_replaced_at_once() {
    let mut pool = Fixture::warm(&settings());
    pool.advance(PROVEN);
    pool.state.died(Number(0), "evicted".into(), pool.now);
    assert_eq!(
        pool.work(),
        [Work::Recycle(Number(0), Some(0)), Work::Start(Number(2))]
    );
}

#[test]
fn one_that_dies_while_leased_is_deleted_once() {
    let mut pool = Fixture::warm(&settings());
    let number = pool.lease();
    pool.work();
    pool.state.died(number, "evicted".into(), pool.now);
    assert_eq!(pool.work(), [Work::Recycle(number, None)]);
    pool.state.released(number, pool.now);
    assert_eq!(pool.work(), []);
}

#[test]
fn a_failing_delete_is_retried_for_ever() {
    let mut pool = Fixture::warm(&settings());
    let number = pool.lease();
    pool.state.released(number, pool.now);
    assert_eq!(
        pool.work(),
        [Work::Start(Number(2)), Work::Recycle(number, None)]
    );
    pool.state.started(Number(2), 2, pool.now);
    for _ in 1..20 {
        pool.state.delete_failed(number, pool.now);
        pool.advance(Duration::from_secs(30));
        assert_eq!(pool.work(), [Work::Recycle(number, None)]);
    }
}

#[test]
fn one_too_old_is_replaced_before_it_goes() {
    let mut pool = Fixture::warm(&settings());
    pool.advance(Duration::from_secs(3600));
    assert_eq!(
        pool.work(),
        [Work::Start(Number(2)), Work::Start(Number(3))]
    );
    pool.state.started(Number(2), 2, pool.now);
    assert_eq!(pool.work(), [Work::Recycle(Number(0), Some(0))]);
    pool.state.started(Number(3), 3, pool.now);
    assert_eq!(pool.work(), [Work::Recycle(Number(1), Some(1))]);
}

#[test]
fn a_full_pool_replaces_one_at_a_time() {
    let mut pool = Fixture::warm(&PoolSettings {
        max_sandboxes: 2,
        ..settings()
    });
    pool.advance(Duration::from_secs(3600));
    assert_eq!(pool.work(), [Work::Recycle(Number(0), Some(0))]);
    pool.state.deleted(Number(0), pool.now);
    assert_eq!(pool.work(), [Work::Start(Number(2))]);
    pool.state.started(Number(2), 2, pool.now);
    assert_eq!(pool.work(), [Work::Recycle(Number(1), Some(1))]);
}

#[test]
fn the_only_one_stays_until_it_may_not_be_leased_any_more() {
    let settings = PoolSettings {
        min_idle: 1,
        max_sandboxes: 1,
        ..settings()
    };
    let mut pool = Fixture::warm(&settings);
    pool.advance(Duration::from_secs(3600));
    assert_eq!(pool.work(), []);
    assert_eq!(
        pool.state.next_tick(),
        Some(pool.now + Duration::from_secs(300))
    );
    pool.advance(Duration::from_secs(300));
    assert_eq!(pool.work(), [Work::Recycle(Number(0), Some(0))]);
}

#[test]
fn a_smaller_pool_lets_go_of_what_it_does_not_need() {
    let mut pool = Fixture::warm(&settings());
    let leased = pool.lease();
    pool.state.resize(Some(1), Some(1), pool.now).unwrap();
    assert_eq!(
        pool.work(),
        [
            Work::Start(Number(2)),
            Work::Abandon(Number(2)),
            Work::Recycle(Number(1), Some(1))
        ]
    );
    assert_eq!(pool.state.status().leased, 1);
    pool.state.started(Number(2), 2, pool.now);
    assert_eq!(pool.work(), [Work::Recycle(Number(2), Some(2))]);
    pool.state.released(leased, pool.now);
    assert_eq!(pool.work(), [Work::Recycle(leased, None)]);
    for number in [0, 1, 2].map(Number) {
        pool.state.deleted(number, pool.now);
    }
    assert_eq!(pool.work(), [Work::Start(Number(3))]);
}

#[test]
fn a_size_that_cannot_be_is_refused() {
    let mut pool = Fixture::warm(&settings());
    let now = pool.now;
    assert_eq!(
        pool.state.resize(None, Some(0), now),
        Err(ResizeError::NoSandboxes)
    );
    let error = ResizeError::MinIdleAboveMax {
        min_idle: 2,
        max_sandboxes: 1,
    };
    assert_eq!(pool.state.resize(None, Some(1), now), Err(error));
    pool.state.drain();
    assert_eq!(
        pool.state.resize(Some(1), None, now),
        Err(ResizeError::Drained)
    );
}

#[test]
fn a_full_queue_says_which_key_makes_it_longer() {
    let mut pool = Fixture::new(&settings());
    pool.queue();
    pool.queue();
    let error = pool.state.lease("caller", pool.now).unwrap_err();
    assert!(
        error.to_string().contains("pools.py.max_queued_per_caller"),
        "{error}"
    );
    for caller in ["b", "c"] {
        assert!(pool.state.lease(caller, pool.now).is_ok());
    }
    let error = pool.state.lease("d", pool.now).unwrap_err();
    assert!(
        error.to_string().contains("pools.py.max_queued raises"),
        "{error}"
    );
}

#[test]
fn draining_refuses_the_queue_and_keeps_the_leases() {
    let mut pool = Fixture::warm(&PoolSettings {
        max_sandboxes: 2,
        ..settings()
    });
    let leased = [pool.lease(), pool.lease()];
    let ticket = pool.queue();
    pool.state.drain();
    assert_eq!(
        pool.state.answers,
        [Answer::Refuse(ticket, LeaseError::Drained)]
    );
    assert_eq!(
        pool.state.lease("caller", pool.now),
        Err(LeaseError::Drained)
    );
    assert_eq!(pool.state.status().leased, 2);
    for number in leased {
        pool.state.released(number, pool.now);
        pool.state.deleted(number, pool.now);
    }
    assert_eq!(pool.state.status().sandboxes(), 0);
    assert!(!pool.state.is_over());
    pool.state.shut_down();
    assert!(pool.state.is_over());
}
