//! The loop after a journal that cannot be read: what guests had before is known to nobody, and stays owed to them for as long
//! as one of them was not seen, whatever becomes of the agents until then.

use overcommit_core::sample::GuestName;
use overcommit_core::step::Release;

use super::*;
use crate::journal;
use crate::tick::ending::Unfinished;

const FULL: Bytes = Bytes::from_gib(1);
const HALF: Bytes = Bytes::from_mib(512);

/// A guest that holds half of its size, and whose balloon is known or not.
fn squeezed(is_known: bool) -> GuestSample {
    let guest = no_guests::guest("a", GuestName::standalone("a"), FULL);
    let balloon = Balloon { actual: HALF, ..Balloon::default() };
    GuestSample { balloon: is_known.then_some(balloon), ..guest }
}

/// A loop of a host without Kubernetes, on what is in its state directory; of so many hypervisors nothing was seen.
fn begin(temp: &std::path::Path, unseen: usize, but: Vec<GuestSample>) -> (Loop, Receiver<Wake>) {
    // The former one's scribe lets go of the lock when it notices that it is alone.
    let began = Instant::now();
    while StateDir::open(&temp.join("state")).is_err() {
        assert!(began.elapsed() < DEADLINE, "the state directory stays locked");
        std::thread::park_timeout(Duration::from_millis(1));
    }
    let port = NoGuests { unseen: Arc::new(unseen.into()), but, ..NoGuests::default() };
    let (wakes, inbox) = channel();
    let mut work = Loop::new(parts(temp, &world(4096), &wakes, Box::new(port)));
    let spec = OvercommitPolicySpec { mode: Wished::Enforce, ..OvercommitPolicySpec::default() };
    work.obey(Arc::new(Orders::from_file("p", &spec).unwrap()));
    (work, inbox)
}

/// Lets it do what was found to do, until its journal is on disk.
fn settle(work: &mut Loop, inbox: &Receiver<Wake>) {
    while work.takes.is_some() {
        work.work(Ok(inbox.recv_timeout(DEADLINE).unwrap()));
    }
}

/// Ends it; what came of that, and whether the next one knows that a journal was lost.
fn end(mut work: Loop, inbox: &Receiver<Wake>, temp: &std::path::Path) -> (Result<(), Unfinished>, bool) {
    work.stop(Stop::Handover);
    settle(&mut work, inbox);
    work.stopping = work.stopping.map(|(stop, _)| (stop, Instant::now()));
    let ended = work.ended().unwrap();
    drop(work);
    (ended, begin(temp, 1, Vec::new()).0.parts.journal.is_lost())
}

fn torn() -> tempfile::TempDir {
    let temp = tempfile::tempdir().unwrap();
    std::fs::create_dir(temp.path().join("state")).unwrap();
    std::fs::write(temp.path().join("state").join(journal::FILE), "torn").unwrap();
    temp
}

#[test]
fn whoever_has_not_seen_all_guests_of_a_lost_journal_hands_that_over_and_says_so() {
    for (unseen, guests) in [(1, Vec::new()), (0, vec![squeezed(false)])] {
        let temp = torn();
        // One that died before it had done anything.
        drop(begin(temp.path(), unseen, guests.clone()));
        for _ in 0..2 {
            let (mut work, inbox) = begin(temp.path(), unseen, guests.clone());
            work.turn(Turn::Tick);
            assert_eq!(end(work, &inbox, temp.path()), (Err(Unfinished::Unseen), true));
        }
    }
}

#[test]
fn what_a_guest_had_before_a_lost_journal_is_known_to_all_later_agents_once_it_was_seen() {
    let temp = torn();
    drop(begin(temp.path(), 1, Vec::new()));
    let (mut work, inbox) = begin(temp.path(), 0, vec![squeezed(true)]);
    assert!(work.parts.journal.is_lost(), "as the one before said");
    work.turn(Turn::Tick);
    settle(&mut work, &inbox);
    assert!(!work.parts.journal.is_lost());
    assert!(
        work.last.clone().unwrap().troubles.own().any(|told| told.contains("unreadable")),
        "people are to see it"
    );
    assert_eq!(end(work, &inbox, temp.path()), (Ok(()), false));
    let (work, _inbox) = begin(temp.path(), 0, vec![squeezed(true)]);
    let owed: Vec<Bytes> = work.parts.journal.entries().map(|(_, entry)| entry.original.target).collect();
    assert_eq!(owed, [FULL]);
}

#[test]
fn a_release_is_not_done_while_a_guest_of_a_lost_journal_was_not_seen() {
    for (unseen, guests, done) in [
        (1, Vec::new(), false),
        (0, vec![squeezed(false)], false),
        (0, vec![squeezed(true)], false),
        (0, Vec::new(), true),
    ] {
        let temp = torn();
        let (mut work, inbox) = begin(temp.path(), unseen, guests.clone());
        work.release();
        for _ in 0..2 {
            work.turn(Turn::Tick);
            settle(&mut work, &inbox);
        }
        let release = work.last.clone().unwrap().release.unwrap();
        assert_eq!(release == Release::Done, done, "{unseen} {guests:?}: {release:?}");
        let told = crate::report::lines::table(&work.last.clone().unwrap());
        let waits = guests.iter().all(|guest| guest.balloon.is_none()) && !done;
        assert_eq!(told.contains("waits for guests that ran when the journal was lost"), waits, "{told}");
        assert_eq!(told.contains("of 1 libvirts there is no list of guests"), unseen == 1, "{told}");
        assert!(!told.contains("0 B to go") && !told.contains("0 KiB to go"), "{told}");
    }
}

#[test]
fn guests_that_were_adopted_are_not_taken_from_until_their_statistics_are_known_again() {
    let temp = torn();
    let (mut work, mut inbox) = begin(temp.path(), 0, vec![squeezed(true)]);
    for found in ["after a lost journal", "by the journal"] {
        work.turn(Turn::Tick);
        settle(&mut work, &inbox);
        assert!(work.panics.holds_takes(), "{found}");
        drop(work);
        (work, inbox) = begin(temp.path(), 0, vec![squeezed(true)]);
        assert!(!work.panics.holds_takes());
    }
    drop(work);
    let (mut work, _inbox) = begin(tempfile::tempdir().unwrap().path(), 0, vec![squeezed(true)]);
    work.turn(Turn::Tick);
    assert!(!work.panics.holds_takes(), "nobody was adopted");
}

#[test]
fn a_panic_forgets_that_all_were_seen_with_all_else_that_is_not_on_disk() {
    let temp = torn();
    let (mut work, _inbox) = begin(temp.path(), 0, vec![squeezed(true)]);
    work.turn(Turn::Tick);
    assert!(!work.parts.journal.is_lost());
    work.isolated(|_| panic!("in the middle"));
    assert!(work.parts.journal.is_lost());
}

#[test]
fn a_lost_journal_that_cannot_be_replaced_stands_and_is_found_again() {
    let temp = torn();
    let state = temp.path().join("state");
    // Nothing can be written where this stands.
    std::fs::create_dir_all(state.join(".journal.new/full")).unwrap();
    let (work, _inbox) = begin(temp.path(), 0, Vec::new());
    assert!(work.parts.journal.is_lost() && work.parts.journal.is_behind(), "nothing is taken");
    drop(work);
    assert_eq!(std::fs::read_to_string(state.join(journal::FILE)).unwrap(), "torn");
}

#[test]
fn guests_that_are_owed_something_are_watched_while_all_is_given_back_too() {
    for mode in [Wished::Observe, Wished::Enforce] {
        let temp = torn();
        let (mut work, _inbox) = begin(temp.path(), 0, vec![squeezed(true)]);
        let spec = OvercommitPolicySpec { mode, ..OvercommitPolicySpec::default() };
        work.obey(Arc::new(Orders::from_file("p", &spec).unwrap()));
        work.turn(Turn::Tick);
        assert_eq!(work.watched.len(), 1, "{mode:?}");
    }
}
