//! What a cluster lacks. Here it is asked; `findings` says what the answers mean.

mod findings;

use std::collections::BTreeSet;

pub(super) use self::findings::remedy;
use super::{
    Check,
    Finding::{self, Bad, Good, Unknown},
};
use crate::{
    backend::kubernetes::{
        Template,
        examine::{ExamineError, Examiner, Needs},
        rights::{CREATE_PODS, CREATE_TOKEN_REVIEWS, Right, SERVER},
    },
    cli::client::printable,
    config::Config,
    serve::kubernetes::{examiner, template},
};

/// What to do when the API server does not answer as it should.
pub(super) const SEE_API_SERVER: &str =
    "see that it is up and knows the account: kubectl get --raw /readyz, kubectl auth whoami";

/// Looks at all that sandboxes need, without starting one.
pub(super) async fn checks(config: &Config) -> Vec<Check> {
    let (examiner, address) = match examiner(&config.backend).await {
        Ok(made) => made,
        Err(error) => {
            let remedy =
                "set KUBECONFIG or backend.kubernetes.kubeconfig to a file that kubectl can use";
            let finding = Bad(printable(&error.to_string()), remedy.into());
            return vec![("cluster".into(), finding)];
        }
    };
    let mut round = Round {
        config,
        namespace: &config.backend.kubernetes.namespace,
        examiner,
        checks: Vec::new(),
    };
    // Where it ends early, its last check says why.
    let _: Option<()> = round.go(address.to_string().trim_end_matches('/')).await;
    let mut checks = round.checks;
    for (name, finding) in &mut checks {
        // Most of it is the cluster's words.
        let (Good(words) | Bad(words, _) | Unknown(words)) = finding;
        (*name, *words) = (printable(name), printable(words));
    }
    checks
}

/// One round of questions.
struct Round<'a> {
    config: &'a Config,
    namespace: &'a str,
    examiner: Examiner,
    checks: Vec<Check>,
}

impl Round<'_> {
    /// Asks everything; `None` once there is no use in going on.
    async fn go(&mut self, address: &str) -> Option<()> {
        let found = self.examiner.version().await;
        let found = self.answered("cluster", found)?;
        self.add("cluster", findings::version(&found, address));

        let needed = self.needed_rights();
        let missing = self.examiner.missing(&needed).await;
        let missing = self.answered("rights", missing)?;
        for finding in findings::rights(needed.len(), &missing, self.namespace) {
            self.add("rights", finding);
        }

        let exists = self.examiner.has_namespace().await;
        if let Some(exists) = self.answered("namespace", exists) {
            self.add("namespace", findings::namespace(exists, self.namespace));
            if !exists {
                // All that follows would be in it.
                return None;
            }
        }
        self.look_at_runtime_classes().await;

        let pools = self.pools();
        let templates: Vec<_> = pools.iter().map(|(template, _)| template.clone()).collect();
        let found = self.examiner.network(&templates).await;
        if let Some(found) = self.answered("network policy", found) {
            self.add("network policy", findings::network(&found));
        }
        if missing.contains(&CREATE_PODS) {
            let error = ExamineError::Forbidden(CREATE_PODS);
            return self.answered("admission and quotas", Err(error));
        }
        let needs = self.try_admission(&pools).await?;
        let lines = self.examiner.quotas(&needs).await;
        let lines = self.answered("quotas", lines)?;
        self.add("quotas", findings::quotas(&lines, self.namespace));
        Some(())
    }

    fn needed_rights(&self) -> Vec<Right> {
        let mut needed = SERVER.to_vec();
        if !self.config.access.kubernetes.audience.is_empty() {
            needed.push(CREATE_TOKEN_REVIEWS);
        }
        needed
    }

    fn add(&mut self, name: &str, finding: Finding) {
        self.checks.push((name.to_owned(), finding));
    }

    /// An answer; where there is none, that is what was found.
    fn answered<T>(&mut self, name: &str, answer: Result<T, ExamineError>) -> Option<T> {
        let finding = match answer {
            Ok(answer) => return Some(answer),
            Err(error @ ExamineError::Forbidden(_)) => {
                Unknown(format!("{error} (deploy/base/rights.yaml)"))
            }
            Err(error @ (ExamineError::Failed(_) | ExamineError::Quantity(_))) => {
                Bad(error.to_string(), SEE_API_SERVER.into())
            }
        };
        self.add(name, finding);
        None
    }

    async fn look_at_runtime_classes(&mut self) {
        let pools = self.config.pools.values();
        let classes: BTreeSet<_> = pools.map(|pool| &pool.pod.runtime_class).collect();
        for class in classes {
            let handler = self.examiner.runtime_handler(class).await;
            if let Some(handler) = self.answered("runtime class", handler) {
                self.add("runtime class", findings::runtime_class(class, handler));
            }
        }
    }

    /// The pods of each pool, and how many there may be.
    fn pools(&mut self) -> Vec<(Template, u32)> {
        let mut pools = Vec::new();
        for (name, pool) in &self.config.pools {
            match template(name, pool) {
                Ok(template) => pools.push((template, pool.max_sandboxes)),
                Err(error) => {
                    let finding = Bad(error.to_string(), format!("correct [pools.{name}]"));
                    self.add(&format!("pool {name}"), finding);
                }
            }
        }
        pools
    }

    /// What all pools need together.
    async fn try_admission(&mut self, pools: &[(Template, u32)]) -> Option<Needs> {
        let mut needs = Needs::default();
        for (template, max_sandboxes) in pools {
            let name = format!("admission, pool {}", template.pool);
            let found = self.examiner.admission(template).await;
            let found = self.answered(&name, found)?;
            needs.add(&found.needs, *max_sandboxes);
            for finding in findings::admission(&found, self.namespace) {
                self.add(&name, finding);
            }
        }
        Some(needs)
    }
}
