//! Wiring: the same loop for a cluster's node and for a host without Kubernetes.

use std::fmt;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use overcommit_core::ports::GuestPort;
use overcommit_core::units::Bytes;
use overcommit_crds::file;
use overcommit_guest::Notify;
use overcommit_host::{EvictionLine, Glimpses, HostReader, Root};
use prometheus_client::registry::Registry;
use tokio::runtime::Runtime;

use crate::args::{Output, Run};
use crate::cluster;
use crate::control;
use crate::http;
use crate::intake;
use crate::journal::{Journal, Scribe};
use crate::orders::Orders;
use crate::report::{Reporter, lines, metrics, writer};
use crate::resident;
use crate::signals;
use crate::state_dir::StateDir;
use crate::tick::{Loop, Parts, Wake};

/// How often the kubelet's configuration is read again.
const EVICTION_AGE: Duration = Duration::from_mins(1);

/// Why the process ends without success.
#[derive(Debug)]
pub(crate) struct Failure {
    error: anyhow::Error,
    code: u8,
}

impl Failure {
    /// Bad usage or bad input, before anything was touched.
    pub(crate) fn bad_input(error: anyhow::Error) -> Self {
        Self { error, code: 2 }
    }
    /// It was tried and did not work.
    pub(crate) fn failed(error: anyhow::Error) -> Self {
        Self { error, code: 1 }
    }
    /// For the shell.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&format_args!("{:#}", self.error), f)
    }
}

/// `overcommit-agent run`.
pub(crate) fn run(args: &Run) -> Result<(), Failure> {
    telemetry(&args.log)?;
    resident::lock();
    let orders = args.policy.as_deref().map(read_policy).transpose()?;
    let dir = Arc::new(StateDir::open(&args.state_dir).map_err(Failure::bad_input)?);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|e| Failure::failed(e.into()))?;
    let (wakes, inbox) = channel();
    let (guests, task) = match (&args.node, &args.connect) {
        (Some(node), _) => attach(&runtime, node, &dir, &wakes)?,
        (None, Some(uri)) => (cluster::standalone(uri, &Root::default(), news(&wakes)), None),
        (None, None) => return Err(Failure::bad_input(anyhow!("name --node, or --policy and --connect"))),
    };
    if let Some(orders) = orders {
        drop(wakes.send(Wake::Orders(Arc::new(orders))));
    }
    control::listen(&control::socket(&args.state_dir), wakes.clone()).map_err(Failure::bad_input)?;
    let complete = drive(args, &runtime, dir, guests, task, (wakes, inbox))?;
    if complete { Ok(()) } else { Err(Failure::failed(anyhow!("not everything could be given back"))) }
}

/// What writes the status in a cluster.
struct Task {
    client: kube::Client,
    node: String,
}

fn drive(
    args: &Run,
    runtime: &Runtime,
    dir: Arc<StateDir>,
    guests: Box<dyn GuestPort + Send>,
    task: Option<Task>,
    (wakes, inbox): (Sender<Wake>, Receiver<Wake>),
) -> Result<bool, Failure> {
    let mut registry = Registry::default();
    let metrics = metrics::Metrics::register(&mut registry);
    let print = (task.is_none() || args.output == Output::Json).then(|| lines::Printer::new(args.output));
    let (reporter, latest) = Reporter::new(metrics, print);
    let standalone = task.is_none();
    let recorded = wakes.clone();
    let served = http::Served { registry, latest: latest.clone() };
    let address = args.http;
    runtime
        .block_on(async move {
            signals::forward(wakes, standalone).context("signals cannot be handled")?;
            match address {
                Some(address) => {
                    http::serve(address, served).await.with_context(|| format!("cannot listen on {address}"))
                }
                None => Ok(()),
            }
        })
        .map_err(Failure::bad_input)?;
    let writing = task.map(|t| runtime.spawn(writer::Writer::new(t.client, &t.node).run(latest)));
    let root = Root::default();
    let boot_id = procfs::sys::kernel::random::boot_id().unwrap_or_default();
    let journal = Journal::open(&dir, &boot_id);
    let told = move |content, result| drop(recorded.send(Wake::Recorded(content, result)));
    let scribe = Scribe::start(dir, told).map_err(|e| Failure::failed(e.into()))?;
    let parts = Parts {
        host: Box::new(HostReader::new(&root)),
        guests,
        glimpses: Glimpses::new(&root),
        journal,
        scribe,
        reporter,
        eviction: eviction(root, standalone),
    };
    let complete = Loop::new(parts).run(&inbox);
    if let Some(writing) = writing {
        drop(runtime.block_on(async { tokio::time::timeout(Duration::from_secs(5), writing).await }));
    }
    Ok(complete)
}

/// Wakes the loop when something can be heard of guests. A wake more than needed is harmless: hearing takes all in.
fn news(wakes: &Sender<Wake>) -> Notify {
    let wakes = wakes.clone();
    Arc::new(move || drop(wakes.send(Wake::News)))
}

/// The kubelet's line, read again now and then; a host without Kubernetes has none.
fn eviction(root: Root, standalone: bool) -> Box<dyn FnMut(Bytes) -> Bytes + Send> {
    let mut known: Option<(Instant, Bytes)> = None;
    Box::new(move |total| match known {
        _ if standalone => Bytes::ZERO,
        Some((at, line)) if at.elapsed() < EVICTION_AGE => line,
        _ => {
            let read = EvictionLine::read(&root, total);
            if known.is_none_or(|(_, line)| line != read.line) {
                tracing::info!(line = %read.line, source = read.source, trouble = read.trouble, "the kubelet's eviction line");
            }
            known = Some((Instant::now(), read.line));
            read.line
        }
    })
}

fn attach(
    runtime: &Runtime,
    node: &str,
    dir: &Arc<StateDir>,
    wakes: &Sender<Wake>,
) -> Result<(Box<dyn GuestPort + Send>, Option<Task>), Failure> {
    let client = runtime
        .block_on(kube::Client::try_default())
        .context("no access to the API server: run in a pod with a service account, or set KUBECONFIG")
        .map_err(Failure::bad_input)?;
    if let Some(orders) = intake::cached(node, dir) {
        drop(wakes.send(Wake::Orders(orders)));
    }
    runtime.spawn(intake::follow(client.clone(), node.to_owned(), Arc::clone(dir), wakes.clone()));
    let task = Task { client, node: node.to_owned() };
    Ok((cluster::launchers(&Root::default(), news(wakes)), Some(task)))
}

fn read_policy(path: &Path) -> Result<Orders, Failure> {
    let shown = path.display();
    let bytes = std::fs::read(path)
        .with_context(|| format!("policy file {shown} cannot be read"))
        .map_err(Failure::bad_input)?;
    let policy = file::read(&bytes).map_err(|e| Failure::bad_input(anyhow!("policy file {shown}: {e}")))?;
    let name = policy.metadata.name.as_deref().unwrap_or("unnamed");
    Orders::from_file(name, &policy.spec)
        .map_err(|errors| Failure::bad_input(anyhow!("policy file {shown}: {errors:?}")))
}

fn telemetry(filter: &str) -> Result<(), Failure> {
    let filter = tracing_subscriber::EnvFilter::try_new(filter)
        .with_context(|| format!("--log {filter:?} cannot be understood"))
        .map_err(Failure::bad_input)?;
    let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(ansi).init();
    Ok(())
}
