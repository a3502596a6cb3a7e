//! The loop after a release: what was given back is owed to nobody any more, on disk too.

use overcommit_core::plan::Outcome;
use overcommit_core::sample::{GuestId, GuestName};
use overcommit_core::step::Release;

use super::*;
use crate::journal;
use crate::tick::no_guests::locked;

const FULL: Bytes = Bytes::from_gib(1);
const HALF: Bytes = Bytes::from_mib(512);

/// Why a loop gives back what its journal knows to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    Released,
    Observes,
}

/// A loop that does so, of a guest that holds this, in these turns.
fn begin(temp: &std::path::Path, holds: Bytes, why: Why, turns: &[Turn]) -> (Loop, Receiver<Wake>) {
    let original = Original { target: FULL, period: None };
    leave_journal(
        temp,
        [(GuestId::new("a"), Entry { incarnation: None, original, target: HALF, name: None })],
    );
    let guest = GuestSample {
        balloon: Some(Balloon { actual: holds, ..Balloon::default() }),
        ..no_guests::guest("a", GuestName::standalone("a"), FULL)
    };
    let port = NoGuests { but: vec![guest], ..NoGuests::default() };
    let (sent, outcomes) = (Arc::clone(&port.sent), Arc::clone(&port.outcomes));
    let (wakes, inbox) = channel();
    let mut work = Loop::new(parts(temp, &world(4096), &wakes, Box::new(port)));
    let mode = if why == Why::Observes { Wished::Observe } else { Wished::Enforce };
    let spec = OvercommitPolicySpec { mode, ..OvercommitPolicySpec::default() };
    work.obey(Arc::new(Orders::from_file("p", &spec).unwrap()));
    if why == Why::Released {
        work.stop(Stop::Release);
    }
    for turn in turns {
        work.turn(*turn);
        let done = |command| Outcome { command, result: Ok(()) };
        locked(&outcomes).extend(locked(&sent).drain(..).map(done));
        work.hear();
    }
    (work, inbox)
}

#[test]
fn what_was_given_back_in_whole_is_owed_to_nobody_on_disk_before_a_release_ends() {
    for (holds, done) in [(FULL, true), (HALF, false)] {
        let temp = tempfile::tempdir().unwrap();
        let (mut work, inbox) = begin(temp.path(), holds, Why::Released, &[Turn::Tick; 3]);
        let release = work.last.clone().unwrap().release;
        assert_eq!(release == Some(Release::Done), done, "{release:?}");
        assert_eq!(work.ended(), None, "it waits for its disk, or its guest");
        if done {
            while work.takes.is_some() {
                work.work(Ok(inbox.recv_timeout(DEADLINE).unwrap()));
            }
            assert_eq!(work.ended(), Some(Ok(())));
        }
        assert_eq!(work.parts.journal.squeezed(|_| true).count(), usize::from(!done));
        let written = std::fs::read_to_string(temp.path().join("state").join(journal::FILE)).unwrap();
        assert_eq!(written.contains(&format!(r#""target":{}"#, HALF.get())), !done, "{written}");
    }
}

#[test]
fn a_disk_that_hangs_makes_no_release_fail_whose_guests_have_everything() {
    let temp = tempfile::tempdir().unwrap();
    // What nobody answers for is being written.
    let (mut work, _inbox) = begin(temp.path(), FULL, Why::Released, &[Turn::Tick; 3]);
    assert_eq!(work.ended(), None);
    work.stopping = work.stopping.map(|(stop, _)| (stop, Instant::now()));
    assert_eq!(work.ended(), Some(Ok(())));
}

#[test]
fn what_was_given_back_under_a_policy_that_observes_is_written_down_too() {
    let temp = tempfile::tempdir().unwrap();
    let (mut work, inbox) = begin(temp.path(), FULL, Why::Observes, &[Turn::Tick; 3]);
    assert!(work.takes.is_some(), "it is being written");
    while work.takes.is_some() {
        work.work(Ok(inbox.recv_timeout(DEADLINE).unwrap()));
    }
    assert_eq!(work.parts.journal.squeezed(|_| true).count(), 0);
    work.turn(Turn::Tick);
    assert!(work.takes.is_none(), "once");
}

#[test]
fn a_hand_over_leaves_what_was_given_back_to_the_journal_that_it_writes_last() {
    for (last, writes) in [(Turn::Tick, true), (Turn::Handover, false)] {
        let temp = tempfile::tempdir().unwrap();
        let (work, _inbox) = begin(temp.path(), FULL, Why::Observes, &[Turn::Tick, last]);
        assert_eq!(work.takes.is_some(), writes, "{last:?}");
    }
}
