//! ServerService: which server this is.

use tonic::{Request, Response, Status};

use crate::proto::v1::{self, server_service_server::ServerService};

/// Tells whoever was let in what they speak with.
pub struct ServerDescription;

#[async_trait::async_trait]
impl ServerService for ServerDescription {
    async fn get_server_info(
        &self,
        _: Request<v1::GetServerInfoRequest>,
    ) -> Result<Response<v1::ServerInfo>, Status> {
        Ok(Response::new(v1::ServerInfo {
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }))
    }
}
