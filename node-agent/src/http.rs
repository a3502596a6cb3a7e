//! /metrics, /healthz and /readyz by bare hyper.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::report::Report;

/// What is served.
pub(crate) struct Served {
    /// The metrics.
    pub(crate) registry: Registry,
    /// The latest report.
    pub(crate) latest: watch::Receiver<Option<Arc<Report>>>,
}

/// Serves until the runtime ends.
///
/// # Errors
/// When the address cannot be listened on.
pub(crate) async fn serve(address: SocketAddr, served: Served) -> std::io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    let served = Arc::new(served);
    tokio::spawn(async move {
        loop {
            let Ok((stream, _)) = listener.accept().await else { continue };
            let served = Arc::clone(&served);
            tokio::spawn(async move {
                let service = service_fn(move |request| {
                    let answer = answer(&request, &served);
                    async move { Ok::<_, Infallible>(answer) }
                });
                drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
            });
        }
    });
    Ok(())
}

fn answer<B>(request: &Request<B>, served: &Served) -> Response<Full<Bytes>> {
    let (status, body) = match request.uri().path() {
        "/healthz" => (StatusCode::OK, "ok\n".to_owned()),
        "/readyz" => readiness(served),
        "/metrics" => {
            let mut text = String::new();
            match prometheus_client::encoding::text::encode(&mut text, &served.registry) {
                Ok(()) => (StatusCode::OK, text),
                Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, "metrics cannot be rendered\n".to_owned()),
            }
        }
        _ => (StatusCode::NOT_FOUND, "see /metrics, /healthz, /readyz\n".to_owned()),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response
}

fn readiness(served: &Served) -> (StatusCode, String) {
    match served.latest.borrow().as_ref() {
        // A node that no policy selects has nothing to do, and an agent that is ready for it.
        None => (StatusCode::OK, "ok: no policy selects this node yet\n".to_owned()),
        Some(report) if report.ledger.is_none() => {
            (StatusCode::SERVICE_UNAVAILABLE, "the host cannot be read\n".to_owned())
        }
        Some(_) => (StatusCode::OK, "ok\n".to_owned()),
    }
}
