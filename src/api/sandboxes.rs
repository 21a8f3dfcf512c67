//! SandboxService: sandboxes that their caller keeps.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{
    Pools,
    access::identity,
    execution::deadline,
    page,
    status::Refusal,
    translate::{context, sandbox},
    violations::{InvalidRequest, quoted},
};
use crate::{
    dispatch::{Dispatcher, NamedSandbox},
    proto::v1::{self, sandbox_service_server::SandboxService},
};

/// How many sandboxes a page has: of a request that does not say, and at most.
const PAGE: u32 = 100;
const MAX_PAGE: u32 = 1000;

/// Creates, shows and ends named sandboxes.
pub struct Sandboxes {
    /// Where they are.
    pub dispatcher: Arc<Dispatcher>,
    /// What the pools allow.
    pub pools: Arc<Pools>,
}

impl Sandboxes {
    fn find<T>(&self, request: &Request<T>, id: &str) -> Result<Arc<NamedSandbox>, Refusal> {
        let caller = &identity(request.extensions())?.name;
        Ok(self.dispatcher.sandbox(caller, id)?)
    }
}

#[async_trait::async_trait]
impl SandboxService for Sandboxes {
    async fn create_sandbox(
        &self,
        request: Request<v1::CreateSandboxRequest>,
    ) -> Result<Response<v1::Sandbox>, Status> {
        let caller = identity(request.extensions())
            .map_err(Refusal::from)?
            .name
            .to_string();
        let deadline = deadline(request.metadata());
        let request = request.into_inner();
        let pool = self.pools.name(&request.pool).to_owned();
        let unknown = || {
            let known = self.pools.names();
            Refusal::from(InvalidRequest::unknown_pool(&pool, known).within(""))
        };
        let rules = &self.pools.get(&pool).ok_or_else(unknown)?.rules;
        let mut new = sandbox::new(request, pool.clone(), caller, rules).map_err(Refusal::from)?;
        new.wait = deadline.unwrap_or(new.wait).min(new.wait);
        let created = self.dispatcher.create_sandbox(new).await;
        let created = created.map_err(Refusal::from)?.ok_or_else(unknown)?;
        Ok(Response::new(sandbox::message(&created)))
    }

    async fn get_sandbox(
        &self,
        request: Request<v1::GetSandboxRequest>,
    ) -> Result<Response<v1::Sandbox>, Status> {
        let found = self.find(&request, &request.get_ref().sandbox_id)?;
        Ok(Response::new(sandbox::message(&found)))
    }

    async fn list_sandboxes(
        &self,
        request: Request<v1::ListSandboxesRequest>,
    ) -> Result<Response<v1::ListSandboxesResponse>, Status> {
        let caller = &identity(request.extensions()).map_err(Refusal::from)?.name;
        let asked = request.get_ref();
        let size = page::size(asked.page_size, PAGE, MAX_PAGE);
        let mut found = self.dispatcher.sandboxes(caller, &asked.page_token);
        found.retain(|sandbox| page::has_labels(sandbox.labels(), &asked.labels));
        let last = page::cut(&mut found, size);
        Ok(Response::new(v1::ListSandboxesResponse {
            next_page_token: last.map(|last| last.id().to_string()).unwrap_or_default(),
            sandboxes: found.iter().map(|it| sandbox::message(it)).collect(),
        }))
    }

    async fn extend_sandbox(
        &self,
        request: Request<v1::ExtendSandboxRequest>,
    ) -> Result<Response<v1::Sandbox>, Status> {
        let found = self.find(&request, &request.get_ref().sandbox_id)?;
        let time = sandbox::extension(request.get_ref().lifetime).map_err(Refusal::from)?;
        found.extend(time).map_err(Refusal::from)?;
        Ok(Response::new(sandbox::message(&found)))
    }

    async fn delete_sandbox(
        &self,
        request: Request<v1::DeleteSandboxRequest>,
    ) -> Result<Response<v1::DeleteSandboxResponse>, Status> {
        let caller = &identity(request.extensions()).map_err(Refusal::from)?.name;
        let deleted = self
            .dispatcher
            .delete_sandbox(caller, &request.get_ref().sandbox_id);
        deleted.await.map_err(Refusal::from)?;
        Ok(Response::new(v1::DeleteSandboxResponse {}))
    }

    async fn create_context(
        &self,
        request: Request<v1::CreateContextRequest>,
    ) -> Result<Response<v1::Context>, Status> {
        let found = self.find(&request, &request.get_ref().sandbox_id)?;
        let pool = self.pools.get(found.pool());
        // The sandbox is of a pool that is served.
        let rules = &pool
            .ok_or_else(|| Status::internal("the pool is gone"))?
            .rules;
        let new = context::new(request.into_inner(), rules).map_err(Refusal::from)?;
        let created = self.dispatcher.create_context(found.clone(), new).await;
        let created = created.map_err(Refusal::from)?;
        let message = context::message(&created, &found.id().to_string());
        Ok(Response::new(message))
    }

    async fn list_contexts(
        &self,
        request: Request<v1::ListContextsRequest>,
    ) -> Result<Response<v1::ListContextsResponse>, Status> {
        let found = self.find(&request, &request.get_ref().sandbox_id)?;
        let id = found.id().to_string();
        let contexts = found.contexts();
        Ok(Response::new(v1::ListContextsResponse {
            contexts: contexts
                .iter()
                .map(|it| context::message(it, &id))
                .collect(),
        }))
    }

    async fn delete_context(
        &self,
        request: Request<v1::DeleteContextRequest>,
    ) -> Result<Response<v1::DeleteContextResponse>, Status> {
        let found = self.find(&request, &request.get_ref().sandbox_id)?;
        let deleted = found.delete_context(&request.get_ref().context_id).await;
        deleted.map_err(Refusal::from)?;
        Ok(Response::new(v1::DeleteContextResponse {}))
    }
}

/// The pool that an execution in a named sandbox is of.
///
/// # Errors
/// When the execution names another one.
pub(super) fn pool_of(sandbox: &NamedSandbox, asked_for: &str) -> Result<String, InvalidRequest> {
    let pool = sandbox.pool();
    if asked_for.is_empty() || asked_for == pool {
        return Ok(pool.to_owned());
    }
    let text = format!(
        "{} is not the pool of this sandbox, which is {}: leave it out",
        quoted(asked_for),
        quoted(pool)
    );
    Err(InvalidRequest::of("pool", text))
}
