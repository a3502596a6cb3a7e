//! Who is given what there is, in which order, and how far targets run ahead of balloons.

#![allow(clippy::unwrap_used)] // helpers outside #[test] functions are test code too

use crate::world::{Guest, World, guest, mib, reason, settle, view, world};
use overcommit_core::plan::Move;
use overcommit_core::reason::{Cut, Hold, Reason};
use overcommit_core::step::{Decision, Turn};
use overcommit_core::units::Amount;

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

/// Why a guest got less than the engine wanted, or gave less.
fn cut(decision: &Decision, name: &str) -> Option<Cut> {
    view(decision, name).cut
}

#[test]
fn why_the_guard_allows_less_than_was_wanted_is_told() {
    let host = |total| world(total, vec![guest("a", 1000, 60), guest("b", 1000, 60)]);
    let mut w = host(1700);
    w.policy.limits.take_per_node = Amount::Bytes(mib(50));
    assert!([w.tick(), w.tick()].iter().any(|told| cut(told, "a") == Some(Cut::NodeLimit)));

    let mut w = host(1500);
    settle(&mut w, 30);
    w.release = true;
    w.total += 40;
    let told = w.decide(1, Turn::Relief);
    assert!(told.plan.of(&World::id("a")).is_some(), "{:?}", view(&told, "a"));
    assert_eq!(cut(&told, "a"), Some(Cut::Spare), "{:?}", view(&told, "a"));
}

#[test]
fn what_keeps_a_guest_from_being_taken_from_within_one_interval_is_called_by_its_name() {
    let mut w = world(1200, ["a", "b"].map(|name| Guest { period: 1, ..guest(name, 1000, 60) }).into());
    w.policy.limits.take_per_node = Amount::Bytes(mib(2000));
    w.tick();
    let again = w.turn(1, Turn::Tick);
    assert!(
        [view(&again, "a"), view(&again, "b")].iter().any(|g| g.reason == Reason::Held(Hold::GuestLimit)),
        "{:?}",
        again.guests.iter().map(|g| g.reason).collect::<Vec<_>>()
    );
}
