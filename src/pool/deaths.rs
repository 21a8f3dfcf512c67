//! Watches many sandboxes for their death without a task for each: only the futures that were
//! woken are polled, by the driver.

use std::{
    collections::HashMap,
    mem,
    panic::{self, AssertUnwindSafe},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use tokio::sync::Notify;

use super::{provision::BoxFuture, state::Number};

pub(super) struct Deaths {
    watched: HashMap<Number, Watched>,
    woken: Arc<Woken>,
}

struct Watched {
    gone: BoxFuture<String>,
    alarm: Arc<Alarm>,
}

struct Woken {
    numbers: Mutex<Vec<Number>>,
    driver: Arc<Notify>,
}

struct Alarm {
    number: Number,
    rung: AtomicBool,
    woken: Arc<Woken>,
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // However often it is woken before the driver looks, it is in the list once.
        if !self.rung.swap(true, Ordering::AcqRel) {
            let mut numbers = self
                .woken
                .numbers
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            numbers.push(self.number);
            drop(numbers);
            self.woken.driver.notify_one();
        }
    }
}

impl Deaths {
    /// `driver` is told when [`Deaths::next`] has something to look at.
    pub(super) fn new(driver: Arc<Notify>) -> Self {
        let woken = Arc::new(Woken {
            numbers: Mutex::default(),
            driver,
        });
        Self {
            watched: HashMap::new(),
            woken,
        }
    }

    /// Watches one more; gives the reason if it is dead already.
    pub(super) fn watch(&mut self, number: Number, gone: BoxFuture<String>) -> Option<String> {
        let woken = Arc::clone(&self.woken);
        let alarm = Arc::new(Alarm {
            number,
            rung: AtomicBool::new(false),
            woken,
        });
        let mut watched = Watched { gone, alarm };
        let reason = watched.poll();
        if reason.is_none() {
            self.watched.insert(number, watched);
        }
        reason
    }

    pub(super) fn forget(&mut self, number: Number) {
        self.watched.remove(&number);
    }

    /// Those that died since the last call.
    pub(super) fn collect(&mut self, mut report: impl FnMut(Number, String)) {
        let numbers = {
            let mut woken = self
                .woken
                .numbers
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            mem::take(&mut *woken)
        };
        for number in numbers {
            // One that is no longer watched may still have been woken.
            let reason = self.watched.get_mut(&number).and_then(Watched::poll);
            if let Some(reason) = reason {
                self.watched.remove(&number);
                report(number, reason);
            }
        }
    }
}

impl Watched {
    fn poll(&mut self) -> Option<String> {
        // Before the poll: what happens during it must ring again.
        self.alarm.rung.store(false, Ordering::Release);
        let waker = Waker::from(Arc::clone(&self.alarm));
        let mut context = Context::from_waker(&waker);
        // After a panic the future is dropped, so nobody sees what it left half done.
        let polled =
            panic::catch_unwind(AssertUnwindSafe(|| self.gone.as_mut().poll(&mut context)));
        match polled {
            Ok(Poll::Pending) => None,
            Ok(Poll::Ready(reason)) => Some(reason),
            Err(_) => Some("watching it panicked, so nothing is known of it".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::watch;

    use super::*;

    fn collected(deaths: &mut Deaths) -> Vec<(Number, String)> {
        let mut dead = Vec::new();
        deaths.collect(|number, reason| dead.push((number, reason)));
        dead
    }

    #[test]
    fn a_death_is_seen_after_any_number_of_false_alarms() {
        let mut deaths = Deaths::new(Arc::default());
        let (beat, mut beats) = watch::channel(0);
        let gone = Box::pin(async move {
            while beats.changed().await.is_ok() {}
            "it stopped".into()
        });
        assert_eq!(deaths.watch(Number(7), gone), None);
        for count in 1..4 {
            beat.send_replace(count);
            assert_eq!(collected(&mut deaths), []);
        }
        drop(beat);
        assert_eq!(collected(&mut deaths), [(Number(7), "it stopped".into())]);
    }

    #[test]
    fn a_sandbox_that_is_forgotten_does_not_die() {
        let mut deaths = Deaths::new(Arc::default());
        let (beat, mut beats) = watch::channel(());
        let gone = Box::pin(async move {
            let _ = beats.changed().await;
            "it stopped".into()
        });
        assert_eq!(deaths.watch(Number(7), gone), None);
        drop(beat);
        deaths.forget(Number(7));
        assert_eq!(collected(&mut deaths), []);
    }
}
