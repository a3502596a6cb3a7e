//! The loop after a command that nobody answered: which target is in force is not known, and it is made sure of.

use overcommit_core::plan::{Failed, Outcome};
use overcommit_core::sample::{GuestId, GuestName};

use super::*;
use crate::tick::no_guests::locked;

const FULL: Bytes = Bytes::from_gib(1);
const HALF: Bytes = Bytes::from_mib(512);

/// What it sends after a first take that nobody answered, to a guest that holds so much; and what it knows that the guest had.
fn after(holds: Bytes) -> (Vec<Command>, Bytes) {
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
    for _ in 0..2 {
        work.turn(Turn::Tick);
    }
    drop(inbox);
    let had = work.state.dealings().of(&GuestId::new("a")).unwrap().original.unwrap().target;
    (locked(&sent).clone(), had)
}

#[test]
fn a_target_of_which_nobody_knows_whether_it_is_in_force_is_set_again_once_the_balloon_rests() {
    let again = Command::SetTarget { id: GuestId::new("a"), from: FULL, to: FULL };
    assert_eq!(after(FULL), (vec![again], FULL));
}

#[test]
fn a_take_that_took_effect_although_nobody_answered_is_given_back_to_what_the_guest_had() {
    let (sent, had) = after(HALF);
    let given = |command: &Command| matches!(command, Command::SetTarget { to, .. } if *to == FULL);
    assert!(sent.iter().any(given), "{sent:?}");
    assert_eq!(had, FULL);
}
