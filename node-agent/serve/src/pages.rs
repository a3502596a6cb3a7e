//! What is answered.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

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
    /// The metrics as they were written out last, and when.
    written: Mutex<Option<(Instant, Bytes)>>,
}

/// Metrics are written out at most this often: they are long, and anybody may ask.
const WRITTEN_FOR: Duration = Duration::from_secs(1);

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
        Self { beat, registry, ready: Box::new(ready), written: Mutex::new(None) }
    }

    pub(crate) fn answer(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        let (code, text) = match (method, path) {
            (&Method::GET | &Method::HEAD, "/healthz") => said(self.alive()),
            (&Method::GET | &Method::HEAD, "/readyz") => said(self.alive().and_then(|_| (self.ready)())),
            (&Method::GET, "/metrics") => self.metrics(),
            (_, "/healthz" | "/readyz" | "/metrics") => {
                (StatusCode::METHOD_NOT_ALLOWED, Bytes::from_static(b"GET only\n"))
            }
            _ => (StatusCode::NOT_FOUND, Bytes::from_static(b"there are /healthz, /readyz and /metrics\n")),
        };
        let kind = if path == "/metrics" {
            "application/openmetrics-text; version=1.0.0; charset=utf-8"
        } else {
            "text/plain; charset=utf-8"
        };
        let mut response = Response::new(Full::new(text));
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

    fn metrics(&self) -> (StatusCode, Bytes) {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, text)) = written.as_ref().filter(|(at, _)| at.elapsed() < WRITTEN_FOR) {
            return (StatusCode::OK, text.clone());
        }
        let mut text = String::new();
        match prometheus_client::encoding::text::encode(&mut text, &self.registry) {
            Ok(()) => {
                let text = Bytes::from(text);
                *written = Some((Instant::now(), text.clone()));
                (StatusCode::OK, text)
            }
            Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, Bytes::from_static(b"cannot encode the metrics\n")),
        }
    }
}

fn said(word: Result<String, String>) -> (StatusCode, Bytes) {
    match word {
        Ok(word) => (StatusCode::OK, (word + "\n").into()),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, (why + "\n").into()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use prometheus_client::collector::Collector;
    use prometheus_client::encoding::DescriptorEncoder;

    use super::*;

    /// Counts how often it is asked.
    #[derive(Clone, Debug, Default)]
    struct Asked(Arc<AtomicU64>);

    impl Collector for Asked {
        fn encode(&self, _: DescriptorEncoder<'_>) -> fmt::Result {
            self.0.fetch_add(1, Ordering::Relaxed);
            Ok(())
        }
    }

    #[test]
    fn metrics_are_written_out_once_a_second_however_often_somebody_asks() {
        let (mut registry, asked) = (Registry::default(), Asked::default());
        registry.register_collector(Box::new(asked.clone()));
        let pages = Pages::new(Arc::new(Beat::new(Duration::MAX)), registry, || Ok("ok".to_owned()));
        let began = Instant::now();
        for _ in 0..1000 {
            assert_eq!(pages.answer(&Method::GET, "/metrics").status(), StatusCode::OK);
        }
        assert!(asked.0.load(Ordering::Relaxed) <= 1 + began.elapsed().as_secs());
    }

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
