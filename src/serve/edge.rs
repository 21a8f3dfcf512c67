//! Where calls come in: connections, and what every one of them goes through.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{net::TcpListener, sync::watch};
use tokio_rustls::rustls::ServerConfig;
use tonic::{
    service::{Routes, RoutesBuilder},
    transport::{Server, server::TcpIncoming},
};
use tonic_health::pb::health_server::{Health, HealthServer};

use super::{ServeError, tls};
use crate::{
    access::Access,
    api::{
        AccessLayer, ExecutionServer, Executions, Files, PoolAdministration, Pools, Sandboxes,
        ServerDescription,
    },
    dispatch::Dispatcher,
    proto::v1::{
        self, file_service_server::FileServiceServer, pool_service_server::PoolServiceServer,
        sandbox_service_server::SandboxServiceServer, server_service_server::ServerServiceServer,
    },
    reload::Reloaded,
};

/// The largest request: a spec with its files.
const MAX_MESSAGE: usize = 32 << 20;
/// Calls at once on one connection.
const MAX_STREAMS: u32 = 1024;
/// Bytes of a call that its client may send before they are taken: what a program does not read stays
/// here. Enough for 6 MB/s at 40 ms there and back.
const STREAM_WINDOW: u32 = 256 * 1024;
/// Never less than all calls may fill together, or programs that do not read their stdin would hold
/// back the other calls of their connection. It bounds what a connection's calls can leave untaken; a
/// message that is being put together may have [`MAX_MESSAGE`] besides.
const CONNECTION_WINDOW: u32 = MAX_STREAMS * STREAM_WINDOW;
/// What a frame may hold: each costs a system call or two. A connection may have one that is not complete.
const MAX_FRAME: u32 = 64 * 1024;
/// A client that is silent this long is asked whether it is there, and is gone if it does not
/// answer within the other: its programs are cancelled then.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// How a server that ends treats its clients' connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// It does not end yet.
    Open,
    /// Clients are sent away (GOAWAY), to another server if there is one; their calls go on. Those
    /// who come back are told that this one is shutting down.
    Draining,
    /// Everything has ended: nobody is let in.
    Closed,
}

/// A listener, and where it listens.
pub(super) async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), ServeError> {
    let failed = |source| ServeError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

/// Where calls come in.
pub(super) struct Edge {
    listener: TcpListener,
    tls: Option<Reloaded<ServerConfig>>,
    access: AccessLayer,
}

impl Edge {
    /// Lets in whom `access` knows, by TLS if there is a certificate.
    pub(super) fn new(
        listener: TcpListener,
        tls: Option<Reloaded<ServerConfig>>,
        access: Access,
    ) -> Self {
        Self {
            listener,
            tls,
            access: AccessLayer::new(access),
        }
    }

    /// Serves until the last stage, and then until the last connection has ended.
    pub(super) async fn serve(
        self,
        routes: Routes,
        stage: watch::Receiver<Stage>,
    ) -> Result<(), ServeError> {
        // The same socket twice: for those who are sent away, and for those who come later.
        let socket = self.listener.into_std().map_err(failed)?;
        let again = socket.try_clone().map_err(failed)?;
        let edge = Listening {
            tls: self.tls,
            access: self.access,
            routes,
        };
        tokio::try_join!(
            edge.listen(socket, reached(stage.clone(), Stage::Draining)),
            async {
                reached(stage.clone(), Stage::Draining).await;
                edge.listen(again, reached(stage, Stage::Closed)).await
            }
        )
        .map(|((), ())| ())
    }
}

async fn reached(mut stage: watch::Receiver<Stage>, wanted: Stage) {
    // A dropped sender is the last stage.
    let _ = stage.wait_for(|stage| *stage >= wanted).await;
}

/// What all connections have in common.
struct Listening {
    tls: Option<Reloaded<ServerConfig>>,
    access: AccessLayer,
    routes: Routes,
}

impl Listening {
    async fn listen(
        &self,
        socket: std::net::TcpListener,
        end: impl Future<Output = ()>,
    ) -> Result<(), ServeError> {
        let listener = TcpListener::from_std(socket).map_err(failed)?;
        let router = Server::builder()
            .layer(self.access.clone())
            .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
            .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
            .max_concurrent_streams(MAX_STREAMS)
            // All calls of a connection may be cancelled at once. By default the 20th that is, before h2 has
            // handed it on, ends the connection with all its other calls.
            .http2_max_pending_accept_reset_streams(Some(MAX_STREAMS as usize))
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(MAX_FRAME)
            .add_routes(self.routes.clone());
        match &self.tls {
            None => {
                let connections = TcpIncoming::from(listener).with_nodelay(Some(true));
                router.serve_with_incoming_shutdown(connections, end).await
            }
            Some(certificate) => {
                let connections = tls::accept(listener, certificate.clone());
                router.serve_with_incoming_shutdown(connections, end).await
            }
        }
        .map_err(failed)
    }
}

/// The services that there are.
pub(super) fn services(
    dispatcher: &Arc<Dispatcher>,
    pools: &Arc<Pools>,
    health: HealthServer<impl Health>,
) -> Result<Routes, ServeError> {
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(v1::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            // So that grpcurl shows what is wrong with which field.
            .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
    };
    let executions = Executions {
        dispatcher: dispatcher.clone(),
        pools: pools.clone(),
    };
    let sandboxes = Sandboxes {
        dispatcher: dispatcher.clone(),
        pools: pools.clone(),
    };
    let files = Files {
        dispatcher: dispatcher.clone(),
    };
    let administration = PoolAdministration {
        dispatcher: dispatcher.clone(),
        pools: pools.clone(),
    };
    let mut routes = RoutesBuilder::default();
    routes
        .add_service(ExecutionServer::new(executions, MAX_MESSAGE))
        .add_service(SandboxServiceServer::new(sandboxes).max_decoding_message_size(MAX_MESSAGE))
        .add_service(FileServiceServer::new(files))
        .add_service(PoolServiceServer::new(administration))
        .add_service(ServerServiceServer::new(ServerDescription))
        .add_service(health)
        .add_service(reflection().build_v1().map_err(failed)?)
        .add_service(reflection().build_v1alpha().map_err(failed)?);
    Ok(routes.routes())
}

fn failed(error: impl std::fmt::Display) -> ServeError {
    ServeError::Server(error.to_string())
}
