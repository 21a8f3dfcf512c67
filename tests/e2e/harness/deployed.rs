//! The server that tests/cluster/deployed has put into the cluster: the tests that share a server share
//! this one where TEST_DEPLOYED names a file that tells how it is reached.

use std::{
    env, fs,
    net::SocketAddr,
    process::{Command, Stdio},
};

use serde::Deserialize;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};

/// What a client of it has, and where it runs.
#[derive(Deserialize)]
pub struct Deployed {
    pub address: SocketAddr,
    pub metrics: SocketAddr,
    /// A file with the certificate that signed its own.
    ca: String,
    /// What its certificate calls it.
    name: String,
    pub token: String,
    /// As kubectl names it.
    pod: String,
    namespace: String,
}

impl Deployed {
    /// The one that the tests are to share, if it is not one of their own.
    pub fn given() -> Option<Self> {
        let path = env::var("TEST_DEPLOYED").ok()?;
        Some(toml::from_str(&fs::read_to_string(path).unwrap()).unwrap())
    }

    /// By way of another address than its own, too, such as a proxy's.
    pub fn endpoint(&self, address: SocketAddr) -> Endpoint {
        let ca = Certificate::from_pem(fs::read(&self.ca).unwrap());
        let tls = ClientTlsConfig::new()
            .ca_certificate(ca)
            .domain_name(&self.name);
        let endpoint = Endpoint::from_shared(format!("https://{address}")).unwrap();
        endpoint.tls_config(tls).unwrap()
    }

    /// Writes its log to stdout: what there is of it, or all that comes.
    pub fn logs(&self, follow: bool) -> Command {
        let mut command = Command::new("kubectl");
        command.args(["--namespace", &self.namespace, "logs", &self.pod]);
        command.arg(format!("--follow={follow}"));
        command.stdin(Stdio::null()).stderr(Stdio::null());
        command
    }
}
