//! Wiring: the same loop for a cluster's node and for a host without Kubernetes.

use std::fmt;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use overcommit_core::ports::GuestPort;
use overcommit_core::units::Bytes;
use overcommit_crds::file;
use overcommit_guest::Notify;
use overcommit_host::{Glimpses, HostReader, Root};
use prometheus_client::registry::Registry;
use tokio::runtime::Runtime;

use crate::args::{Output, Run};
use crate::cluster;
use crate::control;
use crate::http;
use crate::intake;
use crate::journal::{Journal, Scribe};
use crate::kubelet_line::KubeletLine;
use crate::orders::Orders;
use crate::output::Behind;
use crate::report::{Reporter, lines, metrics, writer};
use crate::resident;
use crate::signals;
use crate::state_dir::StateDir;
use crate::tick::{Loop, Parts, Wake};

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
    let (log, reports) = (telemetry(&args.log)?, Behind::reports());
    resident::lock();
    resident::allow_open_files();
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
    let complete = drive(args, &runtime, dir, guests, task, (wakes, inbox), (&log, &reports))?;
    // Writes what waits.
    drop((log.guard, reports.guard));
    if complete { Ok(()) } else { Err(Failure::failed(anyhow!("not everything could be given back"))) }
}

/// What there is in a cluster besides the guests.
struct Task {
    client: kube::Client,
    node: String,
    line: Arc<KubeletLine>,
}

fn drive(
    args: &Run,
    runtime: &Runtime,
    dir: Arc<StateDir>,
    guests: Box<dyn GuestPort + Send>,
    task: Option<Task>,
    (wakes, inbox): (Sender<Wake>, Receiver<Wake>),
    (log, reports): (&Behind, &Behind),
) -> Result<bool, Failure> {
    let mut registry = Registry::default();
    let metrics = metrics::Metrics::register(&mut registry, vec![log.lost(), reports.lost()]);
    let prints = task.is_none() || args.output == Output::Json;
    let print = prints.then(|| lines::Printer::new(args.output, reports.writer.clone()));
    let beat = http::beat();
    let (reporter, latest) = Reporter::new(metrics, print, Arc::clone(&beat));
    let standalone = task.is_none();
    let recorded = wakes.clone();
    let line = task.as_ref().map(|t| Arc::clone(&t.line));
    let shown = latest.clone();
    let address = args.http;
    runtime
        .block_on(async move {
            signals::forward(wakes, standalone).context("signals cannot be handled")?;
            match address {
                Some(address) => http::serve(address, beat, registry, shown)
                    .await
                    .with_context(|| format!("cannot listen on {address}")),
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
        eviction: eviction(line),
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

/// What the loop keeps free for the kubelet; a host without Kubernetes has none.
fn eviction(line: Option<Arc<KubeletLine>>) -> Box<dyn FnMut(Bytes) -> Bytes + Send> {
    Box::new(move |_| line.as_ref().map_or(Bytes::ZERO, |line| line.line()))
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
    let last = intake::cached(node, dir);
    if let Some(last) = &last {
        drop(wakes.send(Wake::Orders(last.orders())));
    }
    runtime.spawn(intake::follow(client.clone(), node.to_owned(), Arc::clone(dir), wakes.clone(), last));
    let line = KubeletLine::start(Root::default())
        .context("no thread can be started")
        .map_err(Failure::bad_input)?;
    let guests = cluster::launchers(&Root::default(), Arc::clone(&line), news(wakes));
    Ok((guests, Some(Task { client, node: node.to_owned(), line })))
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

fn telemetry(filter: &str) -> Result<Behind, Failure> {
    let filter = tracing_subscriber::EnvFilter::try_new(filter)
        .with_context(|| format!("--log {filter:?} cannot be understood"))
        .map_err(Failure::bad_input)?;
    let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let log = Behind::log();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(log.writer.clone()).with_ansi(ansi).init();
    Ok(log)
}
