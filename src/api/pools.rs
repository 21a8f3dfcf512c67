//! PoolService, and what the API knows of the pools.

use std::{collections::BTreeMap, pin::Pin, sync::Arc};

use tokio_stream::{Stream, StreamExt, wrappers::WatchStream};
use tonic::{Request, Response, Status};

use super::{
    access::identity,
    status::Refusal,
    translate::{PoolRules, outcome::duration},
};
use crate::{
    dispatch::{Dispatcher, SandboxPool},
    execution::Limits,
    pool::{PoolHealth, PoolStatus},
    proto::v1::{self, pool_health::State, pool_service_server::PoolService},
};

/// What the API tells of a pool, and what it allows there.
pub struct PoolInfo {
    /// What a spec may ask for.
    pub rules: PoolRules,
    /// The languages and their preloaded modules, for people.
    pub preloads: Vec<(String, Vec<String>)>,
    /// The backend's name, for people.
    pub backend: &'static str,
}

/// All pools by name.
pub struct Pools {
    /// What there is.
    pub by_name: BTreeMap<String, PoolInfo>,
    /// Which one a spec means that names none.
    pub default: String,
}

impl Pools {
    /// The pool that a spec means.
    pub(super) fn name<'a>(&'a self, given: &'a str) -> &'a str {
        if given.is_empty() {
            &self.default
        } else {
            given
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<&PoolInfo> {
        self.by_name.get(name)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }
}

/// Shows and resizes pools.
pub struct PoolAdministration {
    /// The pools themselves.
    pub dispatcher: Arc<Dispatcher>,
    /// What is told of them.
    pub pools: Arc<Pools>,
}

impl PoolAdministration {
    fn find(&self, name: &str) -> Result<(&PoolInfo, &Arc<SandboxPool>), Status> {
        let found = self.pools.get(name).zip(self.dispatcher.pool(name));
        found.ok_or_else(|| {
            Refusal::UnknownPool {
                name: name.to_owned(),
            }
            .into()
        })
    }

    fn describe(&self, name: &str) -> Result<v1::Pool, Status> {
        let (info, pool) = self.find(name)?;
        Ok(message(name, &self.pools.default, info, &pool.status()))
    }
}

#[async_trait::async_trait]
impl PoolService for PoolAdministration {
    async fn list_pools(
        &self,
        _: Request<v1::ListPoolsRequest>,
    ) -> Result<Response<v1::ListPoolsResponse>, Status> {
        let pools: Result<_, _> = self.pools.names().map(|name| self.describe(name)).collect();
        Ok(Response::new(v1::ListPoolsResponse { pools: pools? }))
    }

    async fn get_pool(
        &self,
        request: Request<v1::GetPoolRequest>,
    ) -> Result<Response<v1::Pool>, Status> {
        self.describe(&request.get_ref().name).map(Response::new)
    }

    type WatchPoolStream = Pin<Box<dyn Stream<Item = Result<v1::Pool, Status>> + Send>>;

    async fn watch_pool(
        &self,
        request: Request<v1::WatchPoolRequest>,
    ) -> Result<Response<Self::WatchPoolStream>, Status> {
        let name = request.into_inner().name;
        let (_, pool) = self.find(&name)?;
        let pools = self.pools.clone();
        let changes = WatchStream::new(pool.watch()).filter_map(move |status| {
            let info = pools.get(&name)?;
            Some(Ok(message(&name, &pools.default, info, &status)))
        });
        Ok(Response::new(Box::pin(changes)))
    }

    async fn resize_pool(
        &self,
        request: Request<v1::ResizePoolRequest>,
    ) -> Result<Response<v1::Pool>, Status> {
        require_admin(&request)?;
        let request = request.into_inner();
        let (_, pool) = self.find(&request.name)?;
        pool.resize(request.min_idle, request.max_sandboxes)
            .map_err(Refusal::from)?;
        self.describe(&request.name).map(Response::new)
    }

    async fn drain_pool(
        &self,
        request: Request<v1::DrainPoolRequest>,
    ) -> Result<Response<v1::Pool>, Status> {
        require_admin(&request)?;
        let name = request.into_inner().name;
        self.find(&name)?.1.drain();
        self.describe(&name).map(Response::new)
    }
}

fn require_admin<T>(request: &Request<T>) -> Result<(), Refusal> {
    let identity = identity(request.extensions())?;
    Ok(identity.require_admin()?)
}

fn message(name: &str, default: &str, info: &PoolInfo, status: &PoolStatus) -> v1::Pool {
    let (state, reason, failed_starts) = match &status.health {
        PoolHealth::Warming => (State::Warming, "", 0),
        PoolHealth::Ready => (State::Ready, "", 0),
        PoolHealth::Unhealthy {
            reason,
            failed_starts,
        } => (State::Unhealthy, &**reason, *failed_starts),
        PoolHealth::Drained => (State::Drained, "", 0),
    };
    v1::Pool {
        spec: Some(v1::PoolSpec {
            name: name.to_owned(),
            default: name == default,
            backend: info.backend.to_owned(),
            languages: info
                .preloads
                .iter()
                .map(|(name, preload)| v1::PoolLanguage {
                    name: name.clone(),
                    preload: preload.clone(),
                })
                .collect(),
            min_idle: status.min_idle,
            max_sandboxes: status.max_sandboxes,
            default_limits: Some(limits(&info.rules.bounds.default)),
            max_limits: Some(limits(&info.rules.bounds.max)),
        }),
        counts: Some(v1::PoolCounts {
            starting: status.starting,
            idle: status.idle,
            leased: status.leased,
            recycling: status.recycling,
            queued: status.queued,
        }),
        health: Some(v1::PoolHealth {
            state: state.into(),
            reason: reason.to_owned(),
            failed_starts,
        }),
    }
}

fn limits(limits: &Limits) -> v1::PoolLimits {
    v1::PoolLimits {
        timeout: duration(limits.timeout),
        queue_timeout: duration(limits.queue_timeout),
        memory_bytes: limits.memory_bytes,
        disk_bytes: limits.disk_bytes,
        output_bytes: limits.output_bytes,
        output_file_bytes: limits.output_file_bytes,
        processes: limits.processes,
    }
}
