//! The writer against an API server that may refuse events.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use overcommit_core::plan::Move;
use overcommit_core::ports::PortError;
use overcommit_core::reason::{Failure, Reason};
use overcommit_core::sample::{GuestId, GuestName};
use overcommit_core::troubles::Troubles;
use overcommit_core::units::Bytes;
use overcommit_crds::OvercommitPolicySpec;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::contact::Contact;
use crate::kept::Pulse;
use crate::orders::Orders;
use crate::report::done::WAITING;
use crate::report::{Reporter, metrics};

const PATIENCE: Duration = Duration::from_secs(30);

/// What an API server was told.
#[derive(Default)]
struct Told {
    fails: AtomicBool,
    requests: Mutex<Vec<(String, Value)>>,
}

impl Told {
    /// Notes of the events that were taken.
    fn events(&self) -> Vec<String> {
        let requests = self.requests.lock().unwrap();
        let events = requests.iter().filter(|(what, _)| what.starts_with("POST"));
        events.map(|(_, body)| body["note"].as_str().unwrap().to_owned()).collect()
    }

    /// The actions in the last status.
    fn actions(&self) -> usize {
        let requests = self.requests.lock().unwrap();
        let written = requests.iter().rev().find(|(what, _)| what.starts_with("PATCH"));
        written.map_or(0, |(_, body)| body["status"]["lastActions"].as_array().map_or(0, Vec::len))
    }

    async fn wait(&self, what: &str, so: impl Fn(&Self) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !so(self) {
            assert!(Instant::now() < end, "{what}: {:?}", self.requests.lock().unwrap());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn serve(self: Arc<Self>, stream: TcpStream) {
        let mut stream = BufReader::new(stream);
        loop {
            let (mut head, mut length) = (String::new(), 0);
            loop {
                let mut line = String::new();
                if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
                    return;
                }
                if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                if line.trim().is_empty() {
                    break;
                }
                head += &line;
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).await.unwrap();
            let (code, answer) = self.answer(&head, serde_json::from_slice(&body).unwrap_or_default());
            let text = answer.to_string();
            let head = format!(
                "HTTP/1.1 {code} x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
                text.len()
            );
            stream.write_all((head + &text).as_bytes()).await.unwrap();
        }
    }

    fn answer(&self, head: &str, body: Value) -> (u16, Value) {
        let what = head.lines().next().unwrap_or_default().to_owned();
        if !what.starts_with("GET") && what.contains("events") {
            if self.fails.load(Ordering::Relaxed) {
                return (500, json!({ "kind": "Status", "status": "Failure", "code": 500, "message": "no" }));
            }
            self.requests.lock().unwrap().push((what, body.clone()));
            return (201, body);
        }
        if what.starts_with("PATCH") {
            self.requests.lock().unwrap().push((what, body));
        }
        let metadata = json!({ "name": "n", "uid": "u", "resourceVersion": "1" });
        let resolved = overcommit_crds::resolve::resolve(&OvercommitPolicySpec::default());
        let spec = json!({ "policy": "p", "revision": "r", "resolved": resolved });
        (
            200,
            json!({ "apiVersion": "overcommit.dev/v1alpha1", "kind": "NodeOvercommit", "metadata": metadata, "spec": spec }),
        )
    }
}

/// An API server, and a client of it.
async fn server() -> (Arc<Told>, Client) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let told = Arc::new(Told::default());
    let server = Arc::clone(&told);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(Arc::clone(&server).serve(stream));
        }
    });
    let config = kube::Config::new(format!("http://{address}").parse().unwrap());
    (told, Client::try_from(config).unwrap())
}

fn reporter(registry: &mut Registry) -> (Reporter, watch::Receiver<Option<Arc<Report>>>, Done) {
    let metrics = metrics::Metrics::register(registry, Vec::new());
    Reporter::new(metrics, None, crate::http::beat(), Pulse::default())
}

/// A report in which the take from this guest was undone.
fn undone(guest: &str) -> Arc<Report> {
    let orders = Orders::from_file("p", &OvercommitPolicySpec::default()).unwrap();
    let nothing = PortError { what: "/proc".to_owned(), why: "not looked at".to_owned() };
    let (from, to) = (Bytes::from_mib(300), Bytes::from_mib(400));
    let step = Move {
        id: GuestId::new(guest),
        name: GuestName::namespaced("shop", guest),
        from,
        to,
        reason: Reason::Undo(Failure::NotFollowed { missing: Bytes::from_mib(100) }),
    };
    Arc::new(Report {
        version: Some(Version { uid: "u".to_owned(), generation: 1 }),
        actions: vec![Action::of(&step, from, to, None)],
        ..Report::unreadable(&orders, &nothing)
    })
}

fn quiet() -> Arc<Report> {
    let report = undone("nobody");
    Arc::new(Report { actions: Vec::new(), ..(*report).clone() })
}

#[tokio::test]
async fn each_undone_take_is_told_whatever_reports_were_overwritten() {
    let (told, client) = server().await;
    let (mut reporter, latest, done) = reporter(&mut Registry::default());
    for guest in ["a", "b", "c"] {
        reporter.publish(undone(guest));
    }
    reporter.publish(quiet());
    let writer = tokio::spawn(Writer::new(client, "n", Arc::new(Contact::new("n"))).run(latest, done));
    let about = |told: &Told, guest: &str| {
        told.events().iter().any(|note| note.starts_with(&format!("shop/{guest}: ")))
    };
    told.wait("an event for each", |told| ["a", "b", "c"].iter().all(|guest| about(told, guest))).await;
    assert_eq!(told.actions(), 3);
    reporter.publish(undone("last"));
    drop(reporter);
    tokio::time::timeout(PATIENCE, writer).await.unwrap().unwrap();
    assert!(about(&told, "last"), "{:?}", told.events());
}

#[tokio::test]
async fn an_event_that_was_not_taken_is_told_with_the_next_report() {
    let (told, client) = server().await;
    told.fails.store(true, Ordering::Relaxed);
    let (mut reporter, latest, done) = reporter(&mut Registry::default());
    reporter.publish(undone("a"));
    let writer = tokio::spawn(Writer::new(client, "n", Arc::new(Contact::new("n"))).run(latest, done));
    told.wait("the status", |told| told.actions() == 1).await;
    assert!(told.events().is_empty());
    told.fails.store(false, Ordering::Relaxed);
    let end = Instant::now() + PATIENCE;
    while !told.events().iter().any(|note| note.starts_with("shop/a: ")) {
        assert!(Instant::now() < end, "it is forgotten");
        reporter.publish(quiet());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let count = told.events().iter().filter(|note| note.starts_with("shop/a: ")).count();
    assert_eq!(count, 1, "told once");
    writer.abort();
}

/// A report of what was done without orders.
fn unordered() -> Arc<Report> {
    let orders_missing_since = Some(jiff::Timestamp::UNIX_EPOCH);
    let mut report = Report { version: None, orders_missing_since, ..(*quiet()).clone() };
    report.troubles = Troubles::default();
    report.troubles.add_own(["no orders since then".to_owned()]);
    Arc::new(report)
}

#[tokio::test]
async fn without_orders_the_object_that_there_is_says_so_of_no_generation() {
    let (told, client) = server().await;
    let (mut reporter, latest, done) = reporter(&mut Registry::default());
    reporter.publish(unordered());
    let writer = tokio::spawn(Writer::new(client, "n", Arc::new(Contact::new("n"))).run(latest, done));
    let conditions = |told: &Told| {
        let requests = told.requests.lock().unwrap();
        let written = requests.iter().find(|(what, _)| what.starts_with("PATCH"));
        written.map(|(_, body)| body["status"]["conditions"].clone())
    };
    told.wait("a status", |told| conditions(told).is_some()).await;
    let said = conditions(&told).unwrap();
    let degraded = said.as_array().unwrap().iter().find(|c| c["type"] == "Degraded").unwrap().clone();
    assert_eq!((&degraded["reason"], &degraded["observedGeneration"]), (&json!("NoOrders"), &Value::Null));
    writer.abort();
}

#[tokio::test]
async fn where_there_is_no_object_an_event_says_once_that_there_are_no_orders() {
    let (told, client) = server().await;
    let (mut reporter, latest, done) = reporter(&mut Registry::default());
    let contact = Arc::new(Contact::new("n"));
    contact.answered(crate::contact::Answer::None);
    reporter.publish(unordered());
    let writer = tokio::spawn(Writer::new(client, "n", contact).run(latest, done));
    told.wait("the event", |told| !told.events().is_empty()).await;
    reporter.publish(unordered());
    drop(reporter);
    tokio::time::timeout(PATIENCE, writer).await.unwrap().unwrap();
    assert_eq!(told.events(), ["no orders since then"]);
    let requests = told.requests.lock().unwrap();
    assert!(requests.iter().all(|(what, _)| !what.starts_with("PATCH")), "{requests:?}");
    assert_eq!(requests[0].1["reason"], "NoOrders");
}

#[test]
fn what_nobody_takes_is_counted() {
    let mut registry = Registry::default();
    let (mut reporter, _latest, done) = reporter(&mut registry);
    for _ in 0..WAITING + 3 {
        reporter.publish(undone("a"));
    }
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    assert!(text.contains("overcommit_actions_untold_total 3"), "{text}");
    assert_eq!(done.take().len(), WAITING);
    drop(done);
    reporter.publish(undone("a"));
    text.clear();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    assert!(text.contains("overcommit_actions_untold_total 3"), "without Kubernetes nothing is lost");
}
