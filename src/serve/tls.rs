//! The server's certificate, and connections that were made with it.

use std::{future::ready, io, path::Path, sync::Arc, time::Duration};

use futures_util::{Stream, StreamExt};
use tokio::{
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        self, RootCertStore, ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject},
        server::WebPkiClientVerifier,
    },
    server::TlsStream,
};
use tonic::transport::server::TcpIncoming;

use crate::{
    config::TlsFiles,
    reload::{Contents, ReloadError, Reloaded},
};

/// How long a client may take to greet.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Clients that greet at once; others wait.
const HANDSHAKES: usize = 1024;

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// `tls.certificate` is none.
    #[error("tls.certificate holds no certificate in PEM: {0}")]
    Certificate(pem::Error),
    /// `tls.key` is none.
    #[error("tls.key holds no private key in PEM: {0}")]
    Key(pem::Error),
    /// `tls.client_ca` holds none.
    #[error("tls.client_ca holds no certificates in PEM: {0}")]
    ClientCa(pem::Error),
    /// They do not belong together, or are not what a server can use.
    #[error("tls.certificate and tls.key cannot be used: {0}")]
    Unusable(rustls::Error),
    /// `tls.client_ca` is not what clients' certificates can be checked with.
    #[error("tls.client_ca cannot be used: {0}")]
    UnusableClientCa(String),
}

/// Reads the files, and follows them.
pub(crate) fn open(files: TlsFiles<'_>) -> Result<Reloaded<ServerConfig>, ReloadError<TlsError>> {
    let paths = [Some(files.certificate), Some(files.key), files.client_ca];
    Reloaded::open(
        paths.into_iter().flatten().map(Path::to_owned).collect(),
        config,
    )
}

fn config(contents: &Contents) -> Result<ServerConfig, TlsError> {
    let content = |index: usize| contents.get(index).map_or(&[][..], Vec::as_slice);
    let certificates = certificates(content(0)).map_err(TlsError::Certificate)?;
    let key = PrivateKeyDer::from_pem_slice(content(1)).map_err(TlsError::Key)?;
    let provider = Arc::new(ring::default_provider());
    let versions = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Unusable)?;
    let clients = match contents.get(2) {
        None => versions.with_no_client_auth(),
        Some(content) => {
            let unusable =
                |error: &dyn std::error::Error| TlsError::UnusableClientCa(error.to_string());
            let mut roots = RootCertStore::empty();
            for root in self::certificates(content).map_err(TlsError::ClientCa)? {
                roots.add(root).map_err(|error| unusable(&error))?;
            }
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            versions.with_client_cert_verifier(verifier.map_err(|error| unusable(&error))?)
        }
    };
    let mut config = clients
        .with_single_cert(certificates, key)
        .map_err(TlsError::Unusable)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, pem::Error> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>()?;
    if found.is_empty() {
        return Err(pem::Error::NoItemsFound);
    }
    Ok(found)
}

/// Connections whose clients have greeted; others are closed. Each is made with the certificate as it
/// is then.
pub(super) fn accept(
    listener: TcpListener,
    config: Reloaded<ServerConfig>,
) -> impl Stream<Item = io::Result<TlsStream<TcpStream>>> {
    TcpIncoming::from(listener)
        .with_nodelay(Some(true))
        .map(move |connection| handshake(config.current(), connection))
        .buffer_unordered(HANDSHAKES)
        .filter_map(ready)
}

async fn handshake(
    config: Arc<ServerConfig>,
    connection: io::Result<TcpStream>,
) -> Option<io::Result<TlsStream<TcpStream>>> {
    let connection = match connection {
        Ok(connection) => connection,
        Err(error) => return Some(Err(error)),
    };
    let client = connection.peer_addr().ok();
    let accepted = TlsAcceptor::from(config).accept(connection);
    match timeout(HANDSHAKE_TIMEOUT, accepted).await {
        Ok(Ok(stream)) => Some(Ok(stream)),
        Ok(Err(reason)) => {
            tracing::debug!(?client, %reason, "a client was not let in by TLS");
            None
        }
        Err(_) => {
            tracing::debug!(?client, "a client did not greet in {HANDSHAKE_TIMEOUT:?}");
            None
        }
    }
}
