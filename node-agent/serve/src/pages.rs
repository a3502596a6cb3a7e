//! What is answered.

use std::fmt;
use std::sync::Arc;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Method, Response, StatusCode};
use prometheus_client::registry::Registry;

use crate::beat::Beat;

/// Says whether the program is ready, and if not, for what it waits.
type Ready = Box<dyn Fn() -> Result<String, String> + Send + Sync>;

/// What is served.
pub struct Pages {
    beat: Arc<Beat>,
    registry: Registry,
    ready: Ready,
}

impl fmt::Debug for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pages").field("beat", &self.beat).finish_non_exhaustive()
    }
}

impl Pages {
    /// Pages about a loop with that beat. `ready` is asked while the loop turns; it must not block.
    pub fn new(
        beat: Arc<Beat>,
        registry: Registry,
        ready: impl Fn() -> Result<String, String> + Send + Sync + 'static,
    ) -> Self {
        Self { beat, registry, ready: Box::new(ready) }
    }

    pub(crate) fn answer(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        let (code, text) = match (method, path) {
            (&Method::GET | &Method::HEAD, "/healthz") => said(self.alive()),
            (&Method::GET | &Method::HEAD, "/readyz") => said(self.alive().and_then(|_| (self.ready)())),
            (&Method::GET, "/metrics") => self.metrics(),
            (_, "/healthz" | "/readyz" | "/metrics") => {
                (StatusCode::METHOD_NOT_ALLOWED, "GET only\n".to_owned())
            }
            _ => (StatusCode::NOT_FOUND, "there are /healthz, /readyz and /metrics\n".to_owned()),
        };
        let kind = if path == "/metrics" {
            "application/openmetrics-text; version=1.0.0; charset=utf-8"
        } else {
            "text/plain; charset=utf-8"
        };
        let mut response = Response::new(Full::new(Bytes::from(text)));
        *response.status_mut() = code;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        response
    }

    fn alive(&self) -> Result<String, String> {
        match self.beat.late() {
            None => Ok("ok".to_owned()),
            Some(late) => Err(format!("the loop is {} s late", late.as_secs())),
        }
    }

    fn metrics(&self) -> (StatusCode, String) {
        let mut text = String::new();
        match prometheus_client::encoding::text::encode(&mut text, &self.registry) {
            Ok(()) => (StatusCode::OK, text),
            Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, "cannot encode the metrics\n".to_owned()),
        }
    }
}

fn said(word: Result<String, String>) -> (StatusCode, String) {
    match word {
        Ok(word) => (StatusCode::OK, word + "\n"),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, why + "\n"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn pages(slack: Duration, ready: Result<String, String>) -> Pages {
        Pages::new(Arc::new(Beat::new(slack)), Registry::default(), move || ready.clone())
    }

    #[test]
    fn unknown_paths_and_methods_are_refused() {
        let pages = pages(Duration::MAX, Ok("ok".to_owned()));
        let code = |method: Method, path: &str| pages.answer(&method, path).status();
        assert_eq!(code(Method::GET, "/"), StatusCode::NOT_FOUND);
        assert_eq!(code(Method::POST, "/metrics"), StatusCode::METHOD_NOT_ALLOWED);
        for path in ["/healthz", "/readyz", "/metrics"] {
            assert_eq!(code(Method::GET, path), StatusCode::OK, "{path}");
        }
    }

    #[test]
    fn who_waits_is_alive_and_not_ready_and_who_hangs_is_neither() {
        let waiting = pages(Duration::MAX, Err("waiting for nodes".to_owned()));
        assert_eq!(waiting.answer(&Method::GET, "/healthz").status(), StatusCode::OK);
        assert_eq!(waiting.answer(&Method::GET, "/readyz").status(), StatusCode::SERVICE_UNAVAILABLE);
        let hung = pages(Duration::ZERO, Ok("ok".to_owned()));
        for path in ["/healthz", "/readyz"] {
            assert_eq!(hung.answer(&Method::GET, path).status(), StatusCode::SERVICE_UNAVAILABLE, "{path}");
        }
        assert_eq!(hung.answer(&Method::GET, "/metrics").status(), StatusCode::OK);
    }
}
