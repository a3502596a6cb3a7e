//! `/healthz`, `/readyz` and `/metrics`.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::index::Watch;

/// Connections served at once: a kubelet and two scrapers with room to spare.
const CONNECTIONS: usize = 32;
/// Time that a client has to send its request's head.
const HEADER_DEADLINE: Duration = Duration::from_secs(5);
/// Time that a connection may last.
const CONNECTION_DEADLINE: Duration = Duration::from_mins(1);
/// The loop turns at least every 30 s; three missed turns mean that it hangs.
const HUNG: Duration = Duration::from_secs(100);

/// How the operator is doing, shared between the loop and the server.
#[derive(Debug)]
pub(crate) struct Health(Mutex<(Instant, Vec<Watch>)>);

impl Health {
    /// Nothing listed yet.
    pub(crate) fn starting() -> Self {
        Self(Mutex::new((Instant::now(), Watch::ALL.to_vec())))
    }

    /// The loop has turned; these watches have not listed yet.
    pub(crate) fn beat(&self, waiting: Vec<Watch>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = (Instant::now(), waiting);
    }

    fn alive(&self) -> (StatusCode, String) {
        let age = self.0.lock().unwrap_or_else(PoisonError::into_inner).0.elapsed();
        if age < HUNG {
            (StatusCode::OK, "ok\n".to_owned())
        } else {
            (StatusCode::SERVICE_UNAVAILABLE, format!("the loop has not turned for {} s\n", age.as_secs()))
        }
    }

    fn ready(&self) -> (StatusCode, String) {
        let waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner).1.clone();
        if waiting.is_empty() {
            return (StatusCode::OK, "ok\n".to_owned());
        }
        let names: Vec<&str> = waiting.iter().map(|w| w.resource()).collect();
        (StatusCode::SERVICE_UNAVAILABLE, format!("waiting for {}\n", names.join(", ")))
    }
}

/// Serves until it is dropped.
pub(crate) async fn serve(listener: TcpListener, health: Arc<Health>, registry: Arc<Registry>) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(200)).await;
                continue;
            }
        };
        let (health, registry) = (Arc::clone(&health), Arc::clone(&registry));
        tokio::spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let answer = answer(request.method(), request.uri().path(), &health, &registry);
                async move { Ok::<_, Infallible>(answer) }
            });
            let mut server = http1::Builder::new();
            server.timer(TokioTimer::new()).header_read_timeout(HEADER_DEADLINE);
            let connection = server.serve_connection(TokioIo::new(stream), service);
            // A client that goes away or dawdles is its own affair.
            let _ = tokio::time::timeout(CONNECTION_DEADLINE, connection).await;
            drop(slot);
        });
    }
}

fn answer(method: &Method, path: &str, health: &Health, registry: &Registry) -> Response<Full<Bytes>> {
    let (code, text) = match (method, path) {
        (&Method::GET | &Method::HEAD, "/healthz") => health.alive(),
        (&Method::GET | &Method::HEAD, "/readyz") => health.ready(),
        (&Method::GET, "/metrics") => metrics(registry),
        (_, "/healthz" | "/readyz" | "/metrics") => (StatusCode::METHOD_NOT_ALLOWED, "GET only\n".to_owned()),
        _ => (StatusCode::NOT_FOUND, "there are /healthz, /readyz and /metrics\n".to_owned()),
    };
    let kind = if path == "/metrics" {
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    } else {
        "text/plain; charset=utf-8"
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = code;
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, hyper::header::HeaderValue::from_static(kind));
    response
}

fn metrics(registry: &Registry) -> (StatusCode, String) {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, registry) {
        Ok(()) => (StatusCode::OK, text),
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, "cannot encode the metrics\n".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_names_the_watches_still_waited_for() {
        let health = Health::starting();
        assert!(health.ready().1.contains("nodes"));
        health.beat(vec![]);
        assert_eq!(health.ready().0, StatusCode::OK);
        assert_eq!(health.alive().0, StatusCode::OK);
    }

    #[test]
    fn unknown_paths_and_methods_are_refused() {
        let (health, registry) = (Health::starting(), Registry::default());
        let code = |method: Method, path: &str| answer(&method, path, &health, &registry).status();
        assert_eq!(code(Method::GET, "/"), StatusCode::NOT_FOUND);
        assert_eq!(code(Method::POST, "/metrics"), StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(code(Method::GET, "/metrics"), StatusCode::OK);
    }
}
