//! From the configuration to who may call.

use super::{ServeError, pools::Place};
use crate::{
    access::{Access, Members, Reviews, Tokens},
    config::{AccessConfig, Config},
    reload::Reloaded,
};

/// The operator's own tokens, if there is a file of them.
pub(crate) fn tokens(config: &AccessConfig) -> Result<Option<Reloaded<Tokens>>, ServeError> {
    let Some(path) = &config.tokens else {
        return Ok(None);
    };
    let opened = Reloaded::open(vec![path.clone()], |contents| {
        Tokens::parse(&contents.concat())
    });
    Ok(Some(opened?))
}

/// Who may call.
pub(super) fn access(
    config: &AccessConfig,
    file: Option<Reloaded<Tokens>>,
    place: &Place,
) -> Access {
    if !config.is_guarded() {
        return Access::Anonymous;
    }
    let kubernetes = &config.kubernetes;
    // The configuration refuses an audience where there is no cluster.
    let asked = place.cluster().filter(|_| !kubernetes.audience.is_empty());
    let reviews = asked.map(|cluster| {
        let members = Members {
            realm: "kubernetes",
            callers: kubernetes.callers.clone(),
            admins: kubernetes.admins.clone(),
        };
        let reviewer = cluster.token_reviewer(kubernetes.audience.clone());
        Reviews::new(Box::new(reviewer), members)
    });
    Access::Tokens { file, reviews }
}

/// Says in the log what the operator has allowed.
pub(super) fn warn(config: &Config) {
    if config.listen.ip().is_loopback() {
        return;
    }
    if config.tls.allow_plaintext {
        tracing::warn!("tls.allow_plaintext: others can read tokens, programs and their output");
    }
    if config.access.allow_anonymous {
        tracing::warn!("access.allow_anonymous: whoever reaches this server can run programs");
    }
}
