//! `[metrics]`: where metrics and probes are answered.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::{check::Check, units};

/// Where metrics and probes are answered, over plain HTTP.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetricsConfig {
    /// An address and a port of their own; "" (the default) answers nowhere. Nothing secret is
    /// shown, so any address will do.
    #[serde(with = "units::address_or_empty")]
    pub listen: Option<SocketAddr>,
}

impl MetricsConfig {
    /// `listen`: the service's own address.
    pub(super) fn check(&self, listen: SocketAddr, check: &mut Check) {
        // Port 0 is another one each time.
        if self.listen == Some(listen) && listen.port() != 0 {
            check.problem("metrics.listen", "another address than that of `listen`");
        }
    }
}
