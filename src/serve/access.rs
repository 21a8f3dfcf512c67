//! From the configuration to who may call.

use super::{ServeError, pools::Place};
use crate::{
    access::{Access, Members, Reviews, Tokens},
    config::{AccessConfig, Config},
    reload::Reloaded,
};

/// The operator's own tokens, if there is a file of them.
pub(super) fn tokens(config: &AccessConfig) -> Result<Option<Reloaded<Tokens>>, ServeError> {
    let paths = config.tokens.iter().cloned().collect::<Vec<_>>();
    if paths.is_empty() {
        return Ok(None);
    }
    let opened = Reloaded::open(paths, |contents| {
        Tokens::parse(contents.first().map_or(&[], Vec::as_slice))
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
    let reviews = match place {
        Place::Kubernetes(cluster) if !kubernetes.audience.is_empty() => Some(Reviews::new(
            Box::new(cluster.token_reviewer(kubernetes.audience.clone())),
            Members {
                realm: "kubernetes",
                callers: kubernetes.callers.clone(),
                admins: kubernetes.admins.clone(),
            },
        )),
        // The configuration refuses an audience where there is no cluster.
        Place::Kubernetes(_) | Place::Local(_) => None,
    };
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
