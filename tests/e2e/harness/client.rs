//! Connections to a server.

use std::net::SocketAddr;

use sandpool::proto::v1::{
    execution_service_client::ExecutionServiceClient, pool_service_client::PoolServiceClient,
};
use tonic::transport::{Channel, Endpoint};

use super::{Server, soon};

/// One connection. Clones share it; the last one that is dropped closes it.
#[derive(Clone)]
pub struct Client {
    pub channel: Channel,
    pub executions: ExecutionServiceClient<Channel>,
    pub pools: PoolServiceClient<Channel>,
}

impl Server {
    pub async fn client(&self) -> Client {
        Client::to(self.address).await
    }
}

impl Client {
    pub async fn to(address: SocketAddr) -> Self {
        Self::over(endpoint(address)).await
    }

    /// With an h2 window of this many bytes for each stream. That of the connection is larger, or
    /// one stream that is not read would stop all others: the client's own doing.
    pub async fn with_window(address: SocketAddr, bytes: u32) -> Self {
        let endpoint = endpoint(address)
            .initial_stream_window_size(bytes)
            .initial_connection_window_size(16 * bytes);
        Self::over(endpoint).await
    }

    async fn over(endpoint: Endpoint) -> Self {
        let channel = soon("a connection", endpoint.connect()).await.unwrap();
        Self {
            executions: ExecutionServiceClient::new(channel.clone())
                .max_decoding_message_size(64 << 20),
            pools: PoolServiceClient::new(channel.clone()),
            channel,
        }
    }
}

fn endpoint(address: SocketAddr) -> Endpoint {
    Endpoint::from_shared(format!("http://{address}")).unwrap()
}
