//! A server whose way to the API server leads through a proxy.

use tempfile::NamedTempFile;

use crate::{
    cluster,
    harness::{server::ServerBuilder, *},
    proxy::Proxy,
};

/// Ended in this order: the server needs its way until its end.
pub struct Proxied {
    pub client: Client,
    pub server: Server,
    pub proxy: Proxy,
    _kubeconfig: NamedTempFile,
}

impl Proxied {
    /// As the administrator, whom the tests are.
    pub async fn start(server: ServerBuilder) -> Self {
        Self::start_as(None, server).await
    }

    /// As the account that a token is of.
    pub async fn start_as(token: Option<&str>, server: ServerBuilder) -> Self {
        let proxy = Proxy::before(cluster::api_server());
        let kubeconfig = cluster::kubeconfig(proxy.address, token);
        let server = server.env("KUBECONFIG", kubeconfig.path().into()).start();
        Self {
            client: server.client().await,
            server,
            proxy,
            _kubeconfig: kubeconfig,
        }
    }
}
