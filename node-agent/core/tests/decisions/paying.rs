//! Who is given what there is, in which order, and how far targets run ahead of balloons.

#![allow(clippy::unwrap_used)] // helpers outside #[test] functions are test code too

use crate::world::{World, guest, reason, settle, world};
use overcommit_core::plan::Move;
use overcommit_core::reason::Reason;
use overcommit_core::step::{Decision, Turn};

/// The gives of a decision, in the order in which they are paid.
fn paid(decision: &Decision) -> Vec<String> {
    let gives = decision.plan.moves().iter().filter(|step| !step.takes());
    gives.map(|step| step.id.to_string()).collect()
}

/// Two guests on a host that has just taken from `taken` once more, which is hurt by that; `busy` has nothing to give.
fn hurt_by_the_last_take(busy: &str, taken: &str) -> World {
    let mut w = world(1020, vec![guest(busy, 512, 60), guest(taken, 512, 60)]);
    settle(&mut w, 30);
    w.guest(busy).used = w.guest(busy).actual * 3 / 4;
    w.tick();
    w.total -= 20;
    let last = (0..10).find(|_| w.tick().plan.of(&World::id(taken)).is_some_and(Move::takes));
    assert!(last.is_some(), "nothing was taken");
    w.guest(taken).swap_in += 500;
    w
}

#[test]
fn distress_is_paid_before_need() {
    let names = ["aa-needs", "bb-needs", "zz-hurts"];
    let mut w = world(1100, names.map(|name| guest(name, 512, 60)).into());
    settle(&mut w, 30);
    for name in names {
        w.guest(name).used = w.guest(name).actual - 60;
    }
    w.guest("zz-hurts").swap_in += 500;
    w.total += 60;
    let decision = w.decide(1, Turn::Relief);
    assert!(matches!(reason(&decision, "zz-hurts"), Reason::GiveDistress(_)), "{decision:?}");
    assert_eq!(paid(&decision).first().map(String::as_str), Some("zz-hurts"));
}

#[test]
fn what_undoes_a_failed_take_is_paid_before_distress() {
    let mut w = hurt_by_the_last_take("aa-hurts", "zz-taken");
    w.guest("aa-hurts").used = w.guest("aa-hurts").actual - 5;
    w.total += 200;
    let decision = w.decide(1, Turn::Relief);
    assert!(matches!(reason(&decision, "zz-taken"), Reason::Undo(_)), "{decision:?}");
    assert!(matches!(reason(&decision, "aa-hurts"), Reason::GiveDistress(_)), "{decision:?}");
    assert_eq!(paid(&decision), ["zz-taken", "aa-hurts"]);
}

#[test]
fn who_is_taken_from_anew_is_not_paid_in_the_same_turn_what_the_last_take_owes() {
    let mut w = hurt_by_the_last_take("busy", "taken");
    w.decide(1, Turn::Relief);
    // Nothing is there to pay it until it has passed; then there is a little, and somebody needs more than that.
    w.guest("busy").used = w.guest("busy").actual - 5;
    let owed = (0..5).map(|_| w.tick()).last().map(|before| reason(&before, "taken"));
    assert_eq!(owed, Some(Reason::Waiting), "the undo is not paid, and for half a minute nothing is taken");
    w.total += 3;
    let decision = w.tick();
    assert!(decision.plan.of(&World::id("taken")).is_some_and(Move::takes), "{decision:?}");
    assert_eq!(paid(&decision), ["busy"]);
}

#[test]
fn a_target_runs_no_further_ahead_of_a_slow_balloon_than_one_take() {
    let mut w = world(1100, vec![guest("slow", 1024, 60), guest("busy", 512, 500)]);
    w.guest("slow").follows = false;
    let mut targets = Vec::new();
    for _ in 0..30 {
        w.tick();
        // It moves, so that it is not taken for one that does not.
        let target = w.target("slow");
        let actual = (w.guest("slow").actual - 8).max(target);
        w.guest("slow").actual = actual;
        // One take is a tenth of its size; the last was decided while it held 8 MiB more.
        assert!(actual - target <= 2 * 103 + 8, "{actual} held, {target} asked for");
        targets.push(target);
    }
    assert!(targets.first() > targets.last(), "it is taken from all the same: {targets:?}");
}

#[test]
fn while_all_is_given_back_who_hurts_comes_first() {
    let mut w = world(1100, ["aa-idle", "bb-idle", "zz-hurts"].map(|name| guest(name, 512, 60)).into());
    settle(&mut w, 30);
    w.guest("zz-hurts").swap_in += 500;
    w.release = true;
    w.total += 60;
    let decision = w.decide(1, Turn::Relief);
    assert_eq!(paid(&decision).first().map(String::as_str), Some("zz-hurts"), "{decision:?}");
}
