//! Courses in which the host's kernel answers late, or no more, about a guest's process.

#![allow(clippy::unwrap_used)] // helpers outside #[test] functions are test code too

use crate::world::{World, guest, mib, settle, view, world};
use overcommit_core::conduct::Trust;
use overcommit_core::policy::Mode;
use overcommit_core::reason::{Hold, Reason};
use overcommit_core::sample::{ProcessFacts, Sample};
use overcommit_core::step::Turn;

/// The kernel says nothing new of `name` from now on.
fn stop_facts(world: &mut World, name: &str) {
    let now = world.now;
    world.guest(name).stop_facts(now);
}

#[test]
fn nothing_is_taken_on_facts_that_are_three_control_periods_old() {
    let mut w = world(300, vec![guest("late", 512, 60), guest("other", 512, 60)]);
    settle(&mut w, 2);
    stop_facts(&mut w, "late");
    settle(&mut w, 3);
    let before = w.target("late");
    for _ in 0..5 {
        let reason = view(&w.tick(), "late").reason;
        assert!(matches!(reason, Reason::Held(Hold::OldFacts { .. })), "{reason:?}");
    }
    assert_eq!(w.target("late"), before);
    assert!(w.target("other") < 400, "the other one pays for it");
    w.guest("late").facts_of = None;
    settle(&mut w, 2);
    assert!(w.target("late") < before);
}

#[test]
fn giving_goes_on_while_facts_are_old() {
    let mut w = world(800, vec![guest("late", 512, 60), guest("other", 512, 60)]);
    settle(&mut w, 12);
    assert!(w.target("late") < 512);
    stop_facts(&mut w, "late");
    settle(&mut w, 5);
    w.guest("late").swap_in += 50;
    w.total = 2048;
    w.turn(1, Turn::Relief);
    assert_eq!(w.target("late"), 512);
}

#[test]
fn a_host_that_has_not_answered_about_a_guest_lets_nobody_take_from_it() {
    let mut w = world(800, vec![guest("new", 512, 60), guest("other", 512, 400)]);
    w.now += 100;
    let mut sample = w.sample();
    sample.guests[0].facts_age = None;
    let decision = w.decide_on(&sample, Turn::Tick);
    assert_eq!(view(&decision, "new").reason, Reason::Held(Hold::Unproven));
    let reason = view(&w.tick(), "new").reason;
    assert_eq!(reason, Reason::TakeUnused);
}

/// The kernel has not shown the process of that guest.
fn unseen(world: &mut World, guest: usize) -> Sample {
    world.now += 5;
    let mut sample = world.sample();
    sample.guests[guest].facts = ProcessFacts::default();
    sample.guests[guest].facts_age = None;
    sample
}

#[test]
fn nobody_pays_for_guests_that_a_loop_which_has_just_begun_has_not_looked_at_yet() {
    // There is enough for both; of one nobody knows yet that 400 MiB are its.
    let mut w = world(1500, vec![guest("new", 512, 400), guest("other", 512, 60)]);
    w.now += 100;
    for _ in 0..5 {
        let sample = unseen(&mut w, 0);
        let decision = w.decide_on(&sample, Turn::Tick);
        w.obey(&decision);
        assert_eq!(view(&decision, "other").reason, Reason::Held(Hold::FirstLook));
    }
    assert_eq!(w.target("other"), 512);
    assert_eq!(view(&w.tick(), "other").reason, Reason::FullSize);
}

#[test]
fn who_is_never_looked_at_keeps_a_loop_from_taking_for_half_a_minute_and_no_longer() {
    let mut w = world(1000, vec![guest("hidden", 512, 400), guest("other", 512, 60)]);
    w.now += 100;
    for second in (0..60).step_by(5) {
        let sample = unseen(&mut w, 0);
        let decision = w.decide_on(&sample, Turn::Tick);
        w.obey(&decision);
        assert_eq!(w.target("other") == 512, second < 30, "after {second} s");
    }
    // Guests that come later do not put it off again.
    w.guests.push(guest("later", 64, 10));
    let before = w.target("other");
    w.total = 800;
    let sample = unseen(&mut w, 2);
    let decision = w.decide_on(&sample, Turn::Tick);
    w.obey(&decision);
    assert!(w.target("other") < before, "{:?}", view(&decision, "other"));
}

#[test]
fn in_an_emergency_nobody_waits_for_the_first_look() {
    let mut w = world(1000, vec![guest("new", 512, 400), guest("other", 512, 60)]);
    w.now += 100;
    w.available = Some(5);
    let sample = unseen(&mut w, 0);
    let decision = w.decide_on(&sample, Turn::Tick);
    assert!(decision.emergency);
    assert!(view(&decision, "other").target < mib(512), "{:?}", view(&decision, "other"));
}

#[test]
fn what_a_guest_fills_before_anybody_looked_at_it_is_no_growth_of_the_node() {
    let mut w = world(4096, vec![guest("one", 512, 60), guest("other", 512, 60)]);
    settle(&mut w, 12);
    let before = w.tick().ledger.non_guest_growth;
    w.guests.push(guest("new", 512, 60));
    for holds in [50, 150, 250, 350] {
        w.guest("new").held = Some(holds);
        let sample = unseen(&mut w, 2);
        w.decide_on(&sample, Turn::Tick);
    }
    settle(&mut w, 3);
    assert_eq!(w.tick().ledger.non_guest_growth, before);
}

#[test]
fn memory_that_a_guest_freed_unseen_is_given_to_nobody_twice() {
    let mut w = world(900, vec![guest("late", 512, 400), guest("other", 512, 60)]);
    w.anon_other = 100;
    settle(&mut w, 12);
    let before = w.tick().ledger;
    assert_eq!(before.non_guest, mib(100));
    stop_facts(&mut w, "late");
    w.guest("late").held = Some(50);
    let decision = w.tick();
    assert_eq!(decision.ledger.non_guest, mib(100), "the host holds 350 MiB less, and they are the guest's");
    // The node's own may have grown instead: that is believed at once.
    w.guest("late").held = Some(400);
    w.anon_other = 300;
    assert_eq!(w.tick().ledger.non_guest, mib(300));
    // More went than the guest had.
    w.guest("late").held = Some(0);
    w.anon_other = 10;
    let decision = w.tick();
    assert!(decision.ledger.non_guest <= mib(100), "{:?}", decision.ledger);
    w.guest("late").facts_of = None;
    assert_eq!(w.tick().ledger.non_guest, mib(10));
}

#[test]
fn growth_that_nobody_can_assign_is_not_learnt() {
    let mut w = world(4096, vec![guest("late", 1024, 60), guest("other", 512, 60)]);
    settle(&mut w, 5);
    let before = w.tick().ledger.non_guest_growth;
    stop_facts(&mut w, "late");
    w.guest("late").held = Some(900);
    settle(&mut w, 2);
    w.guest("late").facts_of = None;
    settle(&mut w, 3);
    assert_eq!(w.tick().ledger.non_guest_growth, before);
}

#[test]
fn a_guest_is_not_accused_of_what_its_process_held_before_the_take() {
    let mut w = world(800, vec![guest("late", 512, 60), guest("b", 512, 60)]);
    w.guest("late").held = Some(500);
    w.tick();
    assert!(w.target("late") < 512);
    stop_facts(&mut w, "late");
    w.guest("late").held = None;
    settle(&mut w, 10);
    let late = view(&w.tick(), "late");
    assert_eq!((late.trust, late.failure), (Trust::Trusted, None));
}

#[test]
fn with_swap_a_guest_that_nobody_sees_may_hold_all_that_it_was_promised() {
    let mut w = world(800, vec![guest("late", 512, 60), guest("b", 512, 60)]);
    w.swap = 4096;
    settle(&mut w, 3);
    assert!(w.tick().ledger.committed < mib(512));
    stop_facts(&mut w, "late");
    let ledger = w.tick().ledger;
    assert!(ledger.committed >= mib(512 + 60), "{ledger:?}");
}

#[test]
fn what_a_process_held_beneath_a_shadow_is_charged_when_enforcing_begins() {
    let mut w = world(800, vec![guest("a", 512, 60), guest("b", 512, 60)]);
    w.policy.mode = Mode::Observe;
    w.guest("a").held = Some(700);
    settle(&mut w, 10);
    w.policy.mode = Mode::Enforce;
    w.now += 5;
    let mut sample = w.sample();
    (sample.guests[0].facts, sample.guests[0].incarnation) = (ProcessFacts::default(), None);
    let promised = w.decide_on(&sample, Turn::Relief).ledger.promised;
    assert!(promised >= mib(700 - 16 + 512), "{promised}");
}

#[test]
fn an_overhead_that_was_measured_once_is_known_whatever_was_observed_since() {
    let mut w = world(800, vec![guest("a", 512, 60), guest("b", 512, 60)]);
    w.policy.mode = Mode::Observe;
    w.guest("a").held = Some(900);
    settle(&mut w, 10);
    let mut promised = mib(0);
    for release in [true, false, false, false, true] {
        w.release = release;
        w.now += 5;
        let mut sample = w.sample();
        sample.guests[0].facts.overhead = None;
        promised = w.decide_on(&sample, Turn::Tick).ledger.promised;
    }
    assert!(promised >= mib(900 - 16 + 512), "{promised}");
}
