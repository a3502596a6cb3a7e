//! Wiring, and the loop: changes → index → plan → queue → writes → changes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use jiff::Timestamp;
use kube::Client;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::apply;
use crate::args::RunArgs;
use crate::dirty::Dirty;
use crate::events::{Note, Teller};
use crate::health::Health;
use crate::index::{Change, Delta, Index};
use crate::keys::Keys;
use crate::maps::Maps;
use crate::metrics::Metrics;
use crate::plan::{self, Key, Known, Write};
use crate::queue::{Queue, Turn};
use crate::watch::{self, Readers};
use crate::words::words;

/// Changes that come within this are reconciled together.
const DEBOUNCE: Duration = Duration::from_millis(100);
/// The loop turns at least this often: time alone makes agents silent and troubles pass.
const TURN: Duration = Duration::from_secs(30);
/// Changes that wait for the loop; watches hold back when it is full.
const BACKLOG: usize = 1024;

/// A client that gives up where we do: retries are the work queue's.
///
/// # Errors
/// No kubeconfig and not in a cluster.
pub(crate) async fn client() -> anyhow::Result<Client> {
    let mut config = kube::Config::infer()
        .await
        .context("no way to the API server: set KUBECONFIG, or run in a pod with a service account")?;
    config.default_retry = false;
    config.connect_timeout = Some(Duration::from_secs(5));
    Client::try_from(config).context("the connection to the API server cannot be set up")
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// What keeps it from starting.
pub(crate) async fn run(args: RunArgs) -> anyhow::Result<()> {
    let client = client().await?;
    let listener = TcpListener::bind(args.http).await.with_context(|| format!("--http {}", args.http))?;
    let mut registry = Registry::default();
    let metrics = Metrics::register(&mut registry);
    let health = Health::starting();
    let address = listener.local_addr().map_or_else(|_| args.http.to_string(), |a| a.to_string());
    let server = tokio::spawn(overcommit_serve::serve(listener, health.pages(registry)));
    let (sender, changes) = mpsc::channel(BACKLOG);
    let (keys, needed) = tokio::sync::watch::channel(Arc::new(Keys::default()));
    watch::start(&client, &sender, &metrics, &needed);
    let teller = Teller::start(client.clone(), metrics.clone());
    let namespace = args.namespace.unwrap_or_else(|| client.default_namespace().to_owned());
    let index = Index::reading(Maps::of(&namespace));
    let readers = Readers::of(client.clone(), namespace, sender, metrics.clone());
    tracing::info!(version = env!("CARGO_PKG_VERSION"), http = address, "started");
    let mut driver = Driver {
        client,
        metrics,
        teller,
        health,
        timeout: args.release_timeout,
        keys,
        readers,
        index,
        known: Known::default(),
        dirty: Dirty::All,
        queue: Queue::default(),
        writes: JoinSet::new(),
    };
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        () = driver.turn_for_ever(changes) => {}
        _ = term.recv() => tracing::info!("SIGTERM: ending; a successor goes on from what the API holds"),
        _ = int.recv() => tracing::info!("SIGINT: ending; a successor goes on from what the API holds"),
    }
    server.abort();
    Ok(())
}

/// A write that has ended.
type Done = (Write, Result<Change, apply::Error>);

struct Driver {
    client: Client,
    metrics: Metrics,
    teller: Teller,
    health: Health,
    timeout: Duration,
    keys: tokio::sync::watch::Sender<Arc<Keys>>,
    readers: Readers,
    index: Index,
    known: Known,
    dirty: Dirty,
    queue: Queue,
    writes: JoinSet<Done>,
}

impl Driver {
    async fn turn_for_ever(&mut self, mut changes: mpsc::Receiver<Change>) {
        let mut wake = Instant::now() + DEBOUNCE;
        loop {
            let dirty = tokio::select! {
                change = changes.recv() => match change {
                    Some(change) => self.take(change),
                    None => return,
                },
                Some(done) = self.writes.join_next(), if !self.writes.is_empty() => {
                    if let Ok(done) = done {
                        self.written(done);
                    }
                    true
                }
                () = tokio::time::sleep_until(wake.into()) => {
                    wake = self.reconcile();
                    false
                }
            };
            if dirty {
                wake = wake.min(Instant::now() + DEBOUNCE);
            }
        }
    }

    /// Takes a change in; true if anything that matters is different now.
    fn take(&mut self, change: Change) -> bool {
        let of_policies = matches!(change, Change::Policies(_));
        self.dirty.note(&self.index, &change);
        let changed = self.index.take(change);
        if of_policies {
            self.readers.follow(&self.index.follow());
        }
        let grown = if of_policies { self.keys.borrow().grown(&self.index) } else { None };
        if let Some(keys) = grown {
            tracing::debug!(
                epoch = keys.epoch,
                "policies name new labels: nodes, namespaces and guests are listed again"
            );
            self.index.needs_labels(keys.epoch);
            self.keys.send_replace(Arc::new(keys));
        }
        changed
    }

    /// Plans, starts what may start, and says when to look again.
    fn reconcile(&mut self) -> Instant {
        let (began, now) = (Instant::now(), Timestamp::now());
        let plan = plan::plan(&self.index, (&mut self.known, &mut self.dirty), now, self.timeout);
        let in_time = |at: Timestamp| Duration::try_from(at.duration_since(now)).unwrap_or_default();
        let mut wake = began + plan.wake.map_or(TURN, in_time).clamp(DEBOUNCE, TURN);
        let planned = plan.writes.len() + plan.nodes.len();
        let mut specs = plan.nodes;
        specs.retain(|node| match self.queue.start(&Key::object(node), Duration::ZERO, began) {
            Turn::Now => true,
            Turn::At(at) => {
                wake = wake.min(at.max(began + DEBOUNCE));
                false
            }
            Turn::AfterOthers => false,
        });
        if !specs.is_empty() {
            self.start_specs(&specs);
        }
        for write in plan.writes {
            match self.queue.start(&write.key(), write.pause, began) {
                Turn::Now => self.start(write),
                Turn::At(at) => wake = wake.min(at.max(began + DEBOUNCE)),
                Turn::AfterOthers => {}
            }
        }
        self.queue.forget(began);
        self.health.beat(wake.saturating_duration_since(began), self.index.unread());
        self.metrics.known(&self.index);
        self.metrics.reconciles.inc();
        self.metrics.duration.observe(began.elapsed().as_secs_f64());
        let gauge = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        self.metrics.queue_depth.set(gauge(planned));
        self.metrics.queue_running.set(gauge(self.queue.running()));
        wake
    }

    fn start_specs(&mut self, nodes: &[String]) {
        let writes = plan::specs_of(&self.index, nodes);
        for node in nodes {
            // One that needs none after all must not keep its place.
            if !writes.iter().any(|write| write.key().name == *node) {
                self.queue.succeeded(&Key::object(node), Instant::now());
            }
        }
        for write in writes {
            self.start(write);
        }
    }

    fn start(&mut self, write: Write) {
        let client = self.client.clone();
        self.writes.spawn(async move {
            let result = apply::write(client, write.change.clone()).await;
            (write, result)
        });
    }

    fn written(&mut self, (write, result): Done) {
        let (key, (verb, kind)) = (write.key(), write.change.call());
        match result {
            Ok(change) => {
                tracing::debug!(verb, kind, name = key.name, "written");
                self.metrics.written(verb, kind, "ok");
                self.queue.succeeded(&key, Instant::now());
                let uid = match &change {
                    Change::Objects(Delta::Apply(object)) => Some(object.uid.clone()),
                    _ => None,
                };
                self.take(change);
                write.notes.into_iter().for_each(|note| self.tell(note.about(uid.as_deref())));
            }
            Err(error) => self.failed(&key, verb, kind, &error),
        }
    }

    fn failed(&mut self, key: &Key, verb: &'static str, kind: &'static str, error: &apply::Error) {
        self.metrics.written(verb, kind, error.word());
        self.metrics.errors.inc();
        let pause = self.queue.failed(key, error.failure(), Instant::now());
        let (name, reason) = (key.name.as_str(), error.word());
        let again_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        if matches!(reason, "conflict" | "not_found") {
            tracing::debug!(
                verb,
                kind,
                name,
                again_ms,
                error = words(error),
                "overtaken by another change; trying again"
            );
        } else {
            tracing::warn!(
                verb,
                kind,
                name,
                reason,
                again_ms,
                error = words(error),
                "a write failed; trying again"
            );
        }
    }

    fn tell(&self, note: Note) {
        tracing::info!(%note, "changed");
        self.teller.tell(note);
    }
}
