//! Where the node can swap, it takes of what guests need what is touched least among all of them; a balloon takes what nobody needs.

#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects)] // helpers outside #[test] functions are test code too

use std::time::Duration;

use crate::world::{Guest, World, guest, mib, settle, world};
use overcommit_core::reason::Pain;
use overcommit_core::step::{Decision, Turn};
use overcommit_core::units::{Amount, Monotonic};

const NEEDS: u64 = 440;
const NAMES: [&str; 4] = ["a", "b", "c", "d"];

/// What the policy keeps, and the kernel does not.
const RESERVE: u64 = 64;

/// Four guests of 512 MiB, of which each uses so much.
fn crowd(swap: u64, used: u64) -> World {
    let guests = NAMES.map(|name| Guest { period: 1, ..guest(name, 512, 100) });
    let mut w = world(1280, guests.to_vec());
    w.swap = swap;
    w.policy.reserve.minimum = Amount::Bytes(mib(RESERVE));
    settle(&mut w, 20);
    w.guests.iter_mut().for_each(|guest| guest.used = used);
    w
}

/// A second in which everybody swaps who lacks anything, and the host swaps what they together hold beyond what there is.
fn second(w: &mut World) -> Decision {
    for guest in w.guests.iter_mut().filter(|guest| guest.actual < guest.used) {
        guest.swap_in += 5;
    }
    for guest in &mut w.guests {
        guest.held = Some(guest.actual.min(320));
    }
    let turn = if w.now % 5 == 4 { Turn::Tick } else { Turn::Relief };
    w.turn(1, turn)
}

#[test]
fn while_the_node_can_swap_nobody_waits_and_nobody_is_taken_from_what_it_needs() {
    let mut w = crowd(4096, NEEDS);
    for _ in 0..300 {
        assert!(!second(&mut w).turns, "at {}", w.now);
        assert!(NAMES.iter().all(|name| w.target(name) >= NEEDS), "{:?}", NAMES.map(|name| w.target(name)));
    }
}

#[test]
fn what_nobody_needs_is_taken_all_the_same() {
    let mut w = crowd(4096, 100);
    w.guest("a").used = NEEDS;
    (0..300).for_each(|_| drop(second(&mut w)));
    assert!(w.target("a") >= NEEDS, "{}", w.target("a"));
    let others = ["b", "c", "d"].map(|name| w.target(name));
    assert!(
        others.iter().any(|target| *target < 320) && others.iter().all(|target| *target >= 100),
        "{others:?}"
    );
}

#[test]
fn who_hurts_is_given_what_swap_can_keep_although_nothing_is_spare() {
    let mut w = crowd(0, NEEDS);
    (0..60).for_each(|_| drop(second(&mut w)));
    assert!(NAMES.iter().any(|name| w.target(name) < NEEDS));
    w.swap = 4096;
    (0..30).for_each(|_| drop(second(&mut w)));
    let ledger = second(&mut w).ledger;
    assert!(ledger.shortfall > mib(0) && ledger.spare == mib(0), "{ledger:?}");
    assert!(NAMES.iter().all(|name| w.target(name) >= NEEDS), "{:?}", NAMES.map(|name| w.target(name)));
}

#[test]
fn no_more_is_given_than_memory_and_swap_together_can_keep() {
    let mut w = crowd(256, NEEDS);
    for _ in 0..300 {
        second(&mut w);
        let promised: u64 = NAMES.iter().map(|name| w.target(name)).sum();
        assert!(w.now < 3800 || promised <= 1280 + 256, "{promised} at {}", w.now);
    }
}

/// What one that used `NEEDS` until a minute ago is left, by a node that is short.
fn left_after_a_minute(swap: u64) -> u64 {
    let mut w = crowd(swap, 200);
    w.guest("a").used = NEEDS;
    (0..20).for_each(|_| drop(second(&mut w)));
    w.guest("a").used = 100;
    w.total = 1000;
    (0..60).for_each(|_| drop(second(&mut w)));
    w.target("a")
}

#[test]
fn what_somebody_needed_a_minute_ago_is_taken_only_where_the_node_cannot_swap() {
    assert!(left_after_a_minute(0) < 300, "{}", left_after_a_minute(0));
    assert!(left_after_a_minute(4096) >= 400, "{}", left_after_a_minute(4096));
}

#[test]
fn who_goes_on_reading_its_files_is_given_room_for_them_where_the_node_can_swap() {
    let given = |swap: u64| {
        let mut w = crowd(0, 200);
        w.guests.iter_mut().for_each(|guest| guest.cache = 300);
        (0..120).for_each(|_| drop(second(&mut w)));
        let before = w.target("a");
        w.swap = swap;
        second(&mut w);
        let at = Monotonic::new(Duration::from_secs(w.now));
        w.state.note_pain(&World::id("a"), Pain::Rereads { per_second: mib(1) }, at);
        second(&mut w);
        (before, w.target("a"))
    };
    let (before, after) = given(4096);
    assert!(before < 450 && after > 500, "{before} {after}");
    let (before, after) = given(0);
    assert!(after <= before, "{before} {after}");
}
