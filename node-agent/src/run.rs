//! Wiring: the same loop for a cluster's node and for a host without Kubernetes.

use std::process::ExitCode;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use overcommit_core::ports::GuestPort;
use overcommit_core::units::Bytes;
use overcommit_guest::Notify;
use overcommit_host::{Glimpses, HostReader, Root};
use prometheus_client::registry::Registry;
use tokio::runtime::Runtime;

use crate::args::{Only, Output, Run};
use crate::cluster;
use crate::contact::Contact;
use crate::control::{self, Reserve};
use crate::http;
use crate::intake;
use crate::journal::Journal;
use crate::kept::Pulse;
use crate::knobs::Hand;
use crate::kubelet_line::KubeletLine;
use crate::learned;
use crate::output::Behind;
use crate::policy_file;
use crate::recording;
use crate::report::{Reporter, lines, metrics, writer};
use crate::resident;
use crate::scribe::Scribe;
use crate::signals;
use crate::state_dir::{self, StateDir};
use crate::tick::{Loop, Parts, Purpose, Wake};

/// The API server is connected to within this time, also from a node that thrashes.
const CONNECTED_BY: Duration = Duration::from_secs(10);
/// A connection on which nothing comes for longer is dead: a watch call ends after `intake::CALL_SECONDS`.
const ANSWERED_BY: Duration = Duration::from_secs(135);
/// A task that failed inside is begun anew after this time.
const ANEW: Duration = Duration::from_secs(5);

/// Why the process ends without success.
#[derive(Debug)]
pub(crate) struct Failure {
    /// Absent when it was told already.
    error: Option<anyhow::Error>,
    code: u8,
}

impl Failure {
    /// Bad usage or bad input, before anything was touched.
    pub(crate) fn bad_input(error: anyhow::Error) -> Self {
        Self { error: Some(error), code: 2 }
    }
    /// It was tried and did not work.
    pub(crate) fn failed(error: anyhow::Error) -> Self {
        Self { error: Some(error), code: 1 }
    }
    /// A child failed with this code and said why.
    pub(crate) fn told(code: u8) -> Self {
        Self { error: None, code }
    }
    /// What is still to be said.
    pub(crate) fn words(&self) -> Option<String> {
        self.error.as_ref().map(|error| format!("{error:#}"))
    }
    /// For the shell.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code)
    }
}

/// The loop itself, of `overcommit-agent run`.
pub(crate) fn run(args: &Run) -> Result<(), Failure> {
    // Before all other files.
    let reserve = Reserve::open();
    #[cfg(debug_assertions)]
    crate::failpoint::arm(&args.fail_at);
    // The log has a thread.
    let claimed = resident::claim(resident::Process::Loop);
    let (log, reports) = (telemetry(&args.log)?, Behind::reports());
    // By the log, which waits for nobody, and not on standard error, which may.
    std::panic::set_hook(Box::new(|panic| tracing::error!(%panic, "failed inside")));
    resident::allow_open_files();
    let orders = policy_file::orders(args)?;
    if args.is_first() {
        state_dir::check(&args.state_dir).map_err(Failure::bad_input)?;
    }
    let dir = Arc::new(StateDir::open(&args.state_dir).map_err(Failure::bad_input)?);
    if let Some(record) = args.record.as_deref().filter(|_| args.is_first()) {
        recording::check(record, &args.state_dir).map_err(Failure::bad_input)?;
    }
    // Not before: who refuses to start says why, and nothing else.
    resident::tell(claimed);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|e| Failure::failed(e.into()))?;
    let (wakes, inbox) = channel();
    let pulse = if args.kept { Pulse::to_keeper(wakes.clone()) } else { Ok(Pulse::default()) };
    let pulse = pulse.context("nothing looks after this process").map_err(Failure::bad_input)?;
    let recorded = wakes.clone();
    let told = move |content, result| drop(recorded.send(Wake::Recorded(content, result)));
    let scribe = Scribe::start(Arc::clone(&dir), told).map_err(|e| Failure::failed(e.into()))?;
    let (guests, task) = match (&args.node, &args.connect) {
        (Some(node), _) => attach(&runtime, node, (&dir, &scribe), &wakes)?,
        (None, Some(uri)) => (cluster::standalone(uri, &Root::default(), news(&wakes)), None),
        (None, None) => return Err(Failure::bad_input(anyhow!("name --node, or --policy and --connect"))),
    };
    #[cfg(debug_assertions)]
    let guests = crate::liar::among(guests, &args.lie);
    if let Some(orders) = orders {
        drop(wakes.send(Wake::Orders(Arc::new(orders))));
    }
    let contact = task.as_ref().map(|task| Arc::clone(&task.contact));
    let socket = control::socket(&args.state_dir);
    if let Err(error) = control::listen(&socket, runtime.handle(), wakes.clone(), contact, reserve) {
        // The lock is ours, so it is the disk: guests need the loop more than people need the socket.
        tracing::error!("{error:#}: status, explain and release cannot be asked for");
    }
    let ended = drive(
        args,
        &runtime,
        (dir, scribe),
        guests,
        task,
        (wakes, inbox),
        Outlets { log: &log, reports: &reports, pulse },
    );
    // Writes what waits.
    drop((log.guard, reports.guard));
    ended
}

/// What there is in a cluster besides the guests.
struct Task {
    client: kube::Client,
    node: String,
    line: Arc<KubeletLine>,
    contact: Arc<Contact>,
}

/// To whom the loop talks besides the API server.
struct Outlets<'a> {
    log: &'a Behind,
    reports: &'a Behind,
    pulse: Pulse,
}

/// Which boot this is; empty where that cannot be told.
fn boot_id() -> String {
    procfs::sys::kernel::random::boot_id().unwrap_or_else(|error| {
        tracing::error!(%error, "/proc/sys/kernel/random/boot_id cannot be read: the journal is taken for one of this boot");
        String::new()
    })
}

fn drive(
    args: &Run,
    runtime: &Runtime,
    (dir, scribe): (Arc<StateDir>, Scribe),
    guests: Box<dyn GuestPort + Send>,
    task: Option<Task>,
    (wakes, inbox): (Sender<Wake>, Receiver<Wake>),
    outlets: Outlets<'_>,
) -> Result<(), Failure> {
    let mut registry = Registry::default();
    let metrics = metrics::Metrics::register(&mut registry, vec![outlets.log.lost(), outlets.reports.lost()]);
    let prints = task.is_none() || args.output == Output::Json;
    let print = prints.then(|| lines::Printer::new(args.output, outlets.reports.writer.clone()));
    let beat = http::beat();
    let (reporter, latest, done) = Reporter::new(metrics, print, Arc::clone(&beat), outlets.pulse);
    let line = task.as_ref().map(|t| Arc::clone(&t.line));
    let contact = task.as_ref().map(|t| Arc::clone(&t.contact));
    let (shown, known, standalone) = (latest.clone(), contact.clone(), task.is_none());
    runtime
        .block_on(async move {
            signals::forward(wakes, standalone, args.kept).context("signals cannot be handled")?;
            let Some(address) = args.http else { return Ok(()) };
            let served = http::serve(address, beat, registry, shown, known).await;
            or_without(args, served.with_context(|| format!("cannot listen on {address}")))
        })
        .map_err(Failure::bad_input)?;
    let writing = task.map(|t| {
        let write = move || {
            let writer = writer::Writer::new(t.client.clone(), &t.node, Arc::clone(&t.contact));
            writer.run(latest.clone(), done.clone())
        };
        runtime.spawn(again("writing the status", write))
    });
    let root = Root::default();
    let journal = Journal::open(&dir, &boot_id());
    let learned = learned::read(&dir);
    let (tape, recording) = args.record.as_deref().and_then(recording::start).unzip();
    let recording = recording.map(Arc::new);
    let parts = Parts {
        host: Box::new(HostReader::new(&root)),
        guests,
        glimpses: Glimpses::new(&root),
        journal,
        knobs: Hand::start(std::path::Path::new("/")).map_err(|e| Failure::failed(e.into()))?,
        scribe,
        contact,
        reporter,
        eviction: eviction(line),
        learned,
        tape,
        recording: recording.clone(),
        purpose: match args.only {
            None => Purpose::Control,
            Some(Only::HandOver) => Purpose::HandOver,
            Some(Only::Release) => Purpose::Release,
        },
        released: args.released,
        restarted: args.restarted.clone(),
    };
    let ended = Loop::new(parts).run(&inbox);
    if let Some(recording) = recording {
        recording.end();
    }
    if let Some(writing) = writing {
        drop(runtime.block_on(async { tokio::time::timeout(Duration::from_secs(5), writing).await }));
    }
    ended.map_err(|left| Failure::failed(left.into()))
}

/// What people who started it should see, and a loop that is started anew works without: somebody may have taken the address in
/// between, and guests need the loop more than people need metrics.
fn or_without(args: &Run, served: anyhow::Result<()>) -> anyhow::Result<()> {
    match served {
        Err(error) if !args.is_first() => {
            tracing::error!("{error:#}");
            Ok(())
        }
        served => served,
    }
}

/// Runs a task, and anew if it fails inside: nobody else would notice.
async fn again<F>(what: &'static str, mut task: impl FnMut() -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    while tokio::spawn(task()).await.is_err_and(|end| end.is_panic()) {
        tracing::error!("{what} failed inside; it begins anew");
        tokio::time::sleep(ANEW).await;
    }
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

/// A client that says when there is no answer: a connection that died silently would be waited for without end.
async fn client() -> anyhow::Result<kube::Client> {
    let mut config = kube::Config::infer().await?;
    // Watch and status have rhythms of their own.
    config.default_retry = false;
    config.connect_timeout = Some(CONNECTED_BY);
    config.read_timeout = Some(ANSWERED_BY);
    config.reset_reader_on_write = true;
    Ok(kube::Client::try_from(config)?)
}

fn attach(
    runtime: &Runtime,
    node: &str,
    (dir, scribe): (&StateDir, &Scribe),
    wakes: &Sender<Wake>,
) -> Result<(Box<dyn GuestPort + Send>, Option<Task>), Failure> {
    let client = runtime
        .block_on(client())
        .context("no access to the API server: run in a pod with a service account, or set KUBECONFIG")
        .map_err(Failure::bad_input)?;
    let memory = intake::cached(node, dir).unwrap_or_default();
    if let Some(orders) = memory.orders() {
        drop(wakes.send(Wake::Orders(orders)));
    }
    let contact = Arc::new(Contact::new(node));
    let (follower, to, disk) = (client.clone(), wakes.clone(), scribe.clone());
    let (name, memory, heard) = (node.to_owned(), Arc::new(Mutex::new(memory)), Arc::clone(&contact));
    runtime.spawn(again("following the orders", move || {
        let (memory, heard) = (Arc::clone(&memory), Arc::clone(&heard));
        intake::follow(follower.clone(), name.clone(), memory, to.clone(), disk.clone(), heard)
    }));
    let line = KubeletLine::start(Root::default())
        .context("no thread can be started")
        .map_err(Failure::bad_input)?;
    let guests = cluster::launchers(&Root::default(), Arc::clone(&line), news(wakes))
        .context("no thread can be started")
        .map_err(Failure::bad_input)?;
    Ok((guests, Some(Task { client, node: node.to_owned(), line, contact })))
}

/// The log, on standard error.
///
/// # Errors
/// When the filter cannot be understood.
pub(crate) fn telemetry(filter: &str) -> Result<Behind, Failure> {
    let filter = tracing_subscriber::EnvFilter::try_new(filter)
        .with_context(|| format!("--log {filter:?} cannot be understood"))
        .map_err(Failure::bad_input)?;
    let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let log = Behind::log();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(log.writer.clone()).with_ansi(ansi).init();
    Ok(log)
}
