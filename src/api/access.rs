//! Lets calls in: nothing but a health check is answered without a valid token, where one is needed.

use std::{
    convert::Infallible,
    mem,
    sync::Arc,
    task::{Context, Poll},
};

use hyper::http::{HeaderMap, Request, Response, header::AUTHORIZATION};
use tonic::{
    Extensions, Status,
    body::Body,
    codegen::{BoxFuture, Service},
};
use tower::Layer;

use super::status::Refusal;
use crate::access::{Access, Denied, Identity};

/// Load balancers and kubelets ask without a token, and learn no more than whether to send calls.
const OPEN: &str = "/grpc.health.v1.Health/";

/// Asks who each call is from before any service sees it, and puts the [`Identity`] into the
/// request's extensions.
#[derive(Clone)]
pub struct AccessLayer {
    access: Arc<Access>,
}

impl AccessLayer {
    /// Lets in whom `access` knows.
    #[must_use]
    pub fn new(access: Access) -> Self {
        Self {
            access: Arc::new(access),
        }
    }
}

impl<S> Layer<S> for AccessLayer {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded {
            inner,
            access: self.access.clone(),
        }
    }
}

/// Services that see only calls that were let in.
#[derive(Clone)]
pub struct Guarded<S> {
    inner: S,
    access: Arc<Access>,
}

impl<S> Service<Request<Body>> for Guarded<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Response<Body>, Infallible>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let access = self.access.clone();
        // The one that was asked whether it is ready.
        let clone = self.inner.clone();
        let mut inner = mem::replace(&mut self.inner, clone);
        Box::pin(async move {
            if !request.uri().path().starts_with(OPEN) {
                match access.identify(bearer_token(request.headers())).await {
                    Ok(identity) => {
                        request.extensions_mut().insert(identity);
                    }
                    Err(denied) => {
                        return Ok(Status::from(Refusal::Denied(denied)).into_http());
                    }
                }
            }
            inner.call(request).await
        })
    }
}

/// The token of a header such as `authorization: Bearer mF_9.B5f-4.1JqM` (RFC 6750, section 2.1).
/// Of two such headers neither counts.
fn bearer_token(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next().filter(|_| values.next().is_none())?;
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then(|| token.trim_matches(' '))
}

/// Whom the call is from.
///
/// # Errors
/// [`Denied::Unauthenticated`], should the call have come past [`AccessLayer`].
pub(super) fn identity(extensions: &Extensions) -> Result<&Identity, Denied> {
    extensions.get().ok_or(Denied::Unauthenticated)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_bearer_token_is_found_where_it_is_the_only_one() {
        for (values, expected) in [
            (&["Bearer abc"][..], Some("abc")),
            (&["bearer  abc "], Some("abc")),
            (&["Basic abc"], None),
            (&["Bearer"], None),
            (&["Bearer abc", "Bearer abc"], None),
            (&[], None),
        ] {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(AUTHORIZATION, value.parse().unwrap());
            }
            assert_eq!(bearer_token(&headers), expected, "{values:?}");
        }
    }
}
