//! Which executions there are in this sandbox.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use super::{
    attached::Attached, contexts::Contexts, execution::Execution, interpreters::Interpreters,
    memory::MemoryWatch, pipes::DirectPair, processes, shares::Shares,
};
use crate::proto::agent::PrepareRequest;

/// What every execution needs of the sandbox.
pub(super) struct Sandbox {
    pub(super) interpreters: Arc<Interpreters>,
    pub(super) contexts: Contexts,
    attached: Attached,
    prepared: Mutex<Option<Prepared>>,
}

/// The sandbox when its spares wait: what is counted from then on leaves them out.
#[derive(Clone)]
pub(super) struct Prepared {
    pub(super) memory: Arc<MemoryWatch>,
    pub(super) shares: Arc<Shares>,
    /// Of the agent and the spares.
    threads: u64,
}

impl Sandbox {
    /// As it was prepared, or as it is now where the server never prepared it.
    pub(super) fn prepared(&self) -> std::io::Result<Prepared> {
        let mut prepared = self.prepared.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(prepared) = &*prepared {
            return Ok(prepared.clone());
        }
        let memory = Arc::new(MemoryWatch::new()?);
        let now = Prepared {
            shares: Shares::new(memory.clone()),
            memory,
            threads: processes::count_threads().saturating_sub(self.attached.count()),
        };
        *prepared = Some(now.clone());
        Ok(now)
    }

    /// How many processes and threads the sandbox's user may have while a program may have so many.
    pub(super) fn limit(&self, prepared: &Prepared, processes: u32) -> u64 {
        u64::from(processes) + prepared.threads + self.attached.count()
    }
}

/// The executions by their ids, and what they share.
pub(super) struct Executions {
    sandbox: Arc<Sandbox>,
    by_id: Mutex<HashMap<String, Arc<Execution>>>,
}

impl Executions {
    pub(super) fn new(interpreters: Arc<Interpreters>, attached: Attached) -> Self {
        Self {
            sandbox: Arc::new(Sandbox {
                interpreters,
                contexts: Contexts::default(),
                attached,
                prepared: Mutex::default(),
            }),
            by_id: Mutex::default(),
        }
    }

    /// Starts the spares. Returns what failed.
    pub(super) async fn prepare(&self, request: PrepareRequest) -> Vec<String> {
        let direct = match DirectPair::take(request.direct_outputs) {
            Ok(direct) => direct,
            Err(error) => return vec![format!("the server's pipes: {error}")],
        };
        let mut failures = self
            .sandbox
            .interpreters
            .prepare(request.languages, request.env.into_iter().collect(), direct)
            .await;
        if let Err(error) = self.sandbox.prepared() {
            failures.push(format!("/proc/meminfo: {error}"));
        }
        failures
    }

    /// The execution of that id, new or known. Those of `ended` are forgotten, and what is left of them
    /// ends.
    pub(super) fn get(&self, id: &str, ended: &[String]) -> Arc<Execution> {
        self.forget(ended);
        let mut by_id = self.by_id.lock().unwrap_or_else(PoisonError::into_inner);
        by_id
            .entry(id.to_owned())
            .or_insert_with(|| Arc::new(Execution::new(self.sandbox.clone())))
            .clone()
    }

    /// Forgets executions, and ends what is left of them.
    pub(super) fn forget(&self, ended: &[String]) {
        for id in ended {
            let mut by_id = self.by_id.lock().unwrap_or_else(PoisonError::into_inner);
            let known = by_id.remove(id);
            drop(by_id);
            if let Some(execution) = known {
                execution.abandon();
            }
        }
    }
}
