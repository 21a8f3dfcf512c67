//! An API server that follows a script: pods are ready as soon as they are asked for, and an exec leads
//! to an agent of the script's own (see `agent`).
//!
//! No machine has room for thousands of real pods, and what is measured is the server's side of them:
//! its memory, its processor, its lists. So everything that it receives has the real size, TLS included.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use futures_util::StreamExt;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::{
    body::{Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use rcgen::CertifiedKey;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::mpsc};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    },
};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::agent;

/// What the API server itself keeps with each pod, and a list of them carries (metadata.managedFields):
/// so many bytes of it, as a pod of Sandpool's has on a real cluster.
const MANAGED_FIELDS: usize = 4096;

type Body = BoxBody<Bytes, Infallible>;

/// The API server, and where it is.
pub(crate) struct ApiServer {
    state: Arc<Mutex<State>>,
    address: SocketAddr,
    certificate: String,
}

#[derive(Default)]
struct State {
    version: u64,
    /// By kind, as in the path, and name.
    objects: BTreeMap<(String, String), Value>,
    /// What happened to pods, in order: the pod's version, and the event.
    events: Vec<(u64, Value)>,
    watches: Vec<Watch>,
    /// When a list of pods was asked for the last time, and a watch of them.
    listed: Option<Instant>,
    watched: Option<Instant>,
}

/// Someone who wants to know of the pods that a selector names.
struct Watch {
    selector: String,
    lines: mpsc::UnboundedSender<Bytes>,
}

impl Watch {
    /// Whether there is someone yet.
    fn tell(&self, event: &Value) -> bool {
        if !fits(&event["object"], &self.selector) {
            return !self.lines.is_closed();
        }
        self.lines.send(format!("{event}\n").into()).is_ok()
    }
}

impl ApiServer {
    /// Listens on a port of this machine's.
    pub(crate) async fn start() -> Self {
        let CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
        let tls = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            state: Arc::default(),
            address: listener.local_addr().unwrap(),
            certificate: cert.pem(),
        };
        let state = server.state.clone();
        tokio::spawn(async move {
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                tcp.set_nodelay(true).unwrap();
                let (acceptor, state) = (acceptor.clone(), state.clone());
                tokio::spawn(async move {
                    // The server under test may hang up whenever it likes.
                    let Ok(tls) = acceptor.accept(tcp).await else {
                        return;
                    };
                    let service = service_fn(|request| answer(state.clone(), request));
                    let _ = http1::Builder::new()
                        .serve_connection(TokioIo::new(tls), service)
                        .with_upgrades()
                        .await;
                });
            }
        });
        server
    }

    /// The text of a kubeconfig that leads here.
    pub(crate) fn kubeconfig(&self) -> String {
        let address = format!("https://localhost:{}", self.address.port());
        let certificate = BASE64_STANDARD.encode(&self.certificate);
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "script",
            "clusters": [{"name": "script", "cluster": {
                "server": address, "certificate-authority-data": certificate}}],
            "users": [{"name": "script", "user": {"token": "script"}}],
            "contexts": [{"name": "script", "context": {"cluster": "script", "user": "script"}}],
        })
        .to_string()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// How many pods there are.
    pub(crate) fn pods(&self) -> usize {
        self.state().all("pods").count()
    }

    /// How large the list of them is that a server gets.
    pub(crate) fn list_bytes(&self) -> usize {
        self.state().list("pods", "", 0, usize::MAX).len()
    }

    /// Ends all watches as when what they would go on from is no longer known: 410, Gone.
    pub(crate) fn expire_watches(&self) {
        let gone = json!({"type": "ERROR", "object": {"kind": "Status", "apiVersion": "v1",
            "metadata": {}, "status": "Failure", "reason": "Expired", "code": 410,
            "message": "too old resource version"}});
        let mut state = self.state();
        for watch in state.watches.drain(..) {
            let _ = watch.lines.send(format!("{gone}\n").into());
        }
        (state.listed, state.watched) = (None, None);
    }

    /// When the pods were listed, and when they were watched after that; since the watches expired.
    pub(crate) fn listed_and_watched(&self) -> Option<(Instant, Instant)> {
        let state = self.state();
        state.listed.zip(state.watched)
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn all<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        let all = self.objects.iter();
        all.filter(move |((of, _), _)| of == kind)
            .map(|(_, object)| object)
    }

    /// A page of a list: at most `limit` of what there is after `after`.
    fn list(&self, kind: &str, selector: &str, after: usize, limit: usize) -> Vec<u8> {
        let mut all = self.all(kind).filter(|it| fits(it, selector)).skip(after);
        let items: Vec<_> = all.by_ref().take(limit).collect();
        let mut metadata = json!({"resourceVersion": self.version.to_string()});
        if all.next().is_some() {
            metadata["continue"] = (after + items.len()).to_string().into();
        }
        let list =
            json!({"apiVersion": "v1", "kind": "List", "metadata": metadata, "items": items});
        list.to_string().into_bytes()
    }

    fn put(&mut self, kind: &str, mut object: Value) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        self.objects.insert((kind.to_owned(), name), object.clone());
        object
    }

    fn tell(&mut self, kind: &str, pod: &Value) {
        let event = json!({"type": kind, "object": pod});
        self.watches.retain(|watch| watch.tell(&event));
        self.events.push((self.version, event));
    }

    /// Tells all that happened since `version`, and from now on.
    fn watch(&mut self, selector: String, version: u64) -> mpsc::UnboundedReceiver<Bytes> {
        let (lines, receiver) = mpsc::unbounded_channel();
        let watch = Watch { selector, lines };
        let missed = self.events.iter().filter(|(at, _)| *at > version);
        for (_, event) in missed {
            watch.tell(event);
        }
        self.watches.push(watch);
        self.watched = Some(Instant::now());
        receiver
    }

    /// A pod is made, and its container runs.
    fn make_pod(&mut self, mut pod: Value) -> Value {
        let name = pod["metadata"]["name"].as_str().unwrap().to_owned();
        let metadata = &mut pod["metadata"];
        metadata["uid"] = format!("uid-of-{name}").into();
        metadata["creationTimestamp"] = "2026-01-01T00:00:00Z".into();
        metadata["managedFields"] =
            json!([{"manager": "sandpool", "fieldsV1": {"f:x": "x".repeat(MANAGED_FIELDS)}}]);
        let made = self.put("pods", pod.clone());
        self.tell("ADDED", &made);
        pod["status"] = json!({
            "phase": "Running", "hostIP": "192.0.2.1", "podIP": "192.0.2.2",
            "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [{"name": "sandbox", "ready": true, "restartCount": 0,
                "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}],
        });
        let ready = self.put("pods", pod);
        self.tell("MODIFIED", &ready);
        made
    }
}

/// Whether an object has the one label that a selector names.
fn fits(object: &Value, selector: &str) -> bool {
    let Some((name, value)) = selector.split_once('=') else {
        return true;
    };
    object["metadata"]["labels"][name] == value
}

/// `/apis/GROUP/VERSION/namespaces/NAMESPACE/KIND[/NAME[/exec]]`, or `/api/v1/...`.
async fn answer(
    state: Arc<Mutex<State>>,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let path = request.uri().path().to_owned();
    let mut parts = path
        .split('/')
        .skip_while(|part| *part != "namespaces")
        .skip(2);
    let (kind, name, sub) = (parts.next(), parts.next(), parts.next());
    let query: BTreeMap<String, String> =
        form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes())
            .into_owned()
            .collect();
    let selector = query.get("labelSelector").cloned().unwrap_or_default();
    let kind = kind.unwrap_or_default().to_owned();
    let response = match (request.method().clone(), name, sub) {
        (Method::GET, Some(_), Some("exec")) => exec(&mut request),
        (Method::GET, None, None) if query.contains_key("watch") => {
            let version = query.get("resourceVersion").and_then(|it| it.parse().ok());
            let events = lock(&state).watch(selector, version.unwrap_or(0));
            let lines = UnboundedReceiverStream::new(events).map(|line| Ok(Frame::data(line)));
            Response::new(BodyExt::boxed(StreamBody::new(lines)))
        }
        (Method::GET, None, None) => {
            let mut state = lock(&state);
            // Only the list that a watch begins with asks for whole pods.
            let whole = !text(&request, header::ACCEPT).contains("PartialObjectMetadata");
            let number = |name: &str| query.get(name).and_then(|it| it.parse().ok());
            let (after, limit) = (number("continue"), number("limit"));
            if kind == "pods" && whole && after.is_none() {
                (state.listed, state.watched) = (Some(Instant::now()), None);
            }
            let limit = limit.unwrap_or(usize::MAX);
            let page = state.list(&kind, &selector, after.unwrap_or(0), limit);
            json_body(StatusCode::OK, page)
        }
        (Method::POST, None, None) => {
            let object = read(request).await;
            let mut state = lock(&state);
            let made = match kind.as_str() {
                "pods" => state.make_pod(object),
                kind => state.put(kind, object),
            };
            json_body(StatusCode::CREATED, made.to_string())
        }
        (Method::PATCH, Some(name), None) => {
            let mut state = lock(&state);
            let object = state.objects.get(&(kind.clone(), name.to_owned())).cloned();
            match object {
                Some(object) => json_body(StatusCode::OK, state.put(&kind, object).to_string()),
                None => not_found(),
            }
        }
        (Method::DELETE, Some(name), None) => {
            let mut state = lock(&state);
            match state.objects.remove(&(kind.clone(), name.to_owned())) {
                Some(object) => {
                    if kind == "pods" {
                        state.version += 1;
                        state.tell("DELETED", &object);
                    }
                    json_body(StatusCode::OK, object.to_string())
                }
                None => not_found(),
            }
        }
        (method, ..) => panic!("the script has no answer to {method} {path}"),
    };
    Ok(response)
}

async fn read(request: Request<Incoming>) -> Value {
    let body = request.into_body().collect().await.unwrap().to_bytes();
    serde_json::from_slice(&body).unwrap()
}

fn json_body(status: StatusCode, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Full::new(body.into()).boxed());
    *response.status_mut() = status;
    let json = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

fn not_found() -> Response<Body> {
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "reason": "NotFound", "message": "not found", "code": 404});
    json_body(StatusCode::NOT_FOUND, status.to_string())
}

fn text<T>(request: &Request<T>, name: header::HeaderName) -> &str {
    let value = request.headers().get(name);
    value
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}

/// Answers with the websocket that was asked for, at whose other end an agent is.
fn exec(request: &mut Request<Incoming>) -> Response<Body> {
    let key = text(request, header::SEC_WEBSOCKET_KEY).to_owned();
    let upgraded = hyper::upgrade::on(request);
    tokio::spawn(async move {
        if let Ok(upgraded) = upgraded.await {
            agent::serve(TokioIo::new(upgraded)).await;
        }
    });
    let response = Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .header(
            header::SEC_WEBSOCKET_ACCEPT,
            derive_accept_key(key.as_bytes()),
        )
        .header(header::SEC_WEBSOCKET_PROTOCOL, "v5.channel.k8s.io");
    response.body(Full::default().boxed()).unwrap()
}
