//! The pods of this server, as one watch of their namespace tells of them.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::{Stream, StreamExt};
use http::Request;
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{
    Api, Client,
    api::{ApiResource, DeleteParams, DynamicObject, PostParams, Preconditions},
    runtime::{
        WatchStreamExt,
        watcher::{self, Event},
    },
};
use serde_json::Value;
use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
    time::{Instant, timeout},
};
use tower::service_fn;

use super::{
    client::{REQUEST_TIMEOUT, RequestError, answer},
    pod::{GRACE_SECONDS, label},
    status::{Phase, SlimPod, deleted, node, node_is_ready, phase},
};
use crate::backend::Death;

/// The API server ends a watch after so long, and it is opened again.
const REOPENED_SECONDS: u32 = 60;
/// How many deletions are asked for at once: a pool that is drained, and a server that died, leave them all
/// to delete.
const DELETING: usize = 16;
/// How often a pod that nobody knows is tried again to be deleted.
const RETRY: Duration = Duration::from_secs(5);

/// The pods of this server.
pub(super) struct Pods {
    client: Client,
    namespace: String,
    /// For all that needs no more of a pod than is looked at.
    api: Api<SlimPod>,
    known: Mutex<HashMap<String, Known>>,
    heard: Mutex<Heard>,
    deleting: Semaphore,
}

/// What the watch itself has come to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heard {
    /// When it last told anything, or was opened.
    pub(super) at: Instant,
    /// How often it was interrupted, attempts to open it again included.
    pub(super) interruptions: u64,
}

/// One that was asked for and is not known to be gone.
struct Known {
    pod: watch::Sender<Seen>,
    death: watch::Sender<Option<Death>>,
}

/// What is known of a pod.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    /// Kubernetes' own name for this very pod; a later one of the same name has another.
    pub(super) uid: Option<String>,
    pub(super) phase: Phase,
    /// Where it is.
    pub(super) node: Option<IpAddr>,
    /// As far as the pod shows it.
    pub(super) node_is_ready: bool,
    /// The watch has told of it.
    watched: bool,
    /// Its object is no more. Nothing of it runs then.
    pub(super) gone: bool,
}

/// Has the API server make a pod, or say what would become of it.
pub(super) async fn create(
    client: &Client,
    namespace: &str,
    parameters: &PostParams,
    manifest: Value,
) -> Result<DynamicObject, RequestError> {
    let resource = ApiResource::erase::<Pod>(&());
    let pods: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
    let pod = serde_json::from_value(manifest).map_err(kube::Error::SerdeError)?;
    answer(REQUEST_TIMEOUT, pods.create(parameters, &pod)).await
}

impl Pods {
    pub(super) fn new(client: Client, namespace: &str) -> Self {
        let resource = ApiResource::erase::<Pod>(&());
        Self {
            api: Api::namespaced_with(client.clone(), namespace, &resource),
            client,
            namespace: namespace.to_owned(),
            known: Mutex::default(),
            heard: Mutex::new(Heard {
                at: Instant::now(),
                interruptions: 0,
            }),
            deleting: Semaphore::new(DELETING),
        }
    }

    /// What the watch has come to.
    pub(super) fn heard(&self) -> Heard {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hear(&self) {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.at = Instant::now();
    }

    fn interrupted(&self) {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.interruptions += 1;
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A pod of that name is about to be asked for.
    pub(super) fn expect(
        &self,
        name: &str,
    ) -> (watch::Receiver<Seen>, watch::Receiver<Option<Death>>) {
        let known = Known {
            pod: watch::Sender::new(Seen {
                uid: None,
                phase: Phase::Starting("the API server".into()),
                node: None,
                node_is_ready: true,
                watched: false,
                gone: false,
            }),
            death: watch::Sender::new(None),
        };
        let receivers = (known.pod.subscribe(), known.death.subscribe());
        self.known().insert(name.to_owned(), known);
        receivers
    }

    /// Whether all that were asked for are gone.
    pub(super) fn is_empty(&self) -> bool {
        self.known().is_empty()
    }

    /// What is known of a pod that was asked for.
    pub(super) fn seen(&self, name: &str) -> Option<watch::Receiver<Seen>> {
        self.known().get(name).map(|known| known.pod.subscribe())
    }

    /// Makes the pod that was expected under that name, and returns it as the cluster has it.
    pub(super) async fn create(&self, name: &str, manifest: Value) -> Result<Value, RequestError> {
        let parameters = PostParams::default();
        let made = create(&self.client, &self.namespace, &parameters, manifest).await?;
        let uid = made.metadata.uid;
        if let Some(known) = self.known().get(name) {
            known
                .pod
                .send_modify(|seen| seen.uid = uid.or(seen.uid.take()));
        }
        Ok(made.data)
    }

    /// It is gone for good. Should it come yet, nobody knows it, and it is deleted.
    pub(super) fn forget(&self, name: &str) {
        self.known().remove(name);
    }

    /// Asks for a pod's end. `Ok(true)`: there is none of that name and uid any more.
    pub(super) async fn delete(
        &self,
        name: &str,
        uid: Option<String>,
    ) -> Result<bool, RequestError> {
        let parameters = DeleteParams {
            grace_period_seconds: Some(GRACE_SECONDS),
            preconditions: uid.map(|uid| Preconditions {
                uid: Some(uid),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        // Never closed.
        let _place = self.deleting.acquire().await;
        match answer(REQUEST_TIMEOUT, self.api.delete(name, &parameters)).await {
            Ok(_) => Ok(false),
            // 409: a pod of that name is another one.
            Err(error) if matches!(error.code(), Some(404 | 409)) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Follows all pods that `owner` made, for as long as it is polled.
    pub(super) async fn follow(self: Arc<Self>, owner: &str) {
        let labels = format!("{}={owner}", label::OWNER);
        let config = watcher::Config::default()
            .labels(&labels)
            .timeout(REOPENED_SECONDS);
        let mut strays = JoinSet::new();
        let api = self.clone().watched();
        loop {
            let events = watcher::watcher(api.clone(), config.clone()).default_backoff();
            self.take(pin!(events), &mut strays).await;
            tracing::warn!("the list of the pods stalled; it is begun anew");
        }
    }

    /// For the watch. That it was opened again is seen by the answers: kube does not tell it.
    fn watched(self: Arc<Self>) -> Api<SlimPod> {
        let namespace = self.namespace.clone();
        let service = service_fn(move |request| {
            let pods = self.clone();
            let is_watch = is_watch(&request);
            async move {
                let response = pods.client.send(request).await?;
                if is_watch && response.status().is_success() {
                    pods.hear();
                }
                Ok::<_, kube::Error>(response)
            }
        });
        let resource = ApiResource::erase::<Pod>(&());
        let client = Client::new(service, namespace.clone());
        Api::namespaced_with(client, &namespace, &resource)
    }

    /// Takes what a watch tells, until a list that it makes stalls: kube sets that no limit.
    async fn take(
        self: &Arc<Self>,
        mut events: Pin<&mut impl Stream<Item = Result<Event<SlimPod>, watcher::Error>>>,
        strays: &mut JoinSet<()>,
    ) {
        // From the beginning of a list to its end.
        let mut listed = None;
        loop {
            let next = events.next();
            let next = match listed {
                Some(_) => timeout(REQUEST_TIMEOUT, next).await,
                None => Ok(next.await),
            };
            let Ok(Some(event)) = next else {
                return;
            };
            while strays.try_join_next().is_some() {}
            match event {
                Ok(Event::Apply(pod)) => {
                    self.hear();
                    self.apply(pod, strays);
                }
                Ok(Event::Delete(pod)) => {
                    self.hear();
                    self.deleted(pod.metadata);
                }
                // It is told before the list is asked for.
                Ok(Event::Init) => listed = Some(HashSet::new()),
                Ok(Event::InitApply(pod)) => {
                    if let Some(listed) = &mut listed {
                        listed.extend(pod.metadata.name.clone());
                    }
                    self.apply(pod, strays);
                }
                Ok(Event::InitDone) => {
                    if let Some(listed) = listed.take() {
                        self.gone_but(&listed);
                    }
                }
                Err(error) => {
                    self.interrupted();
                    listed = None;
                    tracing::warn!(%error, "the watch of the pods was interrupted");
                }
            }
        }
    }

    fn apply(self: &Arc<Self>, pod: SlimPod, strays: &mut JoinSet<()>) {
        let (phase, node, node_is_ready) = (phase(&pod), node(&pod), node_is_ready(&pod));
        let (Some(name), Some(uid)) = (pod.metadata.name, pod.metadata.uid) else {
            return;
        };
        let known = self.known();
        let known = match known.get(&name) {
            Some(known) if !known.is_another(&uid) => known,
            other => {
                if let Some(replaced) = other {
                    replaced.gone();
                }
                // Its deletion may be under way already; asking twice does no harm.
                if pod.metadata.deletion_timestamp.is_none() {
                    strays.spawn(self.clone().delete_stray(name, uid));
                }
                return;
            }
        };
        if let Phase::Dead(death) = &phase {
            known.died(death);
        }
        known.pod.send_modify(|seen| {
            seen.uid = Some(uid);
            seen.phase = phase;
            seen.node = node.or(seen.node);
            seen.node_is_ready = node_is_ready;
            seen.watched = true;
        });
    }

    /// A pod that this server asked for and gave up, since its creation was answered too late; or one of
    /// somebody else's in its name.
    async fn delete_stray(self: Arc<Self>, name: String, uid: String) {
        tracing::info!(sandbox = %name, "deleting a pod that nobody waits for");
        while let Err(error) = self.delete(&name, Some(uid.clone())).await {
            tracing::warn!(sandbox = %name, %error, "pod is not deleted yet");
            tokio::time::sleep(RETRY).await;
        }
    }

    fn deleted(&self, pod: ObjectMeta) {
        let (Some(name), Some(uid)) = (pod.name, pod.uid) else {
            return;
        };
        if let Some(known) = self.known().get(&name)
            && !known.is_another(&uid)
        {
            known.gone();
        }
    }

    /// There is no pod of that name any more.
    pub(super) fn gone(&self, name: &str) {
        if let Some(known) = self.known().get(name) {
            known.gone();
        }
    }

    /// Whoever was seen before and is not in the list has gone while nobody watched.
    fn gone_but(&self, listed: &HashSet<String>) {
        for (name, known) in self.known().iter() {
            // One that was made after the list was taken is not in it, either.
            if !listed.contains(name) && known.pod.borrow().watched {
                known.gone();
            }
        }
    }
}

/// Whether it asks for a watch, and not for a list.
fn is_watch<B>(request: &Request<B>) -> bool {
    let query = request.uri().query().unwrap_or_default();
    query.split('&').any(|parameter| parameter == "watch=true")
}

impl Known {
    /// Whether this is the uid of another pod of the same name, which somebody else has made.
    fn is_another(&self, uid: &str) -> bool {
        let known = self.pod.borrow();
        known.uid.as_deref().is_some_and(|known| known != uid)
    }

    fn gone(&self) {
        let death = deleted();
        self.died(&death);
        self.pod.send_modify(|seen| {
            seen.gone = true;
            if !matches!(seen.phase, Phase::Dead(_)) {
                seen.phase = Phase::Dead(death);
            }
        });
    }

    /// The first cause stays.
    fn died(&self, death: &Death) {
        self.death.send_if_modified(|known| {
            let first = known.is_none();
            if first {
                *known = Some(death.clone());
            }
            first
        });
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http::Response;
    use kube::client::Body;
    use serde_json::json;
    use tokio::{sync::mpsc, time::sleep};

    use super::*;

    /// A client whose every request is answered so.
    fn answered(code: u16, body: Value) -> Client {
        let service = service_fn(move |_: Request<Body>| {
            let body = body.to_string().into_bytes();
            let response = Response::builder().status(code).body(Body::from(body));
            async { Ok::<_, Infallible>(response.unwrap()) }
        });
        Client::new(service, "sandboxes")
    }

    fn status(code: u16, reason: &str) -> Value {
        json!({
            "kind": "Status", "apiVersion": "v1", "status": "Failure",
            "message": reason, "reason": reason, "code": code,
        })
    }

    #[tokio::test]
    async fn what_is_not_there_or_another_one_counts_as_deleted() {
        for (code, reason) in [(404, "NotFound"), (409, "Conflict")] {
            let pods = Pods::new(answered(code, status(code, reason)), "sandboxes");
            assert!(pods.delete("a", Some("1".into())).await.unwrap());
        }
        let pods = Pods::new(answered(403, status(403, "Forbidden")), "sandboxes");
        let error = pods.delete("a", Some("1".into())).await.unwrap_err();
        assert_eq!(error.code(), Some(403));
    }

    #[tokio::test]
    async fn no_more_deletions_are_asked_for_at_once_than_there_are_places() {
        let (asks, mut asked) = mpsc::unbounded_channel();
        let answering = Arc::new(Semaphore::new(0));
        let answers = answering.clone();
        let service = service_fn(move |_: Request<Body>| {
            let _ = asks.send(());
            let answers = answers.clone();
            async move {
                answers.acquire().await.unwrap().forget();
                let body = status(404, "NotFound").to_string().into_bytes();
                let response = Response::builder().status(404).body(Body::from(body));
                Ok::<_, Infallible>(response.unwrap())
            }
        });
        let pods = Arc::new(Pods::new(Client::new(service, "sandboxes"), "sandboxes"));
        let mut deletions = JoinSet::new();
        for number in 0..2 * DELETING {
            let pods = pods.clone();
            deletions.spawn(async move { pods.delete(&number.to_string(), None).await });
        }
        for _ in 0..DELETING {
            asked.recv().await.unwrap();
        }
        for _ in 0..DELETING {
            assert!(asked.try_recv().is_err(), "one more was asked for");
            answering.add_permits(1);
            asked.recv().await.unwrap();
        }
        answering.add_permits(DELETING);
        while let Some(gone) = deletions.join_next().await {
            assert!(gone.unwrap().unwrap());
        }
    }

    fn pod(name: &str, uid: &str) -> SlimPod {
        serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "uid": uid}, "spec": {},
            "status": {"phase": "Pending"},
        }))
        .unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_is_opened_again_counts_as_heard_though_no_pod_changes() {
        let reopened = Duration::from_secs(REOPENED_SECONDS.into());
        let (opens, mut opened) = mpsc::unbounded_channel();
        let service = service_fn(move |request: Request<Body>| {
            let is_watch = is_watch(&request);
            let opens = opens.clone();
            async move {
                let mut text = String::new();
                if is_watch {
                    // One that ends at once, so that the next one is asked for.
                    sleep(reopened).await;
                    let _ = opens.send(Instant::now());
                } else {
                    let list = json!({
                        "apiVersion": "v1", "kind": "PodList", "metadata": {"resourceVersion": "1"},
                        "items": [],
                    });
                    text = list.to_string();
                }
                Ok::<_, Infallible>(Response::new(Body::from(text.into_bytes())))
            }
        });
        let pods = Arc::new(Pods::new(Client::new(service, "sandboxes"), "sandboxes"));
        let mut following = JoinSet::new();
        following.spawn(pods.clone().follow("a"));
        for _ in 0..3 {
            // The one before was answered when this one was asked for.
            let at = opened.recv().await.unwrap();
            assert!(at - pods.heard().at <= reopened);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn lists_that_fail_are_no_sign_of_life() {
        let nothing = answered(500, status(500, "InternalError"));
        let pods = Arc::new(Pods::new(nothing, "sandboxes"));
        let begun = pods.heard().at;
        let mut following = JoinSet::new();
        following.spawn(pods.clone().follow("a"));
        while pods.heard().interruptions < 3 {
            sleep(Duration::from_secs(1)).await;
        }
        assert_eq!(pods.heard().at, begun);
    }

    #[tokio::test]
    async fn another_pod_of_the_same_name_is_not_taken_for_it() {
        let nobody = || answered(404, status(404, "NotFound"));
        let pods = Arc::new(Pods::new(nobody(), "sandboxes"));
        let (seen, death) = pods.expect("a");
        let mut strays = JoinSet::new();
        pods.apply(pod("a", "1"), &mut strays);
        assert_eq!(seen.borrow().uid.as_deref(), Some("1"));
        // Of one that was there before.
        pods.deleted(pod("a", "0").metadata);
        assert!(!seen.borrow().gone);
        pods.apply(pod("a", "2"), &mut strays);
        assert_eq!(seen.borrow().uid.as_deref(), Some("1"));
        assert!(seen.borrow().gone && death.borrow().is_some());
        // The other one is deleted.
        assert!(strays.join_next().await.is_some());
    }
}
