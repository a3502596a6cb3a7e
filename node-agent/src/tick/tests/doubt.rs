//! The loop after a command that nobody answered: which target is in force is not known, and it is made sure of.

use overcommit_core::plan::{Failed, Outcome};
use overcommit_core::sample::GuestId;

use super::adopted::{Adopted, FULL, HALF, entry, holding, obey};
use super::*;
use crate::tick::no_guests::locked;

/// What it sends after a first take that nobody answered, to a guest that holds so much, until so many ticks later; and what it
/// knows that the guest had.
fn after(holds: Bytes, ticks: usize) -> (Vec<Command>, Bytes) {
    let temp = tempfile::tempdir().unwrap();
    let port = NoGuests::default();
    let (sent, outcomes) = (Arc::clone(&port.sent), Arc::clone(&port.outcomes));
    let (wakes, inbox) = channel();
    let but = vec![holding("a", FULL)];
    let mut work =
        Loop::new(parts(temp.path(), &world(4096), &wakes, Box::new(NoGuests { but, ..port.clone() })));
    obey(&mut work, Wished::Enforce);
    work.turn(Turn::Tick);
    let command = Command::SetTarget { id: GuestId::new("a"), from: FULL, to: HALF };
    locked(&outcomes).push(Outcome { command, result: Err(Failed::unanswered("no answer within 5s")) });
    work.hear();
    work.parts.guests = Box::new(NoGuests { but: vec![holding("a", holds)], ..port });
    for _ in 0..ticks {
        work.turn(Turn::Tick);
    }
    drop(inbox);
    let had = work.state.dealings().of(&GuestId::new("a")).unwrap().original.unwrap().target;
    (locked(&sent).clone(), had)
}

#[test]
fn a_target_of_which_nobody_knows_whether_it_is_in_force_is_set_again_at_once_and_once() {
    let again = Command::SetTarget { id: GuestId::new("a"), from: FULL, to: FULL };
    for ticks in [0, 2] {
        assert_eq!(after(FULL, ticks), (vec![again.clone()], FULL), "{ticks}");
    }
}

#[test]
fn a_take_that_took_effect_although_nobody_answered_is_given_back_to_what_the_guest_had() {
    let (sent, had) = after(HALF, 2);
    let given = |command: &Command| matches!(command, Command::SetTarget { to, .. } if *to == FULL);
    assert!(sent.iter().any(given), "{sent:?}");
    assert_eq!(had, FULL);
}

/// What is given back without a decision to a guest of the journal, whose process was known when that was written, and is now.
fn given_back(written: Option<Incarnation>, runs: Option<Incarnation>) -> usize {
    let temp = tempfile::tempdir().unwrap();
    let mut finder = Adopted { written, runs, ..Adopted::default() }.begin(temp.path());
    assert!(finder.work.fall_back(None));
    finder.carry_out();
    finder.told.len()
}

#[test]
fn without_decisions_a_guest_whose_process_is_not_shown_is_given_back_to_and_another_process_is_not() {
    let process = |start_ticks| Some(Incarnation { pid: 1, start_ticks });
    for (written, now, given) in [
        (process(1), process(1), 1),
        (process(1), None, 1),
        (None, process(1), 1),
        (process(1), process(2), 0),
    ] {
        assert_eq!(given_back(written, now), given, "{written:?} {now:?}");
    }
}

/// What the journal of a guest makes a loop in this mode do with one that holds half of what it had; the journal knows this
/// target, and whether it was seen to have all.
fn adopted(mode: Wished, target: Bytes, whole: bool) -> (Vec<Command>, Option<Bytes>) {
    let temp = tempfile::tempdir().unwrap();
    let mut finder = Adopted { target, whole, ..Adopted::default() }.begin(temp.path());
    obey(&mut finder.work, mode);
    finder.turn(&[Turn::Tick; 4]);
    let dealing = finder.work.state.dealings().of(&GuestId::new("a")).unwrap();
    (finder.told.clone(), dealing.original.map(|original| original.target))
}

#[test]
fn what_somebody_set_after_all_was_given_back_is_left_alone_and_what_is_owed_is_given() {
    for mode in [Wished::Observe, Wished::Enforce] {
        assert_eq!(adopted(mode, FULL, true), (Vec::new(), Some(HALF)), "{mode:?}");
        // All was given, and nobody saw that it came; or some of it was.
        for target in [FULL, FULL.minus(Bytes::from_mib(100))] {
            let (sent, had) = adopted(mode, target, false);
            let given = |command: &Command| matches!(command, Command::SetTarget { to: FULL, .. });
            assert!(sent.iter().any(given), "{mode:?} {sent:?}");
            assert_eq!(had, Some(FULL));
        }
    }
}

#[test]
fn who_has_more_than_it_had_had_that_from_its_owner_and_keeps_it() {
    let temp = tempfile::tempdir().unwrap();
    let target = Bytes::from_mib(256);
    let mut finder = Adopted { had: HALF, target, holds: FULL, ..Adopted::default() }.begin(temp.path());
    obey(&mut finder.work, Wished::Enforce);
    finder.turn(&[Turn::Tick; 4]);
    let dealing = finder.work.state.dealings().of(&GuestId::new("a")).unwrap();
    assert_eq!((dealing.original.unwrap().target, dealing.target), (FULL, Some(FULL)));
}

#[test]
fn who_is_restored_from_a_file_is_owed_what_it_had_before_it_was_saved_and_who_starts_anew_is_not() {
    let process = |start_ticks| Some(Incarnation { pid: u32::MAX, start_ticks });
    for (holds, owed) in [(HALF, true), (FULL, false), (Bytes::from_mib(100), false)] {
        let temp = tempfile::tempdir().unwrap();
        let adopted = Adopted { written: process(1), runs: process(2), holds, ..Adopted::default() };
        let mut finder = adopted.begin(temp.path());
        obey(&mut finder.work, Wished::Enforce);
        finder.turn(&[Turn::Tick; 4]);
        let given = |command: &Command| matches!(command, Command::SetTarget { to: FULL, .. });
        assert_eq!(finder.told.iter().any(given), owed, "{holds} {:?}", finder.told);
    }
}

/// What stands in the journal after a hand-over, of a guest that was given all that it had and holds this.
#[test]
fn what_was_given_and_not_seen_to_come_is_not_written_as_if_it_had() {
    for (holds, whole) in [(FULL, true), (HALF, false)] {
        let temp = tempfile::tempdir().unwrap();
        let mut finder = Adopted { holds, ..Adopted::default() }.begin(temp.path());
        obey(&mut finder.work, Wished::Enforce);
        finder.turn(&[Turn::Tick; 3]);
        finder.work.stop(Stop::Handover);
        finder.wait_for_disk();
        let entry = entry(temp.path()).unwrap();
        assert_eq!((entry.target, entry.whole), (FULL, whole), "{:?}", finder.told);
    }
}
