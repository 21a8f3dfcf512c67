//! The files of the server's own that it would not start without.

use super::{
    Check,
    Finding::{self, Bad, Good},
};
use crate::{
    config::Config,
    serve::{access, tls},
};

/// One for each kind of file that the configuration names.
pub(super) fn checks(config: &Config) -> Vec<Check> {
    let certificate = config.tls.files().map(|files| {
        let path = files.certificate.display().to_string();
        found(
            tls::open(files).map(|_| path),
            "put a certificate and its key where `tls` says, or correct [tls] (docs/access.md)",
        )
    });
    let tokens = config.access.tokens.as_ref().map(|path| {
        found(
            access::tokens(&config.access).map(|_| path.display().to_string()),
            "correct the file, or access.tokens (docs/access.md shows such a file)",
        )
    });
    let named = [("certificate", certificate), ("tokens", tokens)];
    named
        .into_iter()
        .filter_map(|(name, finding)| Some((name.to_owned(), finding?)))
        .collect()
}

fn found<E: std::fmt::Display>(opened: Result<String, E>, remedy: &str) -> Finding {
    match opened {
        Ok(path) => Good(path),
        Err(error) => Bad(error.to_string(), remedy.to_owned()),
    }
}
