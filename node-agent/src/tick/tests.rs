//! The loop with real guests' port and a kernel that hangs.

mod adopted;
mod doubt;
mod knobs;
mod lost;
mod released;
mod under_way;
mod without_orders;

use std::io::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel, sync_channel};
use std::sync::{Mutex, PoisonError};

use overcommit_core::dealings::Original;
use overcommit_core::plan::Command;
use overcommit_core::ports::{
    Admission, Evident, GuestPort, Heard, HostPort, HostView, PortError, ProcessPort, Reading, Who,
};
use overcommit_core::sample::{Balloon, GuestSample, HostMemory, Incarnation, ProcessFacts};
use overcommit_core::stranger::Stranger;
use overcommit_core::troubles::Troubles;
use overcommit_crds::OvercommitPolicySpec;
use overcommit_crds::policy::Mode as Wished;
use overcommit_crds::quantity::Period;
use overcommit_guest::Guests;
use overcommit_host::Root;
use prometheus_client::registry::Registry;

use super::no_guests::NoGuests;
use super::*;
use crate::cluster::Node;
use crate::envelope;
use crate::journal::{self, Content, Entry};
use crate::kept::Pulse;
use crate::report::metrics;
use crate::state_dir::StateDir;

const DEADLINE: Duration = Duration::from_mins(1);
/// How long the loop waits for guests and for the kernel.
const PATIENCE: Duration = Duration::from_millis(300);
const WELL: &str = "11111111-2222-3333-4444-000000000002";
const STUCK: &str = "11111111-2222-3333-4444-000000000001";

/// Two domains of 1 GiB on libvirt's test driver.
fn hypervisor(dir: &std::path::Path) -> String {
    let domain = |name: &str, uuid: &str| {
        format!(
            "<domain type='test'><name>{name}</name><uuid>{uuid}</uuid><memory>1048576</memory>\
             <os><type>hvm</type></os><devices><memballoon model='virtio'/></devices></domain>"
        )
    };
    let path = dir.join("node.xml");
    let mut file = std::fs::File::create(&path).unwrap();
    write!(file, "<node>{}{}</node>", domain("stuck", STUCK), domain("well", WELL)).unwrap();
    format!("test://{}", path.display())
}

/// What the world looks like, and what is done to it.
struct World {
    /// MiB.
    host: AtomicU64,
    hurts: AtomicBool,
    /// What the well guest holds.
    holds: Mutex<Bytes>,
    /// The kernel hangs at the other one.
    hangs: AtomicBool,
}

struct Host(Arc<World>);

impl HostPort for Host {
    fn sample(&mut self) -> Result<HostSample, PortError> {
        let total = Bytes::from_mib(self.0.host.load(Ordering::Relaxed));
        let memory = HostMemory { total, available: total, ..HostMemory::default() };
        Ok(HostSample { memory, ..HostSample::default() })
    }
}

/// A kernel that does not answer about the stuck guest's process.
struct Kernel(Arc<World>, Arc<AtomicBool>);

impl ProcessPort for Kernel {
    fn look(&mut self, who: &Who) -> HostView {
        if *who.uuid == *STUCK {
            // One reader hangs there, and others pass it over.
            if self.1.swap(true, Ordering::Relaxed) {
                return HostView::default();
            }
            while self.0.hangs.load(Ordering::Relaxed) {
                std::thread::park_timeout(Duration::from_millis(5));
            }
            self.1.store(false, Ordering::Relaxed);
        }
        let held = Some(Bytes::from_mib(100));
        let facts = ProcessFacts {
            resident: held,
            anon: held,
            overhead: Some(Bytes::ZERO),
            ..ProcessFacts::default()
        };
        HostView {
            incarnation: Some(Incarnation { pid: u32::MAX, start_ticks: 1 }),
            facts,
            ..HostView::default()
        }
    }

    fn running(&mut self, _: Option<&str>) -> Vec<Evident> {
        Vec::new()
    }
}

/// The port, with statistics that libvirt's test driver does not have: the stuck guest sends none.
struct Port(Node, Arc<World>);

impl Port {
    fn holds(&self) -> std::sync::MutexGuard<'_, Bytes> {
        self.1.holds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl GuestPort for Port {
    fn ask(&mut self) {
        self.0.ask();
    }
    fn ask_host(&mut self) {
        self.0.ask_host();
    }
    fn ask_statistics(&mut self, id: &GuestId) {
        self.0.ask_statistics(id);
    }
    fn hear(&mut self) -> Heard {
        self.0.hear()
    }
    fn is_waiting(&self) -> bool {
        self.0.is_waiting()
    }
    fn admit(&mut self, admission: Arc<Admission>) {
        self.0.admit(admission);
    }
    fn strangers(&self) -> Vec<Stranger> {
        self.0.strangers()
    }
    fn sample(&mut self, reading: Reading) -> Vec<GuestSample> {
        let mut samples = self.0.sample(reading);
        let holds = *self.holds();
        let hurts = self.1.hurts.load(Ordering::Relaxed);
        for guest in samples.iter_mut().filter(|g| g.id.as_str() == WELL) {
            let stamp = clock::wall();
            guest.balloon = guest.balloon.map(|balloon| Balloon {
                actual: holds,
                last_update: Some(stamp.as_secs()),
                period: Some(1),
                available: Some(holds),
                unused: Some(holds.scaled(9, 10)),
                usable: Some(holds.scaled(9, 10)),
                // Grows for as long as it hurts.
                swap_in: Some(if hurts { Bytes::from_mib(stamp.as_secs()) } else { Bytes::ZERO }),
                ..balloon
            });
        }
        samples
    }
    fn send(&mut self, commands: &[Command]) {
        for command in commands {
            if let Command::SetTarget { id, to, .. } = command
                && id.as_str() == WELL
            {
                *self.holds() = *to;
            }
        }
        self.0.send(commands);
    }
    fn is_carrying(&self) -> bool {
        self.0.is_carrying()
    }
    fn troubles(&self) -> Troubles {
        self.0.troubles()
    }
}

/// Leaves a journal of this boot in the state directory that says this of guests.
fn leave_journal(temp: &std::path::Path, guests: impl IntoIterator<Item = (GuestId, Entry)>) {
    let guests = guests.into_iter().collect();
    let content = Content { boot_id: "boot".to_owned(), guests, ..Content::default() };
    let dir = StateDir::open(&temp.join("state")).unwrap();
    dir.replace(journal::FILE, &envelope::seal(&content)).unwrap();
}

/// What a loop on this host works with.
fn parts(
    temp: &std::path::Path,
    world: &Arc<World>,
    wakes: &Sender<Wake>,
    guests: Box<dyn GuestPort + Send>,
) -> Parts {
    let registry = &mut Registry::default();
    let beat = crate::http::beat();
    let (reporter, _, _) =
        Reporter::new(metrics::Metrics::register(registry, Vec::new()), None, beat, Pulse::default());
    let dir = Arc::new(StateDir::open(&temp.join("state")).unwrap());
    let recorded = wakes.clone();
    let told = move |content, result| drop(recorded.send(Wake::Recorded(content, result)));
    Parts {
        host: Box::new(Host(Arc::clone(world))),
        guests,
        glimpses: Glimpses::new(&Root::new(temp)),
        journal: Journal::open(&dir, "boot"),
        knobs: crate::knobs::Hand::start(temp).unwrap(),
        scribe: Scribe::start(dir, told).unwrap(),
        contact: None,
        reporter,
        eviction: Box::new(|_| Bytes::ZERO),
        learned: Growth::default(),
        tape: None,
        recording: None,
        purpose: Purpose::Control,
        released: false,
        restarted: None,
    }
}

/// A host of so many MiB, whose kernel hangs.
fn world(host: u64) -> Arc<World> {
    Arc::new(World {
        host: AtomicU64::new(host),
        hurts: AtomicBool::new(false),
        holds: Mutex::new(Bytes::from_gib(1)),
        hangs: AtomicBool::new(true),
    })
}

/// A loop that runs.
struct Running {
    wakes: Sender<Wake>,
    world: Arc<World>,
    _temp: tempfile::TempDir,
}

impl Running {
    /// On a host of so many MiB.
    fn start(host: u64) -> Self {
        let temp = tempfile::tempdir().unwrap();
        let world = world(host);
        let (wakes, inbox) = channel();
        let (kernel, entered) = (Arc::clone(&world), Arc::new(AtomicBool::new(false)));
        let notify = wakes.clone();
        let guests = Guests::standalone(
            &hypervisor(temp.path()),
            Arc::new(move || Box::new(Kernel(Arc::clone(&kernel), Arc::clone(&entered)))),
        );
        let guests =
            guests.with_patience(PATIENCE).with_notify(Arc::new(move || drop(notify.send(Wake::News))));
        let node = Node { guests, search: None, line: None };
        let guests = Box::new(Port(node, Arc::clone(&world)));
        let work = Loop::new(parts(temp.path(), &world, &wakes, guests));
        std::thread::spawn(move || work.run(&inbox));
        let spec = OvercommitPolicySpec {
            mode: Wished::Enforce,
            interval: Period("1s".into()),
            ..OvercommitPolicySpec::default()
        };
        let orders = Orders::from_file("p", &spec).unwrap();
        wakes.send(Wake::Orders(Arc::new(orders))).unwrap();
        Self { wakes, world, _temp: temp }
    }

    fn report(&self) -> Option<Arc<Report>> {
        let (reply, answer) = sync_channel(1);
        self.wakes.send(Wake::Ask(reply)).unwrap();
        answer.recv_timeout(DEADLINE).unwrap()
    }

    /// The first report of which `what` is true; what takes longer in the loop than the port's patience fails.
    fn wait(&self, what: &str, so: impl Fn(&Report) -> bool) -> Arc<Report> {
        let end = Instant::now() + DEADLINE;
        loop {
            if let Some(report) = self.report() {
                assert!(report.took < PATIENCE, "a turn took {:?}", report.took);
                if so(&report) {
                    return report;
                }
                assert!(Instant::now() < end, "{what}: {report:?}");
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.world.hangs.store(false, Ordering::Relaxed);
        drop(self.wakes.send(Wake::Stop(Stop::Handover)));
    }
}

fn target(report: &Report, id: &str) -> Option<Bytes> {
    report.guests.iter().find(|g| g.id.as_str() == id).map(|g| g.target)
}

#[test]
fn a_kernel_that_hangs_at_one_guest_keeps_no_other_from_what_it_needs() {
    let full = Bytes::from_gib(1);
    let running = Running::start(1850);
    running.wait("to take from the well guest", |r| target(r, WELL).is_some_and(|t| t < full));
    let told = |r: &Report| r.troubles.iter().any(|t| t.contains("kernel does not answer"));
    running.wait("to tell the trouble", told);
    running.world.hurts.store(true, Ordering::Relaxed);
    running.world.host.store(4096, Ordering::Relaxed);
    running.wait("to give to the well guest", |r| target(r, WELL) == Some(full));
    let shown = |r: &Report, id: &str| {
        let guest = r.guests.iter().find(|g| g.id.as_str() == id);
        guest.and_then(|g| g.facts_age)
    };
    let last = running.wait("a turn of now", told);
    assert!(shown(&last, WELL).unwrap() < Duration::from_secs(5) && shown(&last, STUCK).is_none());
    running.world.hangs.store(false, Ordering::Relaxed);
    running.wait("to know both", |r| shown(r, STUCK).is_some() && !told(r));
}

/// A host that cannot be read.
struct NoHost;

impl HostPort for NoHost {
    fn sample(&mut self) -> Result<HostSample, PortError> {
        Err(PortError { what: "meminfo".to_owned(), why: "gone".to_owned() })
    }
}

#[test]
fn nothing_was_handed_over_where_nothing_could_be_decided_and_a_guest_is_squeezed() {
    let ended = |squeezed: bool| {
        let temp = tempfile::tempdir().unwrap();
        let (wakes, _inbox) = channel();
        let parts = parts(temp.path(), &world(1024), &wakes, Box::new(NoGuests::default()));
        let mut work = Loop::new(Parts { host: Box::new(NoHost), ..parts });
        work.orders = Some(orders(&["pod-1"]));
        if squeezed {
            let (id, full) = (GuestId::new("pod-1/uuid"), Bytes::from_gib(1));
            let original = Original { target: full, period: None };
            work.state.adopt(&id, original, full.scaled(1, 2));
        }
        work.stop(Stop::Handover);
        work.stopping = work.stopping.map(|(stop, _)| (stop, Instant::now()));
        (work.ended().unwrap(), work.handed_over.to_string())
    };
    let (well, said) = ended(false);
    assert!(well.is_ok() && said.starts_with("nothing to hand over (the host cannot be read)"), "{said}");
    let (left, said) = ended(true);
    assert_eq!(left, Err(Unfinished::HandOver));
    assert!(
        said.starts_with("nothing was handed over (the host") && said.ends_with("the journal: 1"),
        "{said}"
    );
}

/// Orders of a node with these pods, all of one guest.
fn orders(pods: &[&str]) -> Arc<Orders> {
    let resolved = overcommit_crds::resolve::resolve(&OvercommitPolicySpec::default());
    let guest = serde_json::json!({ "namespace": "shop", "name": "web", "uid": "u", "pods": pods });
    let spec = serde_json::json!({ "policy": "p", "revision": "r", "resolved": resolved, "guests": [guest] });
    let version = crate::orders::Version { uid: "u".to_owned(), generation: 1 };
    let (standing, origin) = (crate::orders::Standing::Stands, crate::orders::Origin::Api);
    Arc::new(Orders::from_node(&serde_json::from_value(spec).unwrap(), version, standing, origin).unwrap())
}

#[test]
fn who_is_listed_may_be_talked_to_and_who_is_listed_no_more_until_it_has_everything_back() {
    let temp = tempfile::tempdir().unwrap();
    let (wakes, _inbox) = channel();
    let guests = NoGuests::default();
    let mut work = Loop::new(parts(temp.path(), &world(1024), &wakes, Box::new(guests.clone())));
    let admitted = |work: &mut Loop| {
        work.admit();
        let now = Arc::clone(&guests.admitted.lock().unwrap());
        let text = |pods: Vec<&Arc<str>>| pods.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        (text(now.listed.keys().collect()), text(now.owed.iter().collect()))
    };
    let pair = |listed: &str, owed: &str| (listed.to_owned(), owed.to_owned());
    assert_eq!(admitted(&mut work), pair("", ""), "without orders nobody");
    work.orders = Some(orders(&["pod-1", "pod-2"]));
    assert_eq!(admitted(&mut work), pair("pod-1 pod-2", ""));
    let (id, full) = (GuestId::new("pod-1/uuid"), Bytes::from_gib(1));
    let original = Original { target: full, period: None };
    work.state.adopt(&id, original, full.scaled(1, 2));
    work.orders = Some(orders(&["pod-2"]));
    assert_eq!(admitted(&mut work), pair("pod-2", "pod-1"));
    work.state.adopt(&id, original, full);
    assert_eq!(admitted(&mut work), pair("pod-2", ""));
}
