//! Courses of guests into which memory is plugged.

#![allow(clippy::unwrap_used)] // helpers outside #[test] functions are test code too

use crate::world::{World, guest, mib, settle, view, world};
use overcommit_core::conduct::Trust;
use overcommit_core::reason::{Hold, Reason};
use overcommit_core::step::Turn;

#[test]
fn plugged_memory_is_promised_although_nothing_in_it_is_touched() {
    let mut w = world(2048, vec![guest("a", 512, 60), guest("b", 512, 60)]);
    assert_eq!(w.tick().ledger.promised, mib(1024));
    w.guest("a").plugged = 700;
    let ledger = w.tick().ledger;
    assert_eq!((ledger.promised, ledger.plugged), (mib(1024 + 700), mib(700)));
}

#[test]
fn no_balloon_is_asked_for_plugged_memory_and_others_make_room_for_it() {
    let mut w = world(1100, vec![guest("a", 512, 60), guest("b", 512, 60)]);
    w.guest("a").plugged = 400;
    settle(&mut w, 20);
    assert!(w.target("a") >= 128 && w.target("b") >= 128, "floors are those of the balloon's part");
    let ledger = w.tick().ledger;
    assert_eq!(ledger.shortfall, mib(0));
    assert!(ledger.promised <= mib(1100) && ledger.promised >= mib(1080), "{ledger:?}");
}

#[test]
fn a_give_is_paid_for_at_its_price_whatever_is_plugged() {
    let mut w = world(1100, vec![guest("a", 512, 60), guest("b", 512, 60)]);
    w.guest("a").plugged = 400;
    settle(&mut w, 20);
    w.guest("a").swap_in += 50;
    w.turn(1, Turn::Relief);
    let ledger = w.tick().ledger;
    assert!(ledger.promised <= mib(1100), "{ledger:?}");
}

#[test]
fn nothing_is_taken_while_memory_is_being_plugged_and_giving_goes_on() {
    let mut w = world(800, vec![guest("a", 512, 60), guest("b", 512, 60)]);
    settle(&mut w, 12);
    let before = w.target("a");
    assert!(before < 512);
    w.guest("a").plugging = true;
    w.total = 700;
    settle(&mut w, 5);
    assert_eq!(view(&w.tick(), "a").reason, Reason::Held(Hold::Plugging));
    assert_eq!(w.target("a"), before);
    w.guest("a").swap_in += 50;
    w.total = 2048;
    w.turn(1, Turn::Relief);
    assert_eq!(w.target("a"), 512);
}

#[test]
fn a_guest_that_fills_what_was_plugged_is_not_accused_of_lying() {
    let mut w = world(1400, vec![guest("a", 512, 60), guest("b", 512, 60)]);
    w.guest("a").plugged = 600;
    settle(&mut w, 2);
    assert!(w.target("a") < 512);
    w.guest("a").used = 600;
    settle(&mut w, 10);
    let a = view(&w.tick(), "a");
    assert_eq!(a.trust, Trust::Trusted, "{a:?}");
}

#[test]
fn the_cgroups_limit_and_the_request_are_for_both_parts() {
    let mut w = world(4096, vec![guest("a", 512, 60)]);
    let a = w.guest("a");
    (a.plugged, a.limit, a.request) = (600, Some(1000), Some(900));
    w.tick();
    let track = w.state.model().track(&World::id("a")).unwrap();
    assert_eq!(track.cap(), mib(400));
    assert_eq!(view(&w.tick(), "a").floor, mib(300));
}

#[test]
fn a_reboot_with_plugged_memory_ends_when_it_is_plugged_again() {
    let mut w = world(1200, vec![guest("a", 512, 60), guest("b", 512, 60)]);
    settle(&mut w, 3);
    w.guest("a").plugged = 500;
    w.guest("a").swap_in = 1;
    settle(&mut w, 12);
    let before = w.target("a");
    assert!(before < 512);
    // A new kernel: its balloon is not up and its memory is not plugged yet, and the device says what it said.
    let a = w.guest("a");
    (a.swap_in, a.total) = (0, Some(512));
    let decision = w.decide(1, Turn::Tick);
    let charged = decision.ledger.promised;
    assert!(charged >= mib(512 + 500 + w.target("b")), "{charged}: nothing binds it");
    w.guest("a").total = None;
    settle(&mut w, 10);
    assert_ne!(view(&w.tick(), "a").reason, Reason::Held(Hold::Booting));
}

#[test]
fn more_plugged_than_the_host_has_is_no_proof_of_a_lie() {
    let mut w = world(200, vec![guest("a", 512, 60), guest("b", 512, 60)]);
    w.guest("a").plugged = 600;
    settle(&mut w, 2);
    assert!(w.target("a") < 512);
    w.guest("a").held = Some(900);
    for _ in 0..10 {
        let a = view(&w.tick(), "a");
        assert_eq!(a.trust, Trust::Trusted, "{a:?}");
    }
}
