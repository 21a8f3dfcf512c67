//! Who a call is from, and what they may do.
//!
//! - `tokens`: the operator's file of bearer tokens
//! - `reviews`: tokens that somebody else vouches for, such as a cluster's API server
//!
//! Nothing here knows gRPC or Kubernetes: `api/access.rs` asks, and `serve.rs` says whom to ask.

mod reviews;
mod tokens;

use std::sync::Arc;

use serde::Deserialize;

pub use self::{
    reviews::{Members, ReviewTokens, ReviewedUser, Reviews},
    tokens::{Tokens, TokensError},
};
use crate::reload::Reloaded;

/// What a caller may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Run programs, and look at the pools.
    Caller,
    /// Change the pools, too.
    Admin,
}

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Unique: limits and execution ids count by it, and log lines name it.
    pub name: Arc<str>,
    /// What they may do.
    pub role: Role,
}

/// Why a call goes no further. The texts tell nobody what would have been right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// There is no token, or none that is valid.
    #[error("a valid bearer token is needed")]
    Unauthenticated,
    /// The token is valid, and its owner may not do this.
    #[error("this is not allowed")]
    NotAllowed,
    /// Whoever vouches for tokens does not answer.
    #[error("tokens cannot be checked at the moment")]
    Unavailable,
}

/// Lets calls in.
pub enum Access {
    /// Everyone, as one admin.
    Anonymous,
    /// Those who show a bearer token (RFC 6750).
    Tokens {
        /// The operator's own tokens, which are looked at first.
        file: Option<Reloaded<Tokens>>,
        /// Other tokens.
        reviews: Option<Reviews>,
    },
}

impl Access {
    /// Who the call with this token is from.
    ///
    /// # Errors
    /// See [`Denied`].
    pub async fn identify(&self, token: Option<&str>) -> Result<Identity, Denied> {
        let (file, reviews) = match self {
            Self::Anonymous => {
                return Ok(Identity {
                    name: "anonymous".into(),
                    role: Role::Admin,
                });
            }
            Self::Tokens { file, reviews } => (file, reviews),
        };
        let token = Digest::of(token.ok_or(Denied::Unauthenticated)?);
        let known = file.as_ref().and_then(|file| file.current().owner(&token));
        match (known, reviews) {
            (Some(identity), _) => Ok(identity),
            (None, Some(reviews)) => reviews.identify(token).await,
            (None, None) => Err(Denied::Unauthenticated),
        }
    }
}

impl Identity {
    /// Whether they may change pools.
    ///
    /// # Errors
    /// [`Denied::NotAllowed`].
    pub fn require_admin(&self) -> Result<(), Denied> {
        match self.role {
            Role::Admin => Ok(()),
            Role::Caller => Err(Denied::NotAllowed),
        }
    }
}

/// A token and its SHA-256, by which it is looked up: how long a comparison takes tells nothing then.
struct Digest<'a> {
    token: &'a str,
    sha256: Sha256,
}

type Sha256 = [u8; 32];

impl<'a> Digest<'a> {
    fn of(token: &'a str) -> Self {
        let digest = ring::digest::digest(&ring::digest::SHA256, token.as_bytes());
        let mut sha256 = Sha256::default();
        sha256.copy_from_slice(digest.as_ref());
        Self { token, sha256 }
    }
}
