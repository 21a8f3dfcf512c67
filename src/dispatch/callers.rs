//! How much each caller has under way.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The caller has as many executions under way as one caller may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{limit} executions of this caller are under way already; executions.max_concurrent_per_caller \
     raises the limit"
)]
pub struct TooManyExecutions {
    /// How many may be.
    pub limit: u32,
}

/// The callers that have anything under way.
pub(super) struct Callers {
    /// 0: none.
    limit: u32,
    counts: Mutex<HashMap<String, u32>>,
}

impl Callers {
    pub(super) fn new(limit: u32) -> Self {
        Self {
            limit,
            counts: Mutex::default(),
        }
    }

    /// Takes one of the caller's places.
    pub(super) fn enter(self: &Arc<Self>, caller: &str) -> Result<Place, TooManyExecutions> {
        if self.limit == 0 {
            // Nobody would look at the count.
            return Ok(Place(None));
        }
        let mut counts = self.counts();
        let count = counts.get(caller).copied().unwrap_or(0);
        if count >= self.limit {
            return Err(TooManyExecutions { limit: self.limit });
        }
        counts.insert(caller.to_owned(), count + 1);
        Ok(Place(Some((self.clone(), caller.to_owned()))))
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<String, u32>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One execution's place among its caller's, until it is dropped; nothing where any number may be.
pub(super) struct Place(Option<(Arc<Callers>, String)>);

impl Drop for Place {
    fn drop(&mut self) {
        let Some((callers, caller)) = &self.0 else {
            return;
        };
        let mut counts = callers.counts();
        if let Some(count) = counts.get_mut(caller) {
            *count -= 1;
            if *count == 0 {
                counts.remove(caller);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn each_caller_has_as_many_places_as_the_limit_says() {
        let callers = Arc::new(Callers::new(2));
        let first = callers.enter("a").unwrap();
        let _second = callers.enter("a").unwrap();
        assert_eq!(
            callers.enter("a").err(),
            Some(TooManyExecutions { limit: 2 })
        );
        let other = callers.enter("b").unwrap();
        drop(first);
        let _third = callers.enter("a").unwrap();
        drop(other);
        assert_eq!(callers.counts().len(), 1, "who has nothing is forgotten");
    }

    #[test]
    fn without_a_limit_there_is_always_a_place() {
        let callers = Arc::new(Callers::new(0));
        let places: Vec<_> = (0..1000).map(|_| callers.enter("a").unwrap()).collect();
        assert_eq!(places.len(), 1000);
    }
}
