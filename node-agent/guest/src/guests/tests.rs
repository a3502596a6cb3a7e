use std::os::unix::net::UnixListener;

use overcommit_core::ports::{Evident, HostView};
use overcommit_core::sample::{GuestName, Incarnation, ProcessFacts, RunState, Untouchable};
use overcommit_core::units::Bytes;

use super::*;
use crate::connection::{ConnectionState, name};

const TEST: &str = "test:///default";

/// A host that says the same of every guest.
struct Same(HostView);

impl ProcessPort for Same {
    fn look(&mut self, _: &Who<'_>) -> HostView {
        self.0.clone()
    }
    fn running(&mut self, _: Option<&str>) -> Vec<Evident> {
        Vec::new()
    }
}

fn guest(guests: &mut Guests) -> GuestSample {
    let mut samples = guests.sample();
    assert_eq!(samples.len(), 1, "{samples:?}");
    samples.remove(0)
}

/// A libvirt that accepts connections (its queue does) and never says a word.
fn mute() -> (tempfile::TempDir, UnixListener, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mute.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let uri = format!("qemu+unix:///system?socket={}", path.display());
    (dir, listener, uri)
}

fn short() -> Deadlines {
    Deadlines { sample: Duration::from_millis(300), commands: Duration::from_millis(300) }
}

#[test]
fn a_host_without_kubernetes_shows_its_domains_at_the_first_sample() {
    let incarnation = Some(Incarnation { pid: 7, start_ticks: 8 });
    let facts = ProcessFacts { resident: Some(Bytes::from_mib(3)), ..ProcessFacts::default() };
    let host = HostView { incarnation, facts, ..HostView::default() };
    let guest = guest(&mut Guests::standalone(TEST, Box::new(Same(host))));
    assert_eq!(guest.name, GuestName::standalone("test"));
    assert_eq!(guest.id.as_str().len(), 36);
    assert_eq!((guest.run_state, guest.incarnation), (RunState::Running, incarnation));
    assert_eq!(guest.facts, facts);
}

#[test]
fn a_launchers_guest_is_known_by_pod_and_named_by_namespace() {
    let mut guests = Guests::in_cluster(Box::new(Same(HostView { guaranteed: true, ..HostView::default() })));
    let key = ConnectionKey::new("pod-1");
    guests.set_launchers(vec![(key.clone(), Target::Uri(Arc::from(TEST)))]);
    let first = guest(&mut guests);
    assert!(first.id.as_str().starts_with("pod-1/"));
    assert_eq!(first.config.untouchable, [Untouchable::Guaranteed]);
    assert_eq!(
        guests.connections(),
        [ConnectionReport { key: Some(key), state: ConnectionState::Answering }]
    );
    guests.set_launchers(Vec::new());
    assert!(guests.sample().is_empty());
    assert_eq!(name(true, "default_tiny"), GuestName::namespaced("default", "tiny"));
    assert_eq!(name(false, "my_guest"), GuestName::standalone("my_guest"));
}

#[test]
fn commands_are_carried_out_and_each_outcome_told() {
    let mut guests = Guests::standalone(TEST, Box::new(Same(HostView::default())));
    let id = guest(&mut guests).id;
    let to = |mib| Command::SetTarget { id: id.clone(), from: Bytes::ZERO, to: Bytes::from_mib(mib) };
    let stranger = Command::SetPeriod { id: GuestId::new("nobody"), seconds: 1 };
    let outcomes = guests.apply(&[to(1024), stranger, to(1 << 30)]);
    assert_eq!(outcomes[0].result, Ok(()));
    assert!(outcomes[1].result.as_ref().unwrap_err().contains("no such guest"));
    assert!(outcomes[2].result.is_err(), "more than its maximum");
}

#[test]
fn a_mute_libvirt_delays_the_others_once_and_only_until_the_deadline() {
    let (_dir, _listener, uri) = mute();
    let mut guests = Guests::in_cluster(Box::new(Same(HostView::default()))).with_deadlines(short());
    guests.set_launchers(vec![
        (ConnectionKey::new("mute"), Target::Uri(Arc::from(uri))),
        (ConnectionKey::new("well"), Target::Uri(Arc::from(TEST))),
    ]);
    for turn in 0..5 {
        let start = Instant::now();
        let seen = guest(&mut guests);
        assert_eq!(seen.run_state, RunState::Running);
        assert!(start.elapsed() < Duration::from_secs(2), "turn {turn} took {:?}", start.elapsed());
        if turn > 0 {
            assert!(start.elapsed() < Duration::from_millis(250), "turn {turn} took {:?}", start.elapsed());
        }
    }
    let states = guests.connections();
    assert!(matches!(states[0].state, ConnectionState::Unresponsive(_)), "{states:?}");
    assert_eq!(states[1].state, ConnectionState::Answering);
}

#[test]
fn a_stuck_connection_that_is_given_up_and_comes_back_keeps_its_one_thread() {
    let (_dir, listener, uri) = mute();
    let target = Target::Uri(Arc::from(uri));
    let key = ConnectionKey::new("mute");
    let mut guests = Guests::in_cluster(Box::new(Same(HostView::default()))).with_deadlines(short());
    for _ in 0..5 {
        guests.set_launchers(vec![(key.clone(), target.clone())]);
        assert!(guests.sample().is_empty());
        guests.set_launchers(Vec::new());
    }
    assert_eq!((guests.next_link, guests.retired.len()), (1, 1));
    // The daemon dies: the call fails, and the thread ends by itself.
    drop(listener.accept().unwrap());
    drop(listener);
    let deadline = Instant::now() + Duration::from_secs(10);
    while !guests.retired.is_empty() {
        assert!(Instant::now() < deadline, "the thread came back");
        guests.sample();
        std::thread::yield_now();
    }
}

#[test]
fn a_libvirt_out_of_reach_is_told_and_its_guests_stay_known() {
    let mut guests =
        Guests::standalone("qemu+unix:///system?socket=/nonexistent", Box::new(Same(HostView::default())));
    assert!(guests.sample().is_empty());
    let state = guests.connections().remove(0).state;
    assert!(matches!(&state, ConnectionState::Failing(why) if why.contains("/nonexistent")), "{state:?}");

    let mut guests = Guests::standalone(TEST, Box::new(Same(HostView::default())));
    let before = guest(&mut guests);
    let connection = guests.connections.values_mut().next().unwrap();
    connection.take(Reply::Observed(Err("lost".to_owned())));
    let samples = guests.samples();
    assert_eq!((samples[0].run_state, samples[0].balloon), (RunState::Unreachable, None));
    assert_eq!(samples[0].config, before.config);
    assert_eq!(samples[0].trouble.as_deref(), Some("lost"));
    assert_eq!(guest(&mut guests).run_state, RunState::Running);
}

#[test]
fn nothing_is_sent_to_a_connection_that_has_not_answered() {
    let mut guests = Guests::standalone(TEST, Box::new(Same(HostView::default())));
    let id = guest(&mut guests).id;
    guests.connections.values_mut().next().unwrap().link.asked = Some(Instant::now());
    let start = Instant::now();
    let outcome = guests.apply(&[Command::SetPeriod { id, seconds: 1 }]).remove(0);
    assert!(outcome.result.unwrap_err().contains("has not answered"));
    assert!(start.elapsed() < Duration::from_secs(1));
}

#[test]
fn a_restarted_launcher_is_connected_to_anew_and_its_guest_stays_known() {
    let mut guests = Guests::in_cluster(Box::new(Same(HostView::default()))).with_deadlines(short());
    let key = ConnectionKey::new("pod-1");
    let (_dir, _listener, uri) = mute();
    guests.set_launchers(vec![(key.clone(), Target::Uri(Arc::from(TEST)))]);
    let before = guest(&mut guests);
    let first = guests.connections[&key].link.id;
    guests.set_launchers(vec![(key.clone(), Target::Uri(Arc::from(TEST)))]);
    assert_eq!(guests.connections[&key].link.id, first);
    guests.set_launchers(vec![(key.clone(), Target::Uri(Arc::from(uri)))]);
    assert_ne!(guests.connections[&key].link.id, first);
    let after = guest(&mut guests);
    assert_eq!((after.id, after.run_state), (before.id, RunState::Unreachable));
}

/// A host that shows this guest's process to whoever asks.
struct Running(Evident);

impl ProcessPort for Running {
    fn look(&mut self, _: &Who<'_>) -> HostView {
        HostView { vmi_uid: Some(Arc::from("vmi-1")), ..HostView::default() }
    }
    fn running(&mut self, _: Option<&str>) -> Vec<Evident> {
        vec![self.0.clone()]
    }
}

fn running(uuid: &str) -> Running {
    let domain = "default_tiny\u{1b}[31m".to_owned();
    Running(Evident { uuid: Arc::from(uuid), domain, full: Bytes::from_gib(8), has_balloon: true })
}

fn test_uuid() -> String {
    guest(&mut Guests::standalone(TEST, Box::new(Same(HostView::default())))).id.as_str().to_owned()
}

#[test]
fn a_guest_of_a_launcher_that_never_answered_is_the_same_guest_later() {
    let mut guests = Guests::in_cluster(Box::new(running(&test_uuid()))).with_deadlines(short());
    let key = ConnectionKey::new("pod-1");
    let (_dir, _listener, uri) = mute();
    let mut ids = Vec::new();
    for (target, state) in [
        (Target::Refused(Arc::from("tampered with")), RunState::Unreachable),
        (Target::Uri(Arc::from(uri)), RunState::Unreachable),
        (Target::Uri(Arc::from(TEST)), RunState::Running),
    ] {
        guests.set_launchers(vec![(key.clone(), target)]);
        let seen = guest(&mut guests);
        assert_eq!((seen.run_state, seen.config.full), (state, Bytes::from_gib(8)));
        assert_eq!(seen.trouble.is_some(), state == RunState::Unreachable, "{:?}", seen.trouble);
        if state == RunState::Unreachable {
            assert_eq!(seen.name, GuestName::namespaced("default", "tiny?[31m"));
            assert_eq!((seen.balloon, seen.vmi_uid.as_deref()), (None, Some("vmi-1")));
        }
        ids.push(seen.id);
    }
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
}

#[test]
fn a_refused_launcher_says_why() {
    let mut guests = Guests::in_cluster(Box::new(running(&test_uuid())));
    guests.set_launchers(vec![(ConnectionKey::new("pod-1"), Target::Refused(Arc::from("tampered with")))]);
    assert!(guest(&mut guests).trouble.unwrap().starts_with("tampered with; known by its process alone"));
    let state = guests.connections().remove(0).state;
    assert_eq!(state, ConnectionState::Failing("tampered with".to_owned()));
}

#[test]
fn guests_of_a_libvirt_that_never_answered_are_those_whose_processes_run() {
    let (_dir, listener, uri) = mute();
    let mut guests = Guests::standalone(&uri, Box::new(running(&test_uuid()))).with_deadlines(short());
    let silent = guest(&mut guests);
    assert_eq!((silent.run_state, silent.config.full), (RunState::Unreachable, Bytes::from_gib(8)));
    assert!(silent.trouble.unwrap().contains("libvirt does not answer"));
    drop(listener);
    let mut guests = Guests::standalone(TEST, Box::new(running("00000000-1111-2222-3333-444444444444")));
    assert_eq!(guest(&mut guests).run_state, RunState::Running, "what libvirt lists is all there is");
}
