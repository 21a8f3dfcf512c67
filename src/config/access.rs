//! `[access]`: who may call the server.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{backend::BackendKind, check::Check, units};

/// Who may call. A server that has neither a file of tokens nor Kubernetes to ask lets everyone in,
/// which only a loopback address or `allow_anonymous` makes possible.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessConfig {
    /// The file of bearer tokens, read again when it changes; "" (the default) is none.
    /// An absolute path.
    #[serde(with = "units::path_or_empty")]
    pub tokens: Option<PathBuf>,
    /// Whether a server that others can reach may run whatever anyone sends, and let anyone change
    /// its pools. true or false; default false.
    pub allow_anonymous: bool,
    /// Tokens that a cluster vouches for.
    pub kubernetes: KubernetesAccessConfig,
}

/// Tokens of service accounts, which the cluster's API server is asked about (TokenReview).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KubernetesAccessConfig {
    /// What a token must have been issued for; "" (the default) asks for none of them.
    pub audience: String,
    /// Users and groups that may run programs. A list of names such as
    /// "system:serviceaccount:agents:default" or "system:serviceaccounts:agents"; default [].
    pub callers: Vec<String>,
    /// Users and groups that may change pools, too. A list of names; default [].
    pub admins: Vec<String>,
}

impl AccessConfig {
    /// Whether a call must say who it is from.
    #[must_use]
    pub fn is_guarded(&self) -> bool {
        self.tokens.is_some() || !self.kubernetes.audience.is_empty()
    }

    pub(super) fn check(&self, backend: BackendKind, check: &mut Check) {
        check.absolute("access.tokens", self.tokens.as_deref());
        if self.allow_anonymous && self.is_guarded() {
            check.problem(
                "access.allow_anonymous",
                "false where access.tokens or access.kubernetes.audience is given",
            );
        }
        let kubernetes = &self.kubernetes;
        let named = !kubernetes.callers.is_empty() || !kubernetes.admins.is_empty();
        if kubernetes.audience.is_empty() {
            if named {
                check.problem(
                    "access.kubernetes.audience",
                    "what tokens are issued for, such as sandpool, where callers or admins are named",
                );
            }
            return;
        }
        if backend != BackendKind::Kubernetes {
            check.problem(
                "access.kubernetes.audience",
                "\"\" where backend.kind is not kubernetes",
            );
        }
        if !named {
            check.problem(
                "access.kubernetes.callers",
                "the users and groups that may call, here or in access.kubernetes.admins",
            );
        }
    }
}
