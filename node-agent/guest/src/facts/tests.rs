use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex};

use overcommit_core::ports::{Evident, GuestPort as _, Reading};
use overcommit_core::sample::{GuestSample, Incarnation, ProcessFacts};
use overcommit_core::units::Bytes;

use super::*;
use crate::guests::Guests;
use crate::target::Target;

const TEST: &str = "test:///default";
const SHORT: Duration = Duration::from_millis(300);
const DEADLINE: Duration = Duration::from_secs(20);

/// A kernel that does not answer about pods whose name begins with `stuck` while it is shut. Like the real port it has
/// one reader only at a process that hangs.
#[derive(Default)]
struct Kernel {
    shut: Mutex<bool>,
    opened: Condvar,
    inside: Mutex<HashSet<Arc<str>>>,
    readings: AtomicUsize,
}

struct Port(Arc<Kernel>);

impl Kernel {
    fn shut() -> Arc<Self> {
        let kernel = Arc::new(Self::default());
        *kernel.shut.lock().unwrap() = true;
        kernel
    }

    fn ports(self: &Arc<Self>) -> MakePort {
        let kernel = Arc::clone(self);
        Arc::new(move || Box::new(Port(Arc::clone(&kernel))))
    }

    fn open(&self) {
        *self.shut.lock().unwrap() = false;
        self.opened.notify_all();
    }

    /// Waits while it is shut; false if another reader waits there already.
    fn enter(&self, pod: &Arc<str>) -> bool {
        if !pod.starts_with("stuck") {
            return true;
        }
        if !self.inside.lock().unwrap().insert(Arc::clone(pod)) {
            return false;
        }
        let shut = self.shut.lock().unwrap();
        drop(self.opened.wait_while(shut, |shut| *shut).unwrap());
        self.inside.lock().unwrap().remove(pod);
        true
    }
}

impl ProcessPort for Port {
    fn begin_reading(&mut self) {
        self.0.readings.fetch_add(1, Ordering::Relaxed);
    }

    fn look(&mut self, who: &Who) -> HostView {
        if !self.0.enter(who.pod_uid.as_ref().unwrap()) {
            return HostView::default();
        }
        let facts = ProcessFacts { resident: Some(Bytes::from_mib(3)), ..ProcessFacts::default() };
        HostView { incarnation: Some(Incarnation { pid: 7, start_ticks: 8 }), facts, ..HostView::default() }
    }

    fn running(&mut self, _: Option<&str>) -> Vec<Evident> {
        Vec::new()
    }
}

/// The guests of these pods on a host with this kernel.
fn guests(kernel: MakePort, pods: &[&str]) -> Guests {
    let mut guests = Guests::in_cluster(kernel);
    guests.set_launchers(launchers(pods));
    guests
}

fn launchers(pods: &[&str]) -> Vec<(ConnectionKey, Target)> {
    pods.iter().map(|pod| (ConnectionKey::new(*pod), Target::Uri(Arc::from(TEST)))).collect()
}

fn wait(guests: &mut Guests) {
    while guests.is_waiting() {
        guests.wait(Duration::from_millis(5));
    }
}

/// What one tick of the loop sees.
fn tick(guests: &mut Guests) -> Vec<GuestSample> {
    guests.ask();
    wait(guests);
    guests.ask_host();
    wait(guests);
    guests.sample(Reading::Fresh)
}

fn of<'a>(samples: &'a [GuestSample], pod: &str) -> &'a GuestSample {
    samples.iter().find(|g| g.id.as_str().starts_with(pod)).unwrap()
}

/// How old what the kernel showed of a pod's guest is.
fn age(samples: &[GuestSample], pod: &str) -> Option<Duration> {
    let guest = of(samples, pod);
    guest.facts_age.filter(|_| guest.incarnation.is_some())
}

#[test]
fn a_process_that_hangs_delays_one_tick_and_keeps_nobody_from_what_is_said_of_the_others() {
    let kernel = Kernel::shut();
    let mut guests = guests(kernel.ports(), &["stuck", "well"]).with_patience(SHORT);
    let start = Instant::now();
    let first = tick(&mut guests);
    assert!(start.elapsed() < SHORT * 4, "{:?}", start.elapsed());
    assert_eq!(first.len(), 2, "both are there, whatever is known of them");
    for _ in 0..5 {
        let start = Instant::now();
        let seen = tick(&mut guests);
        assert!(start.elapsed() < SHORT, "{:?}", start.elapsed());
        assert!(age(&seen, "well").unwrap() < SHORT, "{:?}", age(&seen, "well"));
        assert_eq!(age(&seen, "stuck"), None);
    }
    let told = |guests: &mut Guests| {
        tick(guests);
        guests.host_trouble()
    };
    let end = Instant::now() + DEADLINE;
    while !told(&mut guests).is_some_and(|trouble| trouble.contains("does not answer")) {
        assert!(Instant::now() < end, "nobody is told");
    }
    kernel.open();
    while age(&tick(&mut guests), "stuck").is_none() || guests.host_trouble().is_some() {
        assert!(Instant::now() < end, "{:?}", guests.host_trouble());
    }
}

#[test]
fn while_nothing_is_answered_ticks_go_on_and_ages_tell() {
    let kernel = Arc::new(Kernel::default());
    let pods = ["stuck-1", "stuck-2", "stuck-3", "stuck-4", "stuck-5", "stuck-6", "well"];
    let mut guests = guests(kernel.ports(), &pods).with_patience(SHORT);
    assert!(age(&tick(&mut guests), "well").is_some());
    *kernel.shut.lock().unwrap() = true;
    let end = Instant::now() + DEADLINE;
    // Each reader hangs at another process; then there are as many as there may be.
    while !guests.host_trouble().is_some_and(|trouble| trouble.contains("s old")) {
        assert!(Instant::now() < end, "{:?}", guests.host_trouble());
        assert_eq!(tick(&mut guests).len(), pods.len());
    }
    assert_eq!(guests.facts().stuck.len(), STUCK_AT_MOST);
    let start = Instant::now();
    let seen = tick(&mut guests);
    assert!(start.elapsed() < SHORT, "what is known to hang is not waited for: {:?}", start.elapsed());
    assert!(age(&seen, "well").unwrap() >= SHORT * LATE, "what was said holds, and says how old it is");
    assert_eq!(of(&seen, "well").facts.resident, Some(Bytes::from_mib(3)));
    kernel.open();
    while age(&tick(&mut guests), "well").unwrap() > SHORT || !guests.facts().stuck.is_empty() {
        assert!(Instant::now() < end, "the readers come back");
    }
}

#[test]
fn a_guest_that_comes_while_the_kernel_is_asked_is_known_in_the_same_tick() {
    let kernel = Arc::new(Kernel::default());
    let mut guests = guests(kernel.ports(), &["pod-1"]);
    guests.ask();
    wait(&mut guests);
    guests.ask_host();
    guests.set_launchers(launchers(&["pod-1", "pod-2"]));
    wait(&mut guests);
    let seen = guests.sample(Reading::Fresh);
    assert!(age(&seen, "pod-1").is_some() && age(&seen, "pod-2").is_some(), "{seen:?}");
    assert_eq!(kernel.readings.load(Ordering::Relaxed), 2, "asked anew about the newcomer");
}

#[test]
fn what_was_said_is_of_one_moment_until_the_next_fresh_sample() {
    let kernel = Arc::new(Kernel::default());
    let mut guests = guests(kernel.ports(), &["pod-1"]);
    guests.ask();
    wait(&mut guests);
    assert_eq!(guests.sample(Reading::Fresh)[0].facts_age, None, "nobody was asked yet");
    guests.ask_host();
    let end = Instant::now() + DEADLINE;
    while !guests.wait(Duration::from_millis(5)).host {
        assert!(Instant::now() < end, "no answer");
    }
    assert_eq!(guests.sample(Reading::Known)[0].facts_age, None);
    assert!(guests.sample(Reading::Fresh)[0].facts_age.is_some());
    assert!(guests.sample(Reading::Known)[0].facts_age.is_some());
}

#[test]
fn a_reader_that_fails_is_told_and_replaced() {
    struct Fails(bool);
    impl ProcessPort for Fails {
        fn look(&mut self, _: &Who) -> HostView {
            assert!(!self.0, "the first one fails");
            HostView::default()
        }
        fn running(&mut self, _: Option<&str>) -> Vec<Evident> {
            Vec::new()
        }
    }
    let ports = AtomicUsize::new(0);
    let make: MakePort = Arc::new(move || Box::new(Fails(ports.fetch_add(1, Ordering::Relaxed) == 0)));
    let mut guests = guests(make, &["pod-1"]);
    assert_eq!(tick(&mut guests)[0].facts_age, None);
    assert!(guests.host_trouble().unwrap().contains("failed"));
    assert!(tick(&mut guests)[0].facts_age.is_some());
    assert_eq!(guests.host_trouble(), None);
}
