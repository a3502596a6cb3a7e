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
    let mut stream = TcpStream::connect(("127.0.0.1", port)).with_context(|| format!("port {port}"))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).with_context(|| format!("no answer to {path}"))?;
    let code = answer.split(' ').nth(1).with_context(|| answer.clone())?.parse()?;
    let (_, body) = answer.split_once("\r\n\r\n").with_context(|| answer.clone())?;
    Ok((code, body.to_owned()))
}
