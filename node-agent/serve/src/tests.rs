//! The server on a real socket, with limits short enough to be reached.

use std::time::Duration;

use prometheus_client::registry::Registry;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;

use super::*;

const DEADLINE: Duration = Duration::from_secs(20);
const PATIENT: Limits =
    Limits { connections: 4, header: Duration::from_hours(1), connection: Duration::from_hours(1) };

async fn start(limits: Limits) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    start_on(listener, limits);
    address
}

fn start_on(listener: TcpListener, limits: Limits) {
    let beat = Arc::new(Beat::new(Duration::from_hours(1)));
    let pages = Pages::new(beat, Registry::default(), || Ok("ok".to_owned()));
    tokio::spawn(serve_within(listener, Arc::new(pages), limits));
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
async fn whoever_opens_many_connections_loses_none_but_their_own() {
    let address = start(PATIENT).await;
    let probe = connect(address).await;
    let mut crowd = Vec::new();
    for _ in 0..50 {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        crowd.push(socket.connect(address).await.unwrap());
    }
    assert_eq!(rest(crowd.remove(40)).await, "", "their younger ones took its place");
    assert!(ask(probe).await.starts_with("HTTP/1.1 200"), "it has one connection alone");
}

#[tokio::test]
async fn whoever_has_asked_is_answered_before_a_crowd_behind_takes_the_place() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut asking = connect(address).await;
    asking.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut crowd = Vec::new();
    for _ in 0..50 {
        crowd.push(connect(address).await);
    }
    start_on(listener, PATIENT);
    assert!(rest(asking).await.starts_with("HTTP/1.1 200"));
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

#[test]
fn an_address_that_cannot_be_listened_on_is_refused_with_one_that_can() {
    assert_eq!(address("[::]:9000").unwrap().port(), 9000);
    for (bad, example) in
        [("9001", "0.0.0.0:9001"), ("localhost:9002", "127.0.0.1:9002"), ("", "0.0.0.0:9000")]
    {
        assert!(address(bad).unwrap_err().contains(example), "{bad}");
    }
    assert!(address("1.2.3.4:70000").is_err());
}
