//! The operator's file of bearer tokens.

use std::{collections::HashMap, str};

use serde::Deserialize;

use super::{Digest, Identity, Role, Sha256};

/// Shorter ones could be guessed.
const MIN_TOKEN: usize = 16;
/// What clients and proxies pass on in a header without trouble.
const MAX_TOKEN: usize = 4096;
const MAX_NAME: usize = 64;

/// Tokens, and whose they are.
pub struct Tokens {
    owners: HashMap<Sha256, Identity>,
}

/// Why a file is none of tokens. No text holds a token.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokensError {
    /// It is not UTF-8.
    #[error("is not text")]
    NotText,
    /// It is not TOML, or has other keys.
    #[error("is no list of [[token]] with name, role and token: {0}")]
    Syntax(String),
    /// Nobody could call.
    #[error("holds no token: a [[token]] has name, role and token")]
    Empty,
    /// One of the entries.
    #[error("token {number}, of {name:?}: {problem}")]
    Entry {
        /// Its place in the file, from 1.
        number: usize,
        /// Whose it would be.
        name: String,
        /// What is wrong with it.
        problem: EntryProblem,
    },
}

/// What is wrong with an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryProblem {
    /// It goes into log lines, and must not be confused with a cluster's user.
    #[error("name must be 1 to {MAX_NAME} of a-z, A-Z, 0-9, '.', '_' and '-'")]
    Name,
    /// Too short, too long, or not what a header can hold.
    #[error(
        "token must be {MIN_TOKEN} to {MAX_TOKEN} letters, digits or -._~+/=, such as `openssl rand \
         -hex 32` prints"
    )]
    Token,
    /// The same token twice.
    #[error("token is another entry's, too")]
    Twice,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    token: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    role: Role,
    token: String,
}

impl Tokens {
    /// From a file's content.
    ///
    /// # Errors
    /// See [`TokensError`].
    pub fn parse(content: &[u8]) -> Result<Self, TokensError> {
        let text = str::from_utf8(content).map_err(|_| TokensError::NotText)?;
        // Not the whole error, which would quote the line.
        let file: File = toml::from_str(text)
            .map_err(|error| TokensError::Syntax(error.message().trim_end().to_owned()))?;
        let mut owners = HashMap::new();
        for (index, entry) in file.token.into_iter().enumerate() {
            let added = entry.add_to(&mut owners);
            added.map_err(|(name, problem)| TokensError::Entry {
                number: index + 1,
                name,
                problem,
            })?;
        }
        if owners.is_empty() {
            return Err(TokensError::Empty);
        }
        Ok(Self { owners })
    }

    pub(super) fn owner(&self, token: &Digest<'_>) -> Option<Identity> {
        self.owners.get(&token.sha256).cloned()
    }
}

impl Entry {
    fn add_to(self, owners: &mut HashMap<Sha256, Identity>) -> Result<(), (String, EntryProblem)> {
        if let Some(problem) = self.problem() {
            return Err((self.name, problem));
        }
        let identity = Identity {
            name: self.name.as_str().into(),
            role: self.role,
        };
        match owners.insert(Digest::of(&self.token).sha256, identity) {
            Some(_) => Err((self.name, EntryProblem::Twice)),
            None => Ok(()),
        }
    }

    fn problem(&self) -> Option<EntryProblem> {
        // RFC 6750, section 2.1: b64token.
        let in_token = |c: char| c.is_ascii_alphanumeric() || "-._~+/=".contains(c);
        let in_name = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if !(1..=MAX_NAME).contains(&self.name.len()) || !self.name.chars().all(in_name) {
            Some(EntryProblem::Name)
        } else if !(MIN_TOKEN..=MAX_TOKEN).contains(&self.token.len())
            || !self.token.chars().all(in_token)
        {
            Some(EntryProblem::Token)
        } else {
            None
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn entry(name: &str, role: &str, token: &str) -> String {
        format!("[[token]]\nname = {name:?}\nrole = {role:?}\ntoken = {token:?}\n")
    }

    fn refusal(text: &str) -> String {
        let Err(error) = Tokens::parse(text.as_bytes()) else {
            panic!("accepted: {text}");
        };
        error.to_string()
    }

    #[test]
    fn a_token_has_its_owner_and_no_other_has_one() {
        let text = entry("agents", "caller", "0123456789abcdef")
            + &entry("operator", "admin", "fedcba9876543210")
            + &entry("agents", "caller", "the-next-token-of-agents");
        let tokens = Tokens::parse(text.as_bytes()).unwrap();
        let owner = |token| tokens.owner(&Digest::of(token));
        let agents = owner("0123456789abcdef").unwrap();
        assert_eq!((&*agents.name, agents.role), ("agents", Role::Caller));
        assert_eq!(owner("fedcba9876543210").unwrap().role, Role::Admin);
        assert_eq!(owner("the-next-token-of-agents"), Some(agents));
        assert_eq!(owner("0123456789abcdeF"), None);
        assert_eq!(owner(""), None);
    }

    #[test]
    fn what_is_wrong_is_told_without_the_token() {
        let secret = "the secret of secrets";
        for (text, expected) in [
            (String::new(), "holds no token"),
            (
                entry("a", "caller", "short"),
                "token 1, of \"a\": token must be 16",
            ),
            (
                entry("a", "caller", secret),
                "token 1, of \"a\": token must be 16",
            ),
            (
                entry("system:a", "caller", "0123456789abcdef"),
                "name must be 1 to 64",
            ),
            (entry("a", "root", secret), "is no list of [[token]]"),
            (format!("token = {secret}"), "is no list of [[token]]"),
            (
                entry("a", "caller", "0123456789abcdef").repeat(2),
                "token 2, of \"a\": token is another entry's, too",
            ),
        ] {
            let told = refusal(&text);
            assert!(told.contains(expected), "{text}: {told}");
            assert!(!told.contains(secret), "{told}");
        }
    }
}
