//! What a cluster has for sandboxes, asked piece by piece. Nothing is made or changed by it: what is
//! created is created in a dry run.
//!
//! - `version`: which Kubernetes it is
//! - `quota`: whether the pods fit into the ResourceQuotas

mod quota;
mod version;

use k8s_openapi::api::{
    core::v1::{Namespace, ResourceQuota},
    networking::v1::NetworkPolicy,
    node::v1::RuntimeClass,
};
use kube::{
    Api, Client,
    api::{ListParams, PostParams},
};
use serde_json::Value;

pub use self::{
    quota::{Needs, QuotaLine},
    version::Version,
};
use super::{
    Settings,
    client::{REQUEST_TIMEOUT, RequestError, answer},
    made,
    network::{self, Network},
    pod, pods,
    quantity::NotAQuantity,
    rights::{self, GET_NAMESPACE, GET_RUNTIME_CLASSES, LIST_POLICIES, LIST_QUOTAS, Right},
    template::Template,
};
use crate::backend::SandboxId;

/// Asks a cluster what it has for sandboxes. Each question takes 30 s at most.
pub struct Examiner {
    client: Client,
    settings: Settings,
}

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ExamineError {
    /// The account may not look.
    #[error("the account lacks the right to {0}")]
    Forbidden(Right),
    /// The API server failed, or was not reached.
    #[error(transparent)]
    Failed(#[from] RequestError),
    /// It answered with what cannot be understood.
    #[error(transparent)]
    Quantity(#[from] NotAQuantity),
}

/// What the API server says to a pod, before it would be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It would be made.
    Accepted,
    /// It would not, and why not, in the API server's words.
    Refused(String),
}

/// What the API server says to a pool's pod, and to two that nobody may make: they differ from it in
/// that one thing each, so where the pool's own is accepted, their refusal is due to it.
#[derive(Clone, Debug)]
pub struct Admission {
    /// The pool's own pod.
    pub own: Verdict,
    /// The same without its RuntimeClass.
    pub without_gvisor: Verdict,
    /// The same with its service account's token.
    pub with_token: Verdict,
    /// What one pod of the pool takes of quotas.
    pub needs: Needs,
}

impl Examiner {
    /// Asks about a server that would use the cluster so.
    #[must_use]
    pub const fn new(client: Client, settings: Settings) -> Self {
        Self { client, settings }
    }

    /// Which Kubernetes it is. Every account may ask.
    ///
    /// # Errors
    /// When the API server does not answer, or does not know the account.
    pub async fn version(&self) -> Result<Version, ExamineError> {
        let info = answer(REQUEST_TIMEOUT, self.client.apiserver_version()).await?;
        Ok(info.into())
    }

    /// Those of `rights` that the account lacks. Every account may ask.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub async fn missing(&self, rights: &[Right]) -> Result<Vec<Right>, ExamineError> {
        let mut missing = Vec::new();
        for right in rights {
            if !rights::has(&self.client, &self.settings.namespace, *right).await? {
                missing.push(*right);
            }
        }
        Ok(missing)
    }

    /// Whether the sandboxes' namespace exists.
    ///
    /// # Errors
    /// When the account may not look, or the API server does not answer.
    pub async fn has_namespace(&self) -> Result<bool, ExamineError> {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let found = namespaces.get_metadata_opt(&self.settings.namespace);
        Ok(self.look(GET_NAMESPACE, found).await?.is_some())
    }

    /// The handler of a RuntimeClass, if there is one of that name.
    ///
    /// # Errors
    /// When the account may not look, or the API server does not answer.
    pub async fn runtime_handler(&self, class: &str) -> Result<Option<String>, ExamineError> {
        let classes: Api<RuntimeClass> = Api::all(self.client.clone());
        let found = self.look(GET_RUNTIME_CLASSES, classes.get_opt(class));
        Ok(found.await?.map(|class| class.handler))
    }

    /// What the namespace's NetworkPolicies let through to and from the pods of `templates`.
    ///
    /// # Errors
    /// When the account may not look, or the API server does not answer.
    pub async fn network(&self, templates: &[Template]) -> Result<Network, ExamineError> {
        let policies: Api<NetworkPolicy> =
            Api::namespaced(self.client.clone(), &self.settings.namespace);
        let parameters = ListParams::default();
        let listed = self.look(LIST_POLICIES, policies.list(&parameters)).await?;
        let labels = templates.iter().map(|it| network::labels(&self.pod(it)));
        Ok(Network::new(&listed.items, &labels.collect::<Vec<_>>()))
    }

    /// What the API server says to the pods of `template`, and to pods that must not be. The account
    /// has to have the right to create pods.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub async fn admission(&self, template: &Template) -> Result<Admission, ExamineError> {
        let own = self.pod(template);
        let mut without_gvisor = own.clone();
        without_gvisor["spec"]["runtimeClassName"] = Value::Null;
        let mut with_token = own.clone();
        with_token["spec"]["automountServiceAccountToken"] = true.into();
        let (verdict, needs) = match self.dry_run(own.clone()).await? {
            // With what the cluster adds to it.
            Ok(made) => {
                let verdict = made::weakened(&own, &made).map_or(Verdict::Accepted, |how| {
                    Verdict::Refused(format!("by the server, as admission changes it: {how}"))
                });
                (verdict, Needs::of(&made)?)
            }
            Err(reason) => (Verdict::Refused(reason), Needs::of(&own)?),
        };
        Ok(Admission {
            own: verdict,
            without_gvisor: self.verdict(without_gvisor).await?,
            with_token: self.verdict(with_token).await?,
            needs,
        })
    }

    /// How much of the namespace's quotas `needs` takes; nothing where there is no quota.
    ///
    /// # Errors
    /// When the account may not look, or the API server does not answer.
    pub async fn quotas(&self, needs: &Needs) -> Result<Vec<QuotaLine>, ExamineError> {
        let quotas: Api<ResourceQuota> =
            Api::namespaced(self.client.clone(), &self.settings.namespace);
        let parameters = ListParams::default();
        let listed = self.look(LIST_QUOTAS, quotas.list(&parameters)).await?;
        Ok(quota::lines(listed.items, needs)?)
    }

    fn pod(&self, template: &Template) -> Value {
        let id = SandboxId::new(&template.pool, &self.settings.owner, 0);
        pod::pod(&id, &self.settings, template)
    }

    /// Waits for the answer to a request that needs `right`.
    async fn look<T>(
        &self,
        right: Right,
        request: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, ExamineError> {
        answer(REQUEST_TIMEOUT, request)
            .await
            .map_err(|error| match error.code() {
                Some(403) => ExamineError::Forbidden(right),
                _ => error.into(),
            })
    }

    async fn verdict(&self, manifest: Value) -> Result<Verdict, ExamineError> {
        Ok(match self.dry_run(manifest).await? {
            Ok(_) => Verdict::Accepted,
            Err(reason) => Verdict::Refused(reason),
        })
    }

    /// The pod as it would have been made, or why the API server would not.
    async fn dry_run(&self, manifest: Value) -> Result<Result<Value, String>, ExamineError> {
        let parameters = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        let namespace = &self.settings.namespace;
        match pods::create(&self.client, namespace, &parameters, manifest).await {
            Ok(made) => Ok(Ok(made.data)),
            // Policies, pod security and quotas all say it by one of these; 429 asks to come again.
            Err(error) if matches!(error.code(), Some(400..=428 | 430..=499)) => {
                Ok(Err(error.to_string()))
            }
            Err(error) => Err(error.into()),
        }
    }
}
