//! What was sent and nobody has answered, and what was written while something else was decided.

use overcommit_core::plan::{Failed, Outcome};
use overcommit_core::step::Release;

use super::adopted::{Adopted, FULL, Finder, HALF, entry, obey};
use super::*;
use crate::tick::no_guests::locked;

/// A loop with a guest that was given back all that it had, and has it.
fn whole(temp: &std::path::Path) -> Finder {
    let process = Some(Incarnation { pid: u32::MAX, start_ticks: 1 });
    let adopted = Adopted {
        target: FULL,
        holds: FULL,
        whole: true,
        written: process,
        runs: process,
        ..Adopted::default()
    };
    let mut finder = adopted.begin(temp);
    obey(&mut finder.work, Wished::Enforce);
    finder.turn(&[Turn::Tick; 3]);
    assert!(finder.told.is_empty(), "{:?}", finder.told);
    finder
}

fn take() -> Command {
    Command::SetTarget { id: GuestId::new("a"), from: FULL, to: HALF }
}

impl Finder {
    /// Sends it once the disk has it; nobody answers.
    fn send(&mut self, command: &Command) {
        self.work.take(vec![command.clone()], Vec::new(), &self.port.but);
        self.wait_for_disk();
        assert_eq!(*locked(&self.port.sent), std::slice::from_ref(command));
    }

    fn answer(&mut self, result: &Result<(), Failed>) {
        for command in std::mem::take(&mut *locked(&self.port.sent)) {
            locked(&self.port.outcomes).push(Outcome { command, result: result.clone() });
        }
        self.work.hear();
    }
}

/// Target and original in the journal.
fn written(temp: &std::path::Path) -> Option<(Bytes, Bytes)> {
    entry(temp).map(|entry| (entry.target, entry.original.target))
}

#[test]
fn what_was_sent_stays_in_the_journal_until_it_is_answered_whatever_is_decided_in_between() {
    for stop in [false, true] {
        let temp = tempfile::tempdir().unwrap();
        let mut finder = whole(temp.path());
        finder.send(&take());
        for turn in [Turn::Tick, Turn::Relief, Turn::Alarm] {
            finder.work.turn(turn);
            finder.wait_for_disk();
            assert_eq!(written(temp.path()), Some((HALF, FULL)), "{turn:?}");
        }
        if stop {
            finder.work.stop(Stop::Handover);
            finder.wait_for_disk();
        }
        assert_eq!(written(temp.path()), Some((HALF, FULL)));
        // Refused, after all.
        finder.answer(&Err("no".into()));
        if stop {
            assert_eq!(finder.work.ended(), None, "the last word is not written yet");
        } else {
            finder.work.turn(Turn::Tick);
        }
        finder.wait_for_disk();
        assert_ne!(written(temp.path()), Some((HALF, FULL)));
        // What was learned is being written too.
        let deadline = Instant::now() + DEADLINE;
        while stop && finder.work.ended().is_none() {
            assert!(Instant::now() < deadline);
            std::thread::yield_now();
        }
    }
}

#[test]
fn a_release_is_not_done_while_what_was_sent_may_still_take_effect() {
    let temp = tempfile::tempdir().unwrap();
    let mut finder = whole(temp.path());
    finder.send(&take());
    finder.work.stop(Stop::Release);
    finder.work.turn(Turn::Tick);
    assert_ne!(finder.work.last.clone().unwrap().release, Some(Release::Done));
    finder.answer(&Ok(()));
    assert_eq!(finder.work.ended(), None);
    finder.holds(HALF);
    finder.turn(&[Turn::Tick; 2]);
    let gives = |command: &Command| matches!(command, Command::SetTarget { to: FULL, .. });
    assert!(finder.told.iter().any(gives), "{:?}", finder.told);
    finder.holds(FULL);
    finder.turn(&[Turn::Tick; 2]);
    finder.wait_for_disk();
    assert_eq!(finder.work.ended(), Some(Ok(())));
}

#[test]
fn a_period_that_is_shortened_is_in_the_journal_before_and_after_though_nothing_is_taken() {
    let temp = tempfile::tempdir().unwrap();
    let mut finder = whole(temp.path());
    finder.send(&Command::SetPeriod { id: GuestId::new("a"), seconds: 1 });
    assert_eq!(written(temp.path()), Some((FULL, FULL)));
    finder.answer(&Ok(()));
    finder.work.record_all();
    finder.wait_for_disk();
    assert_eq!(written(temp.path()), Some((FULL, FULL)));
}

#[test]
fn what_was_being_written_when_a_turn_failed_is_no_receipt_for_what_is_decided_next() {
    let temp = tempfile::tempdir().unwrap();
    let mut finder = whole(temp.path());
    finder.work.take(vec![take()], Vec::new(), &finder.port.but);
    finder.work.isolated(|_| panic!("on purpose"));
    assert!(finder.work.takes.is_some(), "nothing else is written before it is known what became of this");
    finder.wait_for_disk();
    assert!(locked(&finder.port.sent).is_empty());
}

#[test]
fn who_was_not_in_a_sample_for_a_moment_is_owed_what_it_was_owed_before() {
    let temp = tempfile::tempdir().unwrap();
    let process = Some(Incarnation { pid: u32::MAX, start_ticks: 1 });
    let mut finder = Adopted { written: process, runs: process, ..Adopted::default() }.begin(temp.path());
    obey(&mut finder.work, Wished::Observe);
    finder.turn(&[Turn::Tick; 2]);
    finder.work.parts.guests = Box::new(NoGuests { but: Vec::new(), ..finder.port.clone() });
    finder.work.turn(Turn::Alarm);
    finder.holds(HALF);
    finder.told.clear();
    finder.turn(&[Turn::Tick; 4]);
    let gives = |command: &Command| matches!(command, Command::SetTarget { to: FULL, .. });
    assert!(finder.told.iter().any(gives), "{:?}", finder.told);
}

#[test]
fn of_who_may_be_restored_from_a_file_a_release_is_not_done_before_that_is_known() {
    let temp = tempfile::tempdir().unwrap();
    let process = |start_ticks| Some(Incarnation { pid: u32::MAX, start_ticks });
    let mut finder =
        Adopted { written: process(1), runs: process(1), ..Adopted::default() }.begin(temp.path());
    obey(&mut finder.work, Wished::Observe);
    finder.turn(&[Turn::Tick]);
    finder.port.but[0].incarnation = process(2);
    finder.holds(HALF);
    finder.work.stop(Stop::Release);
    for _ in 0..2 {
        finder.turn(&[Turn::Tick]);
        assert_ne!(finder.work.last.clone().unwrap().release, Some(Release::Done));
    }
    let had = finder.work.state.dealings().of(&GuestId::new("a")).and_then(|dealing| dealing.original);
    assert_eq!(had.map(|original| original.target), Some(FULL), "{:?}", finder.told);
}
