//! A balloon that somebody else keeps lowering.

use overcommit_core::plan::Command;
use overcommit_core::reason::{Hold, Reason};
use overcommit_core::step::Decision;

use crate::world::{World, guest, mib, settle, view, world};

/// Two guests on a host that lacks some memory, at peace.
fn at_peace() -> World {
    let mut w = world(700, vec![guest("a", 512, 100), guest("b", 512, 100)]);
    settle(&mut w, 60);
    assert!(w.target("a") < 512 && w.target("a") + w.target("b") <= 700);
    w
}

/// Somebody else has "a" at `mib` at each turn of so many, 5 s apart: what was decided.
fn lowered_to(w: &mut World, mib: u64, turns: usize) -> Vec<Decision> {
    let lower = |_| {
        w.guest("a").actual = mib;
        w.tick()
    };
    (0..turns).map(lower).collect()
}

fn set_again(decision: &Decision) -> bool {
    decision
        .again
        .iter()
        .any(|command| matches!(command, Command::SetTarget { id, .. } if id.as_str() == "a"))
}

#[test]
fn somebody_who_keeps_lowering_a_balloon_is_yielded_to_and_told_of_and_nothing_is_taken_there() {
    let mut w = at_peace();
    let target = w.target("a");
    let decisions = lowered_to(&mut w, target - 50, 720);
    let times = decisions.iter().filter(|decision| set_again(decision)).count();
    assert!((6..=12).contains(&times), "{times} times in an hour, for somebody who does it all the time");
    let last = view(decisions.last().unwrap(), "a");
    assert_eq!(last.contested.unwrap().wait.as_secs(), 1920);
    assert_eq!(last.reason, Reason::Held(Hold::BalloonMoves));
    assert_eq!(last.target, mib(target), "it is owed that");

    // He goes, and after a while all is as before.
    w.guest("a").actual = target;
    let after: Vec<Decision> = (0..122).map(|_| w.tick()).collect();
    assert!(view(&after[100], "a").contested.is_some());
    assert_eq!(view(after.last().unwrap(), "a").contested, None);
}

#[test]
fn a_guest_that_hurts_is_helped_whoever_keeps_lowering_its_balloon() {
    let mut w = at_peace();
    let target = w.target("a");
    lowered_to(&mut w, target - 50, 720);
    w.guest("a").used = 512;
    let decisions = lowered_to(&mut w, target - 50, 60);
    let helped = |d: &&Decision| set_again(d) || d.plan.moves().iter().any(|step| step.id.as_str() == "a");
    let times = decisions.iter().filter(helped).count();
    assert!(times >= 29, "{times} times in 5 min");
}

#[test]
fn a_balloon_that_was_lowered_once_is_set_again_and_nobody_is_accused() {
    let mut w = at_peace();
    let target = w.target("a");
    let decision = &lowered_to(&mut w, target - 50, 1)[0];
    assert!(set_again(decision));
    assert_eq!(w.guest("a").actual, target);
    assert_eq!(view(&w.tick(), "a").contested, None);
}
