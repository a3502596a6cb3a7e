use std::os::unix::net::UnixListener;

use overcommit_core::ports::{Admission, Evident, HostView, ProcessPort, Who};
use overcommit_core::sample::{GuestName, Incarnation, ProcessFacts, RunState, Untouchable};
use overcommit_core::stranger::Stranger;
use overcommit_core::units::Bytes;

use super::*;
use crate::connection::{BY_ITS_PROCESS, ConnectionState, name};

const TEST: &str = "test:///default";

/// A host that says the same of every guest.
struct Same(HostView);

/// Hosts that say this of every guest.
fn same(view: HostView) -> MakePort {
    Arc::new(move || Box::new(Same(view.clone())))
}

impl ProcessPort for Same {
    fn look(&mut self, _: &Who) -> HostView {
        self.0.clone()
    }
    fn running(&mut self, _: Option<&str>) -> Vec<Evident> {
        Vec::new()
    }
}

/// All guests, once all that may answer in time have.
fn sample(guests: &mut Guests) -> Vec<GuestSample> {
    guests.hear();
    guests.ask();
    wait(guests);
    guests.ask_host();
    wait(guests);
    guests.sample(Reading::Fresh)
}

fn wait(guests: &mut Guests) {
    while guests.is_waiting() {
        guests.wait(Duration::from_millis(10));
    }
}

/// What becomes of commands.
fn apply(guests: &mut Guests, commands: &[Command]) -> Vec<Outcome> {
    guests.send(commands);
    let mut outcomes = Vec::new();
    while guests.is_carrying() {
        outcomes.extend(guests.wait(Duration::from_millis(10)).outcomes);
    }
    outcomes
}

fn guest(guests: &mut Guests) -> GuestSample {
    let mut samples = sample(guests);
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

fn short() -> Duration {
    Duration::from_millis(300)
}

#[test]
fn a_host_without_kubernetes_shows_its_domains_at_the_first_sample() {
    let incarnation = Some(Incarnation { pid: 7, start_ticks: 8 });
    let facts = ProcessFacts { resident: Some(Bytes::from_mib(3)), ..ProcessFacts::default() };
    let host = HostView { incarnation, facts, ..HostView::default() };
    let guest = guest(&mut Guests::standalone(TEST, same(host)));
    assert_eq!(guest.name, GuestName::standalone("test"));
    assert_eq!(guest.id.as_str().len(), 36);
    assert_eq!((guest.run_state, guest.incarnation), (RunState::Running, incarnation));
    assert_eq!(guest.facts, facts);
}

#[test]
fn a_launchers_guest_is_known_by_pod_and_named_by_namespace() {
    let mut guests = Guests::in_cluster(same(HostView { guaranteed: true, ..HostView::default() }));
    let key = ConnectionKey::new("pod-1");
    guests.set_launchers(vec![(key.clone(), Target::Uri(Arc::from(TEST)))]);
    let first = guest(&mut guests);
    assert!(first.id.as_str().starts_with("pod-1/"));
    assert_eq!(first.config.untouchable, [Untouchable::Guaranteed]);
    let state = ConnectionState::Answering;
    let guest = Some(GuestName::standalone("test"));
    let report = ConnectionReport { key: Some(key), guest, process: None, by_its_process: false, state };
    assert_eq!(guests.connections(), [report]);
    guests.set_launchers(Vec::new());
    assert!(sample(&mut guests).is_empty());
    assert_eq!(name(true, "default_tiny"), GuestName::namespaced("default", "tiny"));
    assert_eq!(name(false, "my_guest"), GuestName::standalone("my_guest"));
}

#[test]
fn commands_are_carried_out_and_each_outcome_told() {
    let mut guests = Guests::standalone(TEST, same(HostView::default()));
    let id = guest(&mut guests).id;
    let to = |mib| Command::SetTarget { id: id.clone(), from: Bytes::ZERO, to: Bytes::from_mib(mib) };
    let stranger = Command::SetPeriod { id: GuestId::new("nobody"), seconds: 1 };
    let outcomes = apply(&mut guests, &[to(1024), stranger.clone(), to(1 << 30)]);
    let of = |command: &Command| outcomes.iter().find(|o| o.command == *command).unwrap().result.clone();
    assert_eq!(of(&to(1024)), Ok(()));
    assert!(of(&stranger).unwrap_err().to_string().contains("no such guest"));
    assert!(of(&to(1 << 30)).is_err(), "more than its maximum");
}

#[test]
fn a_mute_libvirt_delays_the_others_once_and_only_until_the_deadline() {
    let (_dir, _listener, uri) = mute();
    let mut guests = Guests::in_cluster(same(HostView::default())).with_patience(short());
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
fn a_question_under_way_is_no_silence_until_the_patience_is_over() {
    let (_dir, _listener, uri) = mute();
    let patient = Duration::from_hours(1);
    for mut guests in
        [Guests::standalone(&uri, same(HostView::default())), Guests::in_cluster(same(HostView::default()))]
    {
        if guests.directory.is_none() {
            guests.set_launchers(vec![(ConnectionKey::new("pod-1"), Target::Uri(Arc::from(uri.as_str())))]);
        }
        guests.ask();
        guests.patience = patient;
        assert_eq!(guests.connections().remove(0).state, ConnectionState::Answering);
        guests.patience = Duration::ZERO;
        let state = guests.connections().remove(0).state;
        assert!(matches!(state, ConnectionState::Unresponsive(_)), "{state:?}");
    }
}

#[test]
fn a_stuck_connection_that_is_given_up_and_comes_back_keeps_its_one_thread() {
    let (_dir, listener, uri) = mute();
    let target = Target::Uri(Arc::from(uri));
    let key = ConnectionKey::new("mute");
    let mut guests = Guests::in_cluster(same(HostView::default())).with_patience(short());
    for _ in 0..5 {
        guests.set_launchers(vec![(key.clone(), target.clone())]);
        assert!(sample(&mut guests).is_empty());
        guests.set_launchers(Vec::new());
    }
    assert_eq!((guests.next_link, guests.retired.len()), (1, 1));
    // The daemon dies: the call fails, and the thread ends by itself.
    drop(listener.accept().unwrap());
    drop(listener);
    let deadline = Instant::now() + Duration::from_secs(10);
    while !guests.retired.is_empty() {
        assert!(Instant::now() < deadline, "the thread came back");
        sample(&mut guests);
        std::thread::yield_now();
    }
}

#[test]
fn a_libvirt_out_of_reach_is_told_and_its_guests_stay_known() {
    let mut guests = Guests::standalone("qemu+unix:///system?socket=/nonexistent", same(HostView::default()));
    assert!(sample(&mut guests).is_empty());
    let state = guests.connections().remove(0).state;
    assert!(matches!(&state, ConnectionState::Failing(why) if why.contains("/nonexistent")), "{state:?}");

    let mut guests = Guests::standalone(TEST, same(HostView::default()));
    let before = guest(&mut guests);
    let connection = guests.connections.values_mut().next().unwrap();
    connection.take(Reply::Observed(Err("lost".to_owned())));
    let samples = guests.sample(Reading::Fresh);
    assert_eq!((samples[0].run_state, samples[0].balloon), (RunState::Unreachable, None));
    assert_eq!(samples[0].config, before.config);
    // Of a guest it is told once, by its name.
    assert_eq!(samples[0].trouble, None);
    let told = guests.connections().remove(1);
    assert_eq!((told.guest, told.by_its_process), (Some(GuestName::standalone("test")), false));
    assert_eq!(told.state, ConnectionState::Failing("lost".to_owned()));
    assert_eq!(guest(&mut guests).run_state, RunState::Running);
}

#[test]
fn nothing_is_sent_to_a_connection_that_does_not_answer() {
    let mut guests = Guests::standalone(TEST, same(HostView::default()));
    let id = guest(&mut guests).id;
    guests.connections.values_mut().next().unwrap().link.asked = Instant::now().checked_sub(PATIENCE);
    let outcome = apply(&mut guests, &[Command::SetPeriod { id, seconds: 1 }]).remove(0);
    assert!(matches!(outcome.result, Err(Failed::Refused(why)) if why.contains("does not answer")));
}

#[test]
fn an_answer_under_anothers_number_is_nobodys() {
    let mut guests = Guests::in_cluster(same(HostView::default()));
    let (hostile, neighbour) = (1, 2);
    let command = Command::SetPeriod { id: GuestId::new("x"), seconds: 1 };
    let carrying = Carrying { link: neighbour, sent: Instant::now(), commands: vec![command] };
    guests.carrying.insert(7, carrying);
    let lie = Reply::CarriedOut { number: 7, results: vec![Ok(())] };
    guests.post.answers.send(Answer { link: hostile, at: Instant::now(), reply: lie }).unwrap();
    assert!(guests.hear().outcomes.is_empty(), "nobody is told of a give that was never made");
    assert!(guests.is_carrying());
}

#[test]
fn commands_that_are_not_answered_are_given_up() {
    let mut guests = Guests::standalone(TEST, same(HostView::default()));
    let command = Command::SetPeriod { id: GuestId::new("x"), seconds: 1 };
    let sent = Instant::now().checked_sub(COMMAND_DEADLINE * 2).unwrap();
    guests.carrying.insert(7, Carrying { link: 1, sent, commands: vec![command] });
    let outcome = guests.hear().outcomes.remove(0);
    assert!(
        matches!(outcome.result, Err(Failed::Unanswered { unanswered }) if unanswered.contains("may still take effect"))
    );
    assert!(!guests.is_carrying());
}

#[test]
fn fresh_statistics_are_news_and_the_same_again_are_not() {
    // A node of its own: that of all other tests is one, and they set targets too.
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("node.xml");
    let uuid = "11111111-2222-3333-4444-555555555555";
    let domain = format!(
        "<domain type='test'><name>own</name><uuid>{uuid}</uuid><memory>2097152</memory>\
         <os><type>hvm</type></os><devices><memballoon model='virtio'/></devices></domain>"
    );
    std::fs::write(&path, format!("<node>{domain}</node>")).unwrap();
    let uri = format!("test://{}", path.display());
    let mut guests = Guests::standalone(&uri, same(HostView::default()));
    let id = guest(&mut guests).id;
    apply(&mut guests, &[Command::SetTarget { id: id.clone(), from: Bytes::ZERO, to: Bytes::from_gib(1) }]);
    guests.ask_statistics(&id);
    assert!(guests.wait(Duration::from_secs(5)).news.is_some());
    guests.ask_statistics(&id);
    assert!(guests.wait(Duration::from_secs(5)).news.is_none());
    assert_eq!(guests.sample(Reading::Known)[0].balloon.unwrap().actual, Bytes::from_gib(1));
}

#[test]
fn a_restarted_launcher_is_connected_to_anew_and_its_guest_stays_known() {
    let mut guests = Guests::in_cluster(same(HostView::default())).with_patience(short());
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
    fn look(&mut self, _: &Who) -> HostView {
        HostView::default()
    }
    fn running(&mut self, _: Option<&str>) -> Vec<Evident> {
        vec![self.0.clone()]
    }
}

fn running(uuid: &str) -> MakePort {
    let domain = "default_tiny\u{1b}[31m".to_owned();
    let evident = Evident { uuid: Arc::from(uuid), domain, full: Bytes::from_gib(8), has_balloon: true };
    Arc::new(move || Box::new(Running(evident.clone())))
}

fn test_uuid() -> String {
    guest(&mut Guests::standalone(TEST, same(HostView::default()))).id.as_str().to_owned()
}

#[test]
fn a_guest_of_a_launcher_that_never_answered_is_the_same_guest_later() {
    let mut guests = Guests::in_cluster(running(&test_uuid())).with_patience(short());
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
        let told = guests.connections().remove(0);
        let is_told = told.by_its_process && told.state != ConnectionState::Answering;
        assert_eq!((is_told, seen.trouble), (state == RunState::Unreachable, None), "{:?}", told.state);
        assert_eq!(told.guest.as_ref(), Some(&seen.name));
        if state == RunState::Unreachable {
            assert_eq!(seen.name, GuestName::namespaced("default", "tiny?[31m"));
            assert_eq!(seen.balloon, None);
        }
        ids.push(seen.id);
    }
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
}

#[test]
fn a_refused_launcher_says_why() {
    let mut guests = Guests::in_cluster(running(&test_uuid()));
    guests.set_launchers(vec![(ConnectionKey::new("pod-1"), Target::Refused(Arc::from("tampered with")))]);
    assert_eq!(guest(&mut guests).run_state, RunState::Unreachable);
    let told = guests.connections().remove(0);
    assert!(told.by_its_process);
    assert_eq!(told.state, ConnectionState::Failing("tampered with".to_owned()));
}

#[test]
fn guests_of_a_libvirt_that_never_answered_are_those_whose_processes_run() {
    let (_dir, listener, uri) = mute();
    let mut guests = Guests::standalone(&uri, running(&test_uuid())).with_patience(short());
    let silent = guest(&mut guests);
    assert_eq!((silent.run_state, silent.config.full), (RunState::Unreachable, Bytes::from_gib(8)));
    assert_eq!(silent.trouble.as_deref(), Some(BY_ITS_PROCESS));
    assert!(matches!(guests.connections().remove(0).state, ConnectionState::Unresponsive(_)));
    drop(listener);
    let mut guests = Guests::standalone(TEST, running("00000000-1111-2222-3333-444444444444"));
    assert_eq!(guest(&mut guests).run_state, RunState::Running, "what libvirt lists is all there is");
}

/// Names the guest of `pod` as the node's list does.
fn listed(pod: &str, name: &str) -> Arc<Admission> {
    let listed = [(Arc::from(pod), GuestName::namespaced("shop", name))].into();
    Arc::new(Admission { listed, ..Admission::default() })
}

/// A node of libvirt's test driver with these domains, and where it is.
fn domains(names: &[&str]) -> (tempfile::TempDir, Target) {
    let domain = |(at, name): (usize, &&str)| {
        format!(
            "<domain type='test'><name>{name}</name><uuid>11111111-2222-3333-4444-00000000000{at}</uuid>\
             <memory>1048576</memory><os><type>hvm</type></os><devices><memballoon model='virtio'/></devices></domain>"
        )
    };
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("node.xml");
    let all: String = names.iter().enumerate().map(domain).collect();
    std::fs::write(&path, format!("<node>{all}</node>")).unwrap();
    (dir, Target::Uri(Arc::from(format!("test://{}", path.display()))))
}

#[test]
fn a_guest_is_called_what_its_pod_is_listed_as_whatever_its_libvirt_says() {
    let (_dir, target) = domains(&["shop_victim"]);
    let mut guests = Guests::in_cluster(same(HostView::default()));
    guests.admit(listed("pod-1", "own"));
    guests.set_launchers(vec![(ConnectionKey::new("pod-1"), target)]);
    assert_eq!(guest(&mut guests).name, GuestName::namespaced("shop", "own"));
}

#[test]
fn of_several_domains_in_a_launcher_the_listed_one_is_its_guest() {
    let (_dir, target) = domains(&["shop_victim", "shop_own", "shop_other"]);
    let mut guests = Guests::in_cluster(same(HostView::default()));
    guests.admit(listed("pod-1", "own"));
    guests.set_launchers(vec![(ConnectionKey::new("pod-1"), target)]);
    let seen = guest(&mut guests);
    assert!(seen.id.as_str().ends_with("-000000000001"), "{}", seen.id);
}

/// A host on which each pod that is asked about has a guest of 100 TiB.
struct Crowd;

impl ProcessPort for Crowd {
    fn look(&mut self, _: &Who) -> HostView {
        HostView::default()
    }
    fn running(&mut self, _: Option<&str>) -> Vec<Evident> {
        Vec::new()
    }
    fn strangers(&mut self, pods: &[Arc<str>]) -> Vec<Stranger> {
        let stranger = |pod: &Arc<str>| Stranger {
            pod: Arc::clone(pod),
            claim: Bytes::from_gib(100 << 10),
            held: None,
            request: None,
            bound: None,
        };
        pods.iter().map(stranger).collect()
    }
}

#[test]
fn a_pod_is_a_stranger_until_it_is_listed_and_again_when_it_is_owed_nothing() {
    let pods =
        |guests: &Guests| guests.strangers().into_iter().map(|s| s.pod.to_string()).collect::<Vec<_>>();
    let mut guests = Guests::in_cluster(Arc::new(|| Box::new(Crowd)));
    guests.admit(Arc::default());
    guests.set_strangers(vec![Arc::from("pod-1"), Arc::from("pod-2")]);
    assert!(sample(&mut guests).is_empty() && guests.connections().is_empty());
    assert_eq!(pods(&guests), ["pod-1", "pod-2"]);
    guests.admit(listed("pod-1", "own"));
    guests.set_strangers(vec![Arc::from("pod-2")]);
    let (_dir, target) = domains(&["shop_own"]);
    guests.set_launchers(vec![(ConnectionKey::new("pod-1"), target)]);
    let own = guest(&mut guests);
    assert_eq!(pods(&guests), ["pod-2"]);
    let owed = [Arc::from("pod-1")].into();
    guests.admit(Arc::new(Admission { owed, ..Admission::default() }));
    assert_eq!(guest(&mut guests).name, own.name, "listed no more, and still talked to");
    guests.admit(Arc::default());
    assert!(sample(&mut guests).is_empty() && guests.connections().is_empty());
    assert_eq!(pods(&guests), ["pod-2", "pod-1"]);
}
