//! `[tls]`: the server's certificate.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{check::Check, units};

/// The server's certificate. Without one it speaks plaintext, which only a loopback address or
/// `allow_plaintext` makes possible. The files are read again when they change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// The certificate and those between it and a root, as PEM; "" (the default) is none.
    /// An absolute path.
    #[serde(with = "units::path_or_empty")]
    pub certificate: Option<PathBuf>,
    /// The certificate's private key, as PEM; "" (the default) is none. An absolute path.
    #[serde(with = "units::path_or_empty")]
    pub key: Option<PathBuf>,
    /// Roots of the certificates that clients must show, as PEM; "" (the default) asks for none.
    /// An absolute path.
    #[serde(with = "units::path_or_empty")]
    pub client_ca: Option<PathBuf>,
    /// Whether a server that others can reach may send and take everything in the clear, tokens
    /// included. true or false; default false.
    pub allow_plaintext: bool,
}

/// Where the certificate is.
#[derive(Clone, Copy, Debug)]
pub struct TlsFiles<'a> {
    /// See [`TlsConfig::certificate`].
    pub certificate: &'a Path,
    /// See [`TlsConfig::key`].
    pub key: &'a Path,
    /// See [`TlsConfig::client_ca`].
    pub client_ca: Option<&'a Path>,
}

impl TlsConfig {
    /// The files, if the server has a certificate.
    #[must_use]
    pub fn files(&self) -> Option<TlsFiles<'_>> {
        Some(TlsFiles {
            certificate: self.certificate.as_deref()?,
            key: self.key.as_deref()?,
            client_ca: self.client_ca.as_deref(),
        })
    }

    pub(super) fn check(&self, check: &mut Check) {
        check.absolute("tls.certificate", self.certificate.as_deref());
        check.absolute("tls.key", self.key.as_deref());
        check.absolute("tls.client_ca", self.client_ca.as_deref());
        match (&self.certificate, &self.key) {
            (Some(_), None) => check.problem("tls.key", "the certificate's private key"),
            (None, Some(_)) => check.problem("tls.certificate", "the key's certificate"),
            (None, None) if self.client_ca.is_some() => {
                check.problem("tls.certificate", "a certificate where clients need one");
            }
            (Some(_), Some(_)) if self.allow_plaintext => {
                check.problem("tls.allow_plaintext", "false where a certificate is given");
            }
            (None, None) | (Some(_), Some(_)) => {}
        }
    }
}
