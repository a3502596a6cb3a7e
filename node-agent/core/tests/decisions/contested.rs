//! A balloon that somebody else keeps lowering.

use overcommit_core::plan::{Command, Outcome};
use overcommit_core::reason::{Hold, Reason};
use overcommit_core::roster::OptOut;
use overcommit_core::sample::RunState;
use overcommit_core::step::{Decision, Release, Turn};

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

/// It is given what it is to have, or that is set again.
fn helps(decision: &Decision) -> bool {
    set_again(decision) || decision.plan.of(&World::id("a")).is_some()
}

/// "a" has a kernel that is up for a while.
fn up_for_a_while(w: &mut World) {
    w.guest("a").filled = 1 << 20;
    settle(w, 2);
}

/// It reboots, and has its full size by then.
fn reboot(w: &mut World) {
    let a = w.guest("a");
    (a.filled, a.total) = (0, Some(a.full));
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
    let times = decisions.iter().filter(|decision| helps(decision)).count();
    assert!(times >= 29, "{times} times in 5 min");
}

#[test]
fn nobody_is_accused_for_a_guest_that_cannot_follow() {
    let cannot: [fn(&mut World); 3] = [
        |w| w.guest("a").state = RunState::Paused,
        // Its device goes on saying what the last kernel's balloon held.
        reboot,
        |w| w.guest("a").reports = false,
    ];
    for cannot in cannot {
        let mut w = at_peace();
        up_for_a_while(&mut w);
        let held = w.target("a");
        cannot(&mut w);
        // There is plenty, so that it is to have more.
        w.total = 4096;
        let decisions = lowered_to(&mut w, held, 60);
        assert_eq!(w.target("a"), 512);
        assert!(decisions.iter().all(|decision| view(decision, "a").contested.is_none()));
    }
}

#[test]
fn a_device_that_goes_on_saying_what_the_last_kernel_held_keeps_no_release_from_its_end() {
    let mut w = at_peace();
    up_for_a_while(&mut w);
    let held = w.target("a");
    (w.total, w.release) = (4096, true);
    reboot(&mut w);
    let decisions = lowered_to(&mut w, held, 4);
    assert_eq!(w.target("a"), 512);
    assert!(decisions[1..].iter().all(|decision| decision.release == Some(Release::Done)));
    assert!(!decisions.iter().any(set_again), "its new driver has read its target");
}

#[test]
fn a_contested_guest_that_falls_silent_is_helped_each_time() {
    let mut w = at_peace();
    let target = w.target("a");
    lowered_to(&mut w, target - 50, 720);
    w.guest("a").reports = false;
    let decisions = lowered_to(&mut w, target - 50, 60);
    // Its last words are fresh for a while.
    let times = decisions[6..].iter().filter(|decision| helps(decision)).count();
    assert!(times >= 25, "{times} times in 4.5 min");
}

#[test]
fn who_is_opted_out_has_what_it_was_owed_and_is_its_owners_then() {
    let mut w = at_peace();
    let target = w.target("a");
    lowered_to(&mut w, target - 50, 100);
    w.guest("a").opt_out = Some(OptOut::Annotation);
    w.total = 4096;
    settle(&mut w, 3);
    assert_eq!(w.guest("a").actual, 512);
    for decision in lowered_to(&mut w, 400, 200) {
        assert!(!set_again(&decision) && decision.plan.is_empty());
        assert_eq!(view(&decision, "a").contested, None);
    }
}

#[test]
fn who_is_opted_out_while_its_balloon_is_lowered_has_all_that_it_had_first() {
    let mut w = at_peace();
    w.total = 4096;
    settle(&mut w, 12);
    assert_eq!(w.target("a"), 512);
    lowered_to(&mut w, 400, 100);
    // It is contested at all that it has, and lowered.
    w.guest("a").actual = 400;
    w.guest("a").opt_out = Some(OptOut::Annotation);
    settle(&mut w, 400);
    assert_eq!(w.guest("a").actual, 512);
}

#[test]
fn a_guest_that_rebooted_is_set_again_once_somebody_moves_its_balloon() {
    let mut w = at_peace();
    up_for_a_while(&mut w);
    let held = w.target("a");
    w.total = 4096;
    reboot(&mut w);
    assert!(!lowered_to(&mut w, held, 4).iter().any(set_again));
    assert!(lowered_to(&mut w, held - 50, 4).iter().any(set_again));
}

#[test]
fn what_was_refused_accuses_nobody() {
    let mut w = at_peace();
    let target = w.target("a");
    for _ in 0..100 {
        w.guest("a").actual = target - 50;
        let decision = w.decide(5, Turn::Tick);
        let refused = |command: &Command| Outcome { command: command.clone(), result: Err("no".into()) };
        w.state.note(&decision.again.iter().map(refused).collect::<Vec<_>>());
        assert_eq!(view(&decision, "a").contested, None);
    }
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
