//! Connections to a server.

use std::{net::SocketAddr, time::Duration};

use sandpool::proto::v1::{
    execution_service_client::ExecutionServiceClient, file_service_client::FileServiceClient,
    pool_service_client::PoolServiceClient, sandbox_service_client::SandboxServiceClient,
    server_service_client::ServerServiceClient,
};
use tonic::{
    Request, Status,
    metadata::AsciiMetadataValue,
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint},
};

use super::{Server, soon};

/// A connection whose calls have the same header.
pub type Connection = InterceptedService<Channel, Authorization>;

/// One connection. Clones share it; the last one that is dropped closes it.
#[derive(Clone)]
pub struct Client {
    pub channel: Channel,
    pub executions: ExecutionServiceClient<Connection>,
    pub pools: PoolServiceClient<Connection>,
    pub sandboxes: SandboxServiceClient<Connection>,
    pub files: FileServiceClient<Connection>,
    pub server: ServerServiceClient<Connection>,
}

/// The header of that name, if there is one.
#[derive(Clone)]
pub struct Authorization(Option<AsciiMetadataValue>);

impl Interceptor for Authorization {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request
                .metadata_mut()
                .insert("authorization", value.clone());
        }
        Ok(request)
    }
}

impl Server {
    pub async fn client(&self) -> Client {
        self.client_at(self.address).await
    }

    /// By way of another address, such as a proxy's.
    pub async fn client_at(&self, address: SocketAddr) -> Client {
        self.client_over(self.endpoint(address)).await
    }

    /// With an h2 window of this many bytes for each stream. That of the connection is larger, or
    /// one stream that is not read would stop all others: the client's own doing.
    pub async fn client_with_window(&self, bytes: u32) -> Client {
        let endpoint = self
            .endpoint(self.address)
            .initial_stream_window_size(bytes)
            .initial_connection_window_size(16 * bytes);
        self.client_over(endpoint).await
    }

    /// One that asks so often whether the server is there.
    pub async fn client_that_pings(&self, interval: Duration) -> Client {
        let endpoint = self
            .endpoint(self.address)
            .http2_keep_alive_interval(interval)
            .keep_alive_while_idle(true);
        self.client_over(endpoint).await
    }

    fn endpoint(&self, address: SocketAddr) -> Endpoint {
        match &self.deployed {
            Some(deployed) => deployed.endpoint(address),
            None => Endpoint::from_shared(format!("http://{address}")).unwrap(),
        }
    }

    async fn client_over(&self, endpoint: Endpoint) -> Client {
        let channel = soon("a connection", endpoint.connect()).await.unwrap();
        let token = self.deployed.as_ref().map(|deployed| &deployed.token);
        let authorization = token.map(|token| format!("Bearer {token}"));
        Client::of(channel, authorization.as_deref())
    }
}

impl Client {
    /// The same connection, whose calls show that header instead.
    pub fn authorized(&self, authorization: &str) -> Self {
        Self::of(self.channel.clone(), Some(authorization))
    }

    /// Over a connection that there is.
    pub fn of(channel: Channel, authorization: Option<&str>) -> Self {
        let header = Authorization(authorization.map(|value| value.parse().unwrap()));
        let connection = InterceptedService::new(channel.clone(), header);
        Self {
            executions: ExecutionServiceClient::new(connection.clone())
                .max_decoding_message_size(64 << 20),
            sandboxes: SandboxServiceClient::new(connection.clone()),
            files: FileServiceClient::new(connection.clone()),
            pools: PoolServiceClient::new(connection.clone()),
            server: ServerServiceClient::new(connection),
            channel,
        }
    }
}
