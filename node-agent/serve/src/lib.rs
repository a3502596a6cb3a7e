//! `/healthz`, `/readyz` and `/metrics`, for the operator and the agent alike.
//!
//! They answer without authentication on the pod's address, so anybody may knock: connections, their age and the time
//! to ask are bounded. A newcomer takes the place of the oldest connection of whoever has most, so that neither holding
//! connections open nor opening thousands keeps the kubelet's probe out, which comes from an address of its own; and metrics are
//! written out at most once a second. What is alive is a [`Beat`], which the loop itself sets.
//!
//! *Architecture invariant:* nothing here waits for a loop, and no loop waits for anything here.

mod beat;
mod pages;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
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

/// An address and a port to listen on, as people write them.
///
/// # Errors
/// What to write instead.
pub fn address(text: &str) -> Result<SocketAddr, String> {
    let port = text.rsplit(':').next().filter(|port| port.parse::<u16>().is_ok()).unwrap_or("9000");
    text.parse().map_err(|_| {
        format!("write an IP address and a port: 0.0.0.0:{port} for everybody, 127.0.0.1:{port} for this host alone")
    })
}

/// Serves until it is dropped.
pub async fn serve(listener: TcpListener, pages: Arc<Pages>) {
    serve_within(listener, pages, LIMITS).await;
}

/// A connection that is open, or was.
struct Open {
    peer: IpAddr,
    task: AbortHandle,
}

async fn serve_within(listener: TcpListener, pages: Arc<Pages>, limits: Limits) {
    let mut open: VecDeque<Open> = VecDeque::new();
    let mut shut = false;
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok((stream, from)) => {
                if std::mem::take(&mut shut) {
                    tracing::info!("no longer: connections cannot be accepted");
                }
                (stream, from.ip())
            }
            Err(error) => {
                // Once, and not five times a second.
                if !std::mem::replace(&mut shut, true) {
                    tracing::warn!(%error, "connections cannot be accepted");
                }
                tokio::time::sleep(BACK_OFF).await;
                continue;
            }
        };
        open.retain(|connection| !connection.task.is_finished());
        if open.len() >= limits.connections
            && let Some(given_up) = place(&open, peer).and_then(|at| open.remove(at))
        {
            given_up.task.abort();
        }
        let task = tokio::spawn(converse(stream, Arc::clone(&pages), limits)).abort_handle();
        open.push_back(Open { peer, task });
        // Who has asked already is answered before others take the place.
        tokio::task::yield_now().await;
    }
}

/// Whose place a newcomer takes: the oldest of the address that has most with it.
fn place(open: &VecDeque<Open>, newcomer: IpAddr) -> Option<usize> {
    let count = |peer: IpAddr| {
        open.iter().filter(|other| other.peer == peer).count().saturating_add(usize::from(peer == newcomer))
    };
    let most = open.iter().rev().map(|connection| connection.peer).max_by_key(|peer| count(*peer))?;
    open.iter().position(|connection| connection.peer == most)
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
