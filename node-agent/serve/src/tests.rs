//! The server on a real socket, with limits short enough to be reached.

use std::time::Duration;

use prometheus_client::registry::Registry;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::*;

const DEADLINE: Duration = Duration::from_secs(20);
const PATIENT: Limits =
    Limits { connections: 4, header: Duration::from_hours(1), connection: Duration::from_hours(1) };

async fn start(limits: Limits) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let beat = Arc::new(Beat::new(Duration::from_hours(1)));
    let pages = Pages::new(beat, Registry::default(), || Ok("ok".to_owned()));
    tokio::spawn(serve_within(listener, Arc::new(pages), limits));
    address
}

async fn connect(address: std::net::SocketAddr) -> TcpStream {
    TcpStream::connect(address).await.unwrap()
}

/// Reads until the server ends the connection.
async fn rest(mut stream: TcpStream) -> String {
    let mut text = Vec::new();
    // A connection that is cut may end with an error.
    let _ = timeout(DEADLINE, stream.read_to_end(&mut text)).await.expect("the end of the connection");
    String::from_utf8(text).unwrap()
}

async fn ask(mut stream: TcpStream) -> String {
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    rest(stream).await
}

#[tokio::test]
async fn idle_connections_keep_nobody_out() {
    let address = start(PATIENT).await;
    let mut idle = Vec::new();
    for _ in 0..50 {
        idle.push(connect(address).await);
    }
    assert!(ask(connect(address).await).await.starts_with("HTTP/1.1 200"), "the newcomer is served");
    assert_eq!(rest(idle.remove(0)).await, "", "the oldest had to go");
    assert!(ask(idle.pop().unwrap()).await.starts_with("HTTP/1.1 200"), "the youngest may stay");
}

#[tokio::test]
async fn who_does_not_ask_in_time_is_cut_off() {
    let address = start(Limits { header: Duration::from_millis(50), ..PATIENT }).await;
    let mut slow = connect(address).await;
    slow.write_all(b"GET /healthz HT").await.unwrap();
    assert!(!rest(slow).await.contains("200"));
}

#[tokio::test]
async fn no_connection_lasts_for_ever() {
    let address = start(Limits { connection: Duration::from_millis(50), ..PATIENT }).await;
    let mut kept = connect(address).await;
    kept.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    rest(kept).await;
}
