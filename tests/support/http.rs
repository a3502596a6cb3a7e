//! One question to a server on loopback, as a probe or Prometheus asks it.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context as _, Result};

/// A probe of the kubelet waits less.
const PATIENCE: Duration = Duration::from_secs(10);

/// Status code and body of `path`.
///
/// # Errors
/// When nobody listens, or there is no answer in time.
pub fn get(port: u16, path: &str) -> Result<(u16, String)> {
    ask(port, "GET", path, "")
}

/// Status code and body of the answer to `body`.
///
/// # Errors
/// As [`get`].
pub fn post(port: u16, path: &str, body: &str) -> Result<(u16, String)> {
    ask(port, "POST", path, body)
}

fn ask(port: u16, verb: &str, path: &str, body: &str) -> Result<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).with_context(|| format!("port {port}"))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let head = format!("{verb} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close");
    write!(stream, "{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).with_context(|| format!("no answer to {path}"))?;
    let code = answer.split(' ').nth(1).with_context(|| answer.clone())?.parse()?;
    let (_, body) = answer.split_once("\r\n\r\n").with_context(|| answer.clone())?;
    Ok((code, body.to_owned()))
}
