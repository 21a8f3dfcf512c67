//! What whoever looks after the server is told over plain HTTP: metrics, and two probes.
//!
//! `gauges.rs` reads what is read only then, `server.rs` is the bounded HTTP server.

mod gauges;
mod server;

use std::sync::Arc;

use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use prometheus_client::{encoding::text, registry::Registry};
use tokio::net::TcpListener;

use self::{
    gauges::Gauges,
    server::{HttpServer, Page},
};
use crate::{backend::kubernetes::Cluster, dispatch::Dispatcher, metrics::Metrics};

/// OpenMetrics 1.0, "Content type".
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PLAIN: &str = "text/plain; charset=utf-8";

/// The pages that there are.
pub(super) struct Pages {
    registry: Registry,
    dispatcher: Arc<Dispatcher>,
}

impl Pages {
    /// `cluster`: where the sandboxes are, unless they are on this machine.
    pub(super) fn new(
        metrics: Metrics,
        dispatcher: Arc<Dispatcher>,
        cluster: Option<Arc<Cluster>>,
    ) -> Self {
        let mut registry = metrics.into_registry();
        registry.register_collector(Box::new(Gauges {
            dispatcher: dispatcher.clone(),
            cluster,
        }));
        Self {
            registry,
            dispatcher,
        }
    }

    /// Runs `service` to its end, and answers at `listener` meanwhile, if there is one.
    pub(super) async fn answer_during<T>(
        self,
        service: impl Future<Output = T>,
        listener: Option<TcpListener>,
    ) -> T {
        let Some(listener) = listener else {
            return service.await;
        };
        let pages = Arc::new(self);
        HttpServer::new(listener)
            .answer_during(service, move |request| pages.answer(request))
            .await
    }

    fn answer(&self, request: &Request<Incoming>) -> Page {
        let page = match request.uri().path() {
            "/metrics" => Self::metrics,
            "/livez" => |_: &Self| plain(StatusCode::OK, "alive"),
            "/readyz" => Self::readiness,
            _ => {
                let known = "there are /metrics, /livez and /readyz";
                return plain(StatusCode::NOT_FOUND, known);
            }
        };
        if request.method() == Method::GET {
            return page(self);
        }
        let mut refusal = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered");
        let get = HeaderValue::from_static("GET");
        refusal.headers_mut().insert(header::ALLOW, get);
        refusal
    }

    fn metrics(&self) -> Page {
        let mut body = String::new();
        match text::encode(&mut body, &self.registry) {
            Ok(()) => page(StatusCode::OK, OPEN_METRICS, body),
            // A String takes whatever comes: it is a bug.
            Err(_) => plain(StatusCode::INTERNAL_SERVER_ERROR, "metrics are broken"),
        }
    }

    fn readiness(&self) -> Page {
        match self.not_ready() {
            None => plain(StatusCode::OK, "ready"),
            Some(reason) => plain(StatusCode::SERVICE_UNAVAILABLE, &reason),
        }
    }

    /// Why no request should come, if none should.
    fn not_ready(&self) -> Option<String> {
        if self.dispatcher.is_closed() {
            return Some("shutting down".into());
        }
        let pools = self.dispatcher.pools();
        let cold: Vec<&str> = pools
            .filter(|(_, pool)| !pool.status().warmed)
            .map(|(name, _)| name.as_str())
            .collect();
        (!cold.is_empty()).then(|| format!("not warm yet: {}", cold.join(", ")))
    }
}

fn plain(status: StatusCode, line: &str) -> Page {
    page(status, PLAIN, format!("{line}\n"))
}

fn page(status: StatusCode, kind: &'static str, body: String) -> Page {
    let mut page = Response::new(Full::from(body));
    *page.status_mut() = status;
    let kind = HeaderValue::from_static(kind);
    page.headers_mut().insert(header::CONTENT_TYPE, kind);
    page
}
