//! The loop after a release: what was given back is owed to nobody any more, on disk too.

use overcommit_core::sample::RunState;
use overcommit_core::step::Release;

use super::adopted::{Adopted, FULL, Finder, HALF, holding, obey};
use super::*;
use crate::journal;
use crate::tick::no_guests::locked;

/// Why a loop gives back what its journal knows to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    Released,
    Observes,
}

/// A loop that does so, of a guest that holds this, in these turns.
fn begin(temp: &std::path::Path, holds: Bytes, why: Why, turns: &[Turn]) -> Finder {
    let mut finder = Adopted { holds, ..Adopted::default() }.begin(temp);
    obey(&mut finder.work, if why == Why::Observes { Wished::Observe } else { Wished::Enforce });
    if why == Why::Released {
        finder.work.stop(Stop::Release);
    }
    finder.turn(turns);
    finder
}

#[test]
fn what_was_given_back_in_whole_is_owed_to_nobody_on_disk_before_a_release_ends() {
    for (holds, done) in [(FULL, true), (HALF, false)] {
        let temp = tempfile::tempdir().unwrap();
        let mut finder = begin(temp.path(), holds, Why::Released, &[Turn::Tick; 3]);
        let release = finder.work.last.clone().unwrap().release;
        assert_eq!(release == Some(Release::Done), done, "{release:?}");
        assert_eq!(finder.work.ended(), None, "it waits for its disk, or its guest");
        if done {
            finder.wait_for_disk();
            assert_eq!(finder.work.ended(), Some(Ok(())));
        }
        assert_eq!(finder.work.parts.journal.squeezed(|_| true).count(), usize::from(!done));
        let written = std::fs::read_to_string(temp.path().join("state").join(journal::FILE)).unwrap();
        assert_eq!(written.contains(&format!(r#""target":{}"#, HALF.get())), !done, "{written}");
    }
}

#[test]
fn a_disk_that_hangs_makes_no_release_fail_whose_guests_have_everything() {
    let temp = tempfile::tempdir().unwrap();
    // What nobody answers for is being written.
    let Finder { mut work, .. } = begin(temp.path(), FULL, Why::Released, &[Turn::Tick; 3]);
    assert_eq!(work.ended(), None);
    work.stopping = work.stopping.map(|(stop, _)| (stop, Instant::now()));
    assert_eq!(work.ended(), Some(Ok(())));
}

#[test]
fn what_was_given_back_under_a_policy_that_observes_is_written_down_too() {
    let temp = tempfile::tempdir().unwrap();
    let mut finder = begin(temp.path(), FULL, Why::Observes, &[Turn::Tick; 3]);
    assert!(finder.work.takes.is_some(), "it is being written");
    finder.wait_for_disk();
    assert_eq!(finder.work.parts.journal.squeezed(|_| true).count(), 0);
    finder.work.turn(Turn::Tick);
    assert!(finder.work.takes.is_none(), "once");
}

#[test]
fn who_is_listed_no_more_is_talked_to_until_it_is_written_down_that_it_has_everything_back() {
    let temp = tempfile::tempdir().unwrap();
    let process = Some(Incarnation { pid: u32::MAX, start_ticks: 1 });
    let adopted =
        Adopted { id: "pod-1/uuid", holds: FULL, written: process, runs: process, ..Adopted::default() };
    let mut finder = adopted.begin(temp.path());
    finder.work.obey(orders(&["pod-2"]));
    let owed = |finder: &mut Finder| {
        finder.work.admit();
        locked(&finder.port.admitted).owed.len()
    };
    assert_eq!(owed(&mut finder), 1);
    finder.turn(&[Turn::Tick; 3]);
    assert_eq!(owed(&mut finder), 1, "{:?}", finder.told);
    finder.wait_for_disk();
    assert_eq!(owed(&mut finder), 0);
}

#[test]
fn a_hand_over_leaves_what_was_given_back_to_the_journal_that_it_writes_last() {
    for (last, writes) in [(Turn::Tick, true), (Turn::Handover, false)] {
        let temp = tempfile::tempdir().unwrap();
        let finder = begin(temp.path(), FULL, Why::Observes, &[Turn::Tick, last]);
        assert_eq!(finder.work.takes.is_some(), writes, "{last:?}");
    }
}

#[test]
fn what_somebody_sets_after_a_release_stays_though_its_agent_runs_on() {
    let temp = tempfile::tempdir().unwrap();
    let mut finder = Adopted { holds: FULL, ..Adopted::default() }.begin(temp.path());
    obey(&mut finder.work, Wished::Enforce);
    finder.work.release();
    finder.turn(&[Turn::Tick; 3]);
    assert_eq!(finder.work.last.clone().unwrap().release, Some(Release::Done));
    let told = finder.told.len();
    finder.holds(HALF);
    finder.turn(&[Turn::Tick; 4]);
    assert_eq!(finder.told.len(), told, "{:?}", finder.told);
}

#[test]
fn a_release_says_which_guests_cannot_take_what_they_are_owed() {
    for (run_state, why) in
        [(RunState::Paused, "is paused"), (RunState::Unreachable, "has a hypervisor that does not answer")]
    {
        let temp = tempfile::tempdir().unwrap();
        let mut finder = Adopted::default().begin(temp.path());
        obey(&mut finder.work, Wished::Enforce);
        finder.turn(&[Turn::Tick]);
        let guest = GuestSample { run_state, ..holding("a", HALF) };
        finder.work.parts.guests = Box::new(NoGuests { but: vec![guest], ..finder.port.clone() });
        finder.work.release();
        finder.turn(&[Turn::Tick; 3]);
        assert_eq!(finder.work.last.clone().unwrap().waits_for, Some(format!("a, which {why}")));
    }
}
