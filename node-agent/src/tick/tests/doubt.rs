//! The loop after a command that nobody answered: which target is in force is not known, and it is made sure of.

use overcommit_core::plan::{Failed, Outcome};
use overcommit_core::sample::{GuestId, GuestName};

use super::*;
use crate::tick::no_guests::locked;

const FULL: Bytes = Bytes::from_gib(1);
const HALF: Bytes = Bytes::from_mib(512);

/// What it sends after a first take that nobody answered, to a guest that holds so much, until so many ticks later; and what it
/// knows that the guest had.
fn after(holds: Bytes, ticks: usize) -> (Vec<Command>, Bytes) {
    let temp = tempfile::tempdir().unwrap();
    let port = NoGuests::default();
    let (sent, outcomes) = (Arc::clone(&port.sent), Arc::clone(&port.outcomes));
    let holding = |actual: Bytes| GuestSample {
        balloon: Some(Balloon { actual, ..Balloon::default() }),
        ..no_guests::guest("a", GuestName::standalone("a"), FULL)
    };
    let (wakes, inbox) = channel();
    let but = vec![holding(FULL)];
    let mut work =
        Loop::new(parts(temp.path(), &world(4096), &wakes, Box::new(NoGuests { but, ..port.clone() })));
    let spec = OvercommitPolicySpec { mode: Wished::Enforce, ..OvercommitPolicySpec::default() };
    work.obey(Arc::new(Orders::from_file("p", &spec).unwrap()));
    work.turn(Turn::Tick);
    let command = Command::SetTarget { id: GuestId::new("a"), from: FULL, to: HALF };
    locked(&outcomes).push(Outcome { command, result: Err(Failed::unanswered("no answer within 5s")) });
    work.hear();
    work.parts.guests = Box::new(NoGuests { but: vec![holding(holds)], ..port });
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
fn given_back(written: Option<Incarnation>, now: Option<Incarnation>) -> usize {
    let temp = tempfile::tempdir().unwrap();
    let original = Original { target: FULL, period: None };
    let entry = Entry { incarnation: written, original, target: HALF, name: None };
    leave_journal(temp.path(), [(GuestId::new("a"), entry)]);
    let guest = GuestSample {
        incarnation: now,
        balloon: Some(Balloon { actual: HALF, ..Balloon::default() }),
        ..no_guests::guest("a", GuestName::standalone("a"), FULL)
    };
    let port = NoGuests { but: vec![guest], ..NoGuests::default() };
    let (sent, (wakes, _inbox)) = (Arc::clone(&port.sent), channel());
    let mut work = Loop::new(parts(temp.path(), &world(4096), &wakes, Box::new(port)));
    assert!(work.fall_back(None));
    locked(&sent).len()
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

/// What the journal of a released guest makes a loop in this mode do with one that holds half of what it had; the journal knows
/// this target.
fn adopted(mode: Wished, target: Bytes) -> (Vec<Command>, Option<Bytes>) {
    let temp = tempfile::tempdir().unwrap();
    let original = Original { target: FULL, period: None };
    leave_journal(
        temp.path(),
        [(GuestId::new("a"), Entry { incarnation: None, original, target, name: None })],
    );
    let guest = GuestSample {
        balloon: Some(Balloon { actual: HALF, ..Balloon::default() }),
        ..no_guests::guest("a", GuestName::standalone("a"), FULL)
    };
    let port = NoGuests { but: vec![guest], ..NoGuests::default() };
    let (sent, (wakes, _inbox)) = (Arc::clone(&port.sent), channel());
    let mut work = Loop::new(parts(temp.path(), &world(4096), &wakes, Box::new(port)));
    let spec = OvercommitPolicySpec { mode, ..OvercommitPolicySpec::default() };
    work.obey(Arc::new(Orders::from_file("p", &spec).unwrap()));
    for _ in 0..4 {
        work.turn(Turn::Tick);
    }
    let had = work.state.dealings().of(&GuestId::new("a")).unwrap().original.map(|original| original.target);
    (locked(&sent).clone(), had)
}

#[test]
fn what_somebody_set_after_all_was_given_back_is_left_alone_and_what_is_owed_is_given() {
    for mode in [Wished::Observe, Wished::Enforce] {
        assert_eq!(adopted(mode, FULL), (Vec::new(), Some(HALF)), "{mode:?}");
        let (sent, had) = adopted(mode, FULL.minus(Bytes::from_mib(100)));
        let given = |command: &Command| matches!(command, Command::SetTarget { to: FULL, .. });
        assert!(sent.iter().any(given), "{mode:?} {sent:?}");
        assert_eq!(had, Some(FULL));
    }
}
