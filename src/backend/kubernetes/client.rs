//! The connection to the API server.

use hyper_util::{
    client::legacy::{Client as HyperClient, connect::HttpConnector},
    rt::TokioExecutor,
};
use kube::{Client, Config, client::ConfigExt};
use tower::{BoxError, ServiceBuilder};

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
#[error("cannot make a client for the Kubernetes API at {server}: {reason}")]
pub struct ClientError {
    /// The API server's address.
    pub server: String,
    /// What is wrong with the configuration.
    pub reason: String,
}

/// A client for what `config` says, without the layers of kube's own: TCP_NODELAY is set, since an
/// exec's small messages would wait for each other's acknowledgements otherwise (44 ms instead of
/// 0.07 ms), and nothing is retried, which would keep an exec waiting for minutes.
///
/// # Errors
/// When the certificates or the credentials that `config` names cannot be used.
pub fn client(config: Config) -> Result<Client, ClientError> {
    let server = config.cluster_url.to_string();
    let failed = |error: kube::Error| ClientError {
        server: server.clone(),
        reason: error.to_string(),
    };
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    let tls = config
        .rustls_https_connector_with_connector(tcp)
        .map_err(failed)?;
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer().map_err(failed)?)
        .map_err(BoxError::from)
        .service(HyperClient::builder(TokioExecutor::new()).build(tls));
    Ok(Client::new(service, config.default_namespace))
}
