//! `/healthz`, `/readyz` and `/metrics`, for the operator and the agent alike.
//!
//! They answer without authentication on the pod's address, so anybody may knock: connections, their age and the time
//! to ask are bounded, and a newcomer takes the place of the oldest, so that nobody keeps the kubelet's probe out by
//! holding connections open. What is alive is a [`Beat`], which the loop itself sets.
//!
//! *Architecture invariant:* nothing here waits for a loop, and no loop waits for anything here.

mod beat;
mod pages;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

pub use beat::Beat;
pub use pages::Pages;

/// What strangers may take.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Connections open at once.
    connections: usize,
    /// Time that a client has to send its request's head.
    header: Duration,
    /// Time that a connection may last.
    connection: Duration,
}

/// A kubelet and two scrapers with room to spare.
const LIMITS: Limits =
    Limits { connections: 32, header: Duration::from_secs(5), connection: Duration::from_mins(1) };
/// Pause after a connection that could not be accepted: out of file descriptors, trying at once would spin.
const BACK_OFF: Duration = Duration::from_millis(200);

/// Serves until it is dropped.
pub async fn serve(listener: TcpListener, pages: Arc<Pages>) {
    serve_within(listener, pages, LIMITS).await;
}

async fn serve_within(listener: TcpListener, pages: Arc<Pages>, limits: Limits) {
    let mut open: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(BACK_OFF).await;
                continue;
            }
        };
        open.retain(|connection| !connection.is_finished());
        if open.len() >= limits.connections
            && let Some(oldest) = open.pop_front()
        {
            oldest.abort();
        }
        open.push_back(tokio::spawn(converse(stream, Arc::clone(&pages), limits)).abort_handle());
    }
}

async fn converse(stream: TcpStream, pages: Arc<Pages>, limits: Limits) {
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = pages.answer(request.method(), request.uri().path());
        async move { Ok::<_, Infallible>(answer) }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(limits.header);
    let connection = server.serve_connection(TokioIo::new(stream), service);
    // A client that goes away or dawdles is its own affair.
    let _ = tokio::time::timeout(limits.connection, connection).await;
}

#[cfg(test)]
mod tests;
