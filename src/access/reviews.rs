//! Tokens that somebody else vouches for, and for how long an answer is believed.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use tokio::{sync::Semaphore, time::Instant};

use super::{Denied, Digest, Identity, Role, Sha256};

/// How long a token stays valid here that has been revoked there.
const VALID_FOR: Duration = Duration::from_secs(60);
/// How long a token stays invalid here that has become valid there.
const INVALID_FOR: Duration = Duration::from_secs(10);
/// How many answers are remembered.
const REMEMBERED: usize = 10_000;
/// How many tokens are asked about at once: whoever has none must not keep a cluster busy.
const ASKING: usize = 16;
/// How long a call waits for its turn to ask.
const TURN_TIMEOUT: Duration = Duration::from_secs(10);

/// Who a token belongs to, as the one who vouches for it calls them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReviewedUser {
    /// The user.
    pub name: String,
    /// Their groups.
    pub groups: Vec<String>,
}

/// Whoever vouches for tokens.
#[async_trait]
pub trait ReviewTokens: Send + Sync {
    /// Whose token it is; `None` if it is nobody's. Answers within 30 s or so.
    ///
    /// # Errors
    /// Why nobody could be asked, for the log.
    async fn review(&self, token: &str) -> Result<Option<ReviewedUser>, String>;
}

/// Who of those whose token is valid may call: names of users and of groups.
#[derive(Clone, Debug)]
pub struct Members {
    /// Whom they are known by, before their name: so that no operator's token has the same name.
    pub realm: &'static str,
    /// They may run programs.
    pub callers: Vec<String>,
    /// They may change pools, too.
    pub admins: Vec<String>,
}

/// Asks about tokens, and remembers the answers.
pub struct Reviews {
    reviewer: Box<dyn ReviewTokens>,
    members: Members,
    answers: Mutex<HashMap<Sha256, Answer>>,
    turns: Semaphore,
}

#[derive(Clone)]
struct Answer {
    identity: Result<Identity, Denied>,
    until: Instant,
}

impl Reviews {
    /// Lets in those of `members` for whose token `reviewer` vouches.
    #[must_use]
    pub fn new(reviewer: Box<dyn ReviewTokens>, members: Members) -> Self {
        Self {
            reviewer,
            members,
            answers: Mutex::default(),
            turns: Semaphore::new(ASKING),
        }
    }

    pub(super) async fn identify(&self, token: Digest<'_>) -> Result<Identity, Denied> {
        if let Some(identity) = self.remembered(&token.sha256) {
            return identity;
        }
        let turn = tokio::time::timeout(TURN_TIMEOUT, self.turns.acquire()).await;
        // Held until the answer is remembered. The semaphore is never closed.
        let _turn = turn.map_err(|_| Denied::Unavailable)?;
        // Whoever was before us may have asked about the same one.
        if let Some(identity) = self.remembered(&token.sha256) {
            return identity;
        }
        let reviewed = self.reviewer.review(token.token).await.map_err(|reason| {
            tracing::warn!(%reason, "a token cannot be checked");
            Denied::Unavailable
        })?;
        let identity = self.members.identity(reviewed);
        let valid_for = match identity {
            Ok(_) => VALID_FOR,
            Err(_) => INVALID_FOR,
        };
        let answer = Answer {
            identity: identity.clone(),
            until: Instant::now() + valid_for,
        };
        self.remember(token.sha256, answer);
        identity
    }

    fn answers(&self) -> MutexGuard<'_, HashMap<Sha256, Answer>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remembered(&self, sha256: &Sha256) -> Option<Result<Identity, Denied>> {
        let answers = self.answers();
        let answer = answers.get(sha256)?;
        (Instant::now() < answer.until).then(|| answer.identity.clone())
    }

    fn remember(&self, sha256: Sha256, answer: Answer) {
        let mut answers = self.answers();
        if answers.len() >= REMEMBERED {
            let now = Instant::now();
            answers.retain(|_, answer| now < answer.until);
        }
        // Asking again is slow, not wrong.
        if answers.len() >= REMEMBERED {
            answers.clear();
        }
        answers.insert(sha256, answer);
    }
}

impl Members {
    fn identity(&self, user: Option<ReviewedUser>) -> Result<Identity, Denied> {
        let user = user.ok_or(Denied::Unauthenticated)?;
        let among = |list: &[String]| {
            list.iter()
                .any(|member| *member == user.name || user.groups.contains(member))
        };
        let role = if among(&self.admins) {
            Role::Admin
        } else if among(&self.callers) {
            Role::Caller
        } else {
            return Err(Denied::NotAllowed);
        };
        Ok(Identity {
            name: format!("{}:{}", self.realm, user.name).into(),
            role,
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use super::*;

    /// Vouches for tokens that are "USER" or "USER of GROUP"; counts how often it is asked.
    #[derive(Default)]
    struct Reviewer {
        asked: Arc<AtomicUsize>,
    }

    #[async_trait]
    impl ReviewTokens for Reviewer {
        async fn review(&self, token: &str) -> Result<Option<ReviewedUser>, String> {
            self.asked.fetch_add(1, Ordering::Relaxed);
            let (name, group) = token.split_once(" of ").unwrap_or((token, ""));
            match name {
                "nobody" => Ok(None),
                "silence" => Err("no answer".to_owned()),
                name => Ok(Some(ReviewedUser {
                    name: name.to_owned(),
                    groups: vec![group.to_owned()],
                })),
            }
        }
    }

    fn reviews() -> (Reviews, Arc<AtomicUsize>) {
        let reviewer = Reviewer::default();
        let asked = reviewer.asked.clone();
        let members = Members {
            realm: "test",
            callers: vec!["ann".to_owned(), "agents".to_owned()],
            admins: vec!["operators".to_owned()],
        };
        (Reviews::new(Box::new(reviewer), members), asked)
    }

    #[tokio::test(start_paused = true)]
    async fn users_and_groups_have_the_role_that_they_are_listed_with() {
        let (reviews, _) = reviews();
        for (token, expected) in [
            ("ann", Ok(("test:ann", Role::Caller))),
            ("bob of agents", Ok(("test:bob", Role::Caller))),
            ("ann of operators", Ok(("test:ann", Role::Admin))),
            ("bob", Err(Denied::NotAllowed)),
            ("nobody", Err(Denied::Unauthenticated)),
            ("silence", Err(Denied::Unavailable)),
        ] {
            let identity = reviews.identify(Digest::of(token)).await;
            let identity = identity.as_ref().map(|i| (&*i.name, i.role));
            assert_eq!(identity, expected.as_ref().map(|e| *e), "{token}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_believed_for_a_while_and_silence_is_none() {
        let (reviews, asked) = reviews();
        for (token, valid_for) in [
            ("ann", VALID_FOR),
            ("nobody", INVALID_FOR),
            ("silence", Duration::ZERO),
        ] {
            asked.store(0, Ordering::Relaxed);
            let first = reviews.identify(Digest::of(token)).await;
            tokio::time::advance(valid_for.saturating_sub(Duration::from_millis(1))).await;
            assert_eq!(reviews.identify(Digest::of(token)).await, first);
            let expected = if valid_for.is_zero() { 2 } else { 1 };
            assert_eq!(asked.load(Ordering::Relaxed), expected, "{token}");
            tokio::time::advance(Duration::from_millis(1)).await;
            assert_eq!(reviews.identify(Digest::of(token)).await, first);
            assert_eq!(asked.load(Ordering::Relaxed), expected + 1, "{token}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn answers_do_not_heap_up() {
        let (reviews, _) = reviews();
        for number in 0..2 * REMEMBERED {
            let token = format!("user {number}");
            assert!(reviews.identify(Digest::of(&token)).await.is_err());
        }
        assert!(reviews.answers().len() <= REMEMBERED);
    }
}
