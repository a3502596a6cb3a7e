//! Guests that together need more than there is: some have all that they need while the others wait, in an order that goes round.

#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, clippy::indexing_slicing)] // helpers outside #[test] functions are test code too

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::world::{Guest, World, guest, mib, settle, view, world};
use overcommit_core::plan::Move;
use overcommit_core::policy::Class;
use overcommit_core::reason::{FloorKind, Reason};
use overcommit_core::step::{Decision, Turn};
use overcommit_core::turns::Place;
use overcommit_core::units::Bytes;
use overcommit_core::view::GuestView;

const NEEDS: u64 = 440;

/// Four guests of 512 MiB on a host that has all that two of them need, and what the others keep.
fn crowd() -> World {
    let guests = ["a", "b", "c", "d"].map(|name| Guest { period: 1, ..guest(name, 512, 100) });
    let mut w = world(1280, guests.to_vec());
    settle(&mut w, 20);
    w.guests.iter_mut().for_each(|guest| guest.used = NEEDS);
    w
}

/// A second in which everybody swaps who lacks anything.
fn second(w: &mut World) -> Decision {
    second_without_swap_of(w, "nobody")
}

/// The same, but one has no swap, and reads its files again instead.
fn second_without_swap_of(w: &mut World, name: &str) -> Decision {
    for guest in w.guests.iter_mut().filter(|guest| guest.actual < guest.used) {
        if guest.name == name {
            guest.faults += 500;
        } else {
            guest.swap_in += 5;
        }
    }
    let turn = if w.now % 5 == 4 { Turn::Tick } else { Turn::Relief };
    w.turn(1, turn)
}

/// For how many of so many seconds each had what it needs.
fn whole(w: &mut World, seconds: u64) -> BTreeMap<String, u64> {
    let mut had: BTreeMap<String, u64> = w.guests.iter().map(|guest| (guest.name.clone(), 0)).collect();
    for _ in 0..seconds {
        second(w);
        for guest in w.guests.iter().filter(|guest| guest.actual >= NEEDS) {
            *had.get_mut(&guest.name).unwrap() += 1;
        }
    }
    had
}

/// For how many seconds of an hour of turns each had what it needs: two of four at a time, but for the changes.
fn whole_in_an_hour(w: &mut World) -> BTreeMap<String, u64> {
    until_turns(w);
    let had = whole(w, 3600);
    assert!(had.values().sum::<u64>() > 3600 * 3 / 2, "{had:?}");
    had
}

/// The same, and nobody much less than another.
fn all_have_their_part_of_an_hour(mut w: World) {
    let had = whole_in_an_hour(&mut w);
    let (least, most) = (*had.values().min().unwrap(), *had.values().max().unwrap());
    assert!(most - least < 360, "{had:?}");
}

/// The crowd, of kernels that keep a part of what they have free for themselves.
fn crowd_that_keeps_some_usable() -> World {
    let mut w = crowd();
    w.guests.iter_mut().for_each(|guest| guest.keeps_usable = 8);
    w
}

fn until_turns(w: &mut World) -> u64 {
    (1..120).find(|_| second(w).turns).unwrap()
}

#[test]
fn some_are_served_whole_and_everybody_in_turn() {
    all_have_their_part_of_an_hour(crowd());
}

/// Real ones of 80 MiB had a tenth usable while they read 20 MiB/s from their swap: their use followed their cap all the same.
#[test]
fn whose_kernel_keeps_some_free_while_it_thrashes_is_served_whole_too() {
    all_have_their_part_of_an_hour(crowd_that_keeps_some_usable());
}

/// Room for what two of them need and not for more: who is nearly whole hurts a while longer, and would be thrown out for a bit more.
#[test]
fn whose_turn_it_is_keeps_it_while_there_is_nothing_more_for_it() {
    let mut w = crowd_that_keeps_some_usable();
    w.total = 4 * 128 + 732;
    whole_in_an_hour(&mut w);
}

/// Its neighbour has swapped, and could be asked to wait for something; but all that it does not need is given already.
#[test]
fn no_turns_are_taken_where_nobody_has_to_wait() {
    let mut w = crowd();
    w.total = 720;
    w.guests.iter_mut().for_each(|guest| (guest.used, guest.keeps_usable) = (100, 8));
    settle(&mut w, 20);
    for name in ["a", "b"] {
        w.guest(name).used = NEEDS;
    }
    (0..10).for_each(|_| drop(second_without_swap_of(&mut w, "a")));
    w.guest("b").used = 100;
    let turns: Vec<bool> = (0..600).map(|_| second_without_swap_of(&mut w, "a").turns).collect();
    let last = turns.iter().rposition(|taken| *taken);
    assert!(last.is_none_or(|second| second < 90), "as long as nothing is taken from it: {last:?}");
}

/// A tenth of what all use is as much as one of them lacks. Three of them grow first, and what they do not need is lent.
#[test]
fn nobody_waits_for_the_headroom_of_the_others() {
    let mut w = crowd();
    w.total = 4 * 300 + 90;
    w.guests.iter_mut().for_each(|guest| guest.used = 100);
    for names in [["a", "b", "c"].as_slice(), &["d"]] {
        for name in names {
            w.guest(name).used = 300;
        }
        (0..300).for_each(|_| drop(second(&mut w)));
    }
    for _ in 0..600 {
        let decision = second(&mut w);
        assert!(w.guests.iter().all(|guest| guest.actual >= 300), "{:?}", w.guests);
        assert!(decision.guests.iter().all(|view| view.turn.is_none()), "all have what they need");
    }
}

#[test]
fn twice_the_weight_is_twice_the_time() {
    let mut w = crowd();
    let heavy = Class { name: Arc::from("heavy"), weight: 200, ..w.policy.classes[0].clone() };
    w.policy.classes.push(heavy);
    w.guest("a").weight_class = "heavy";
    // One at a time: what one has another has not.
    w.total = 1000;
    until_turns(&mut w);
    let mut served: BTreeMap<String, u64> = BTreeMap::new();
    for _ in 0..7200 {
        let decision = second(&mut w);
        let has_its_turn = |view: &&GuestView| matches!(view.turn, Some(Place::Served { .. }));
        for view in decision.guests.iter().filter(has_its_turn) {
            *served.entry(view.id.to_string()).or_default() += 1;
        }
    }
    for other in ["b", "c", "d"] {
        let ratio = served["a"] * 10 / served[other];
        assert!((17..=23).contains(&ratio), "{served:?}");
    }
}

#[test]
fn a_turn_lasts_as_long_as_the_policy_says() {
    let ends = |minutes| {
        let mut w = crowd();
        w.policy.adaptive.turn = Duration::from_mins(minutes);
        until_turns(&mut w);
        let (mut served, mut ends) = (BTreeSet::new(), 0);
        for _ in 0..3600 {
            let decision = second(&mut w);
            let has_its_turn = |view: &&GuestView| matches!(view.turn, Some(Place::Served { .. }));
            let now: BTreeSet<_> =
                decision.guests.iter().filter(has_its_turn).map(|view| view.id.clone()).collect();
            ends += served.difference(&now).count();
            served = now;
        }
        ends
    };
    for (minutes, ends) in [1, 2, 10, 30].map(|minutes| (minutes, ends(minutes))) {
        // Two at a time for an hour, but for what changes take: half a minute each.
        let turns = 2 * 60 / usize::try_from(minutes).unwrap();
        assert!(ends * 2 >= turns && ends * 3 <= turns * 4, "{ends} ended of {turns}");
    }
}

#[test]
fn who_waits_keeps_what_its_class_and_its_pod_were_promised() {
    let mut w = crowd();
    w.guests.iter_mut().for_each(|guest| guest.request = Some(200));
    // One at a time, with little left.
    w.total = 4 * 200 + 300;
    until_turns(&mut w);
    let mut waited = false;
    for _ in 0..600 {
        let decision = second(&mut w);
        for view in decision.guests.iter().filter(|view| view.turn == Some(Place::Waits)) {
            assert!(view.target >= mib(200) && view.floor_kind == FloorKind::Request, "{view:?}");
            waited |= view.target < mib(220) && view.reason == Reason::WaitsItsTurn;
        }
    }
    assert!(waited, "{:?}", w.guests.iter().map(|g| w.target(&g.name)).collect::<Vec<_>>());
}

/// A kernel without swap would kill.
#[test]
fn who_was_never_seen_to_swap_does_not_wait() {
    let mut w = crowd();
    let mut least = Bytes::MAX;
    for _ in 0..600 {
        second_without_swap_of(&mut w, "a");
        least = least.min(mib(w.target("a")));
    }
    assert!(least >= mib(1280 / 4 - 8), "its part, and never less: {least}");
}

/// Nothing is taken for half a minute from those whose last take hurt: they cannot wait yet, and lack memory all the same.
#[test]
fn turns_begin_as_soon_where_the_pain_undoes_the_last_takes() {
    let mut w = crowd();
    w.guests.iter_mut().for_each(|guest| guest.used = 100);
    w.total -= 60;
    let taken = (0..20).find(|_| second(&mut w).plan.moves().iter().any(Move::takes));
    assert!(taken.is_some());
    w.guests.iter_mut().for_each(|guest| guest.used = NEEDS);
    let mut undone = false;
    let begun = (1..120).find(|_| {
        let decision = second(&mut w);
        undone |= decision.guests.iter().any(|view| view.failure.is_some());
        decision.turns
    });
    assert!(undone && begun.is_some_and(|seconds| seconds <= 20), "{undone}, {begun:?} s");
}

#[test]
fn pain_that_is_over_soon_makes_nobody_wait() {
    let mut w = crowd();
    for _ in 0..5 {
        assert!(!second(&mut w).turns);
    }
    w.guests.iter_mut().for_each(|guest| guest.used = 100);
    for _ in 0..60 {
        assert!(!second(&mut w).turns);
    }
}

#[test]
fn turns_end_when_there_is_enough_for_all() {
    let mut w = crowd();
    until_turns(&mut w);
    whole(&mut w, 300);
    w.total = 4096;
    let over = (0..120).find(|_| !second(&mut w).turns);
    assert!(over.is_some_and(|seconds| seconds < 60), "{over:?}");
    settle(&mut w, 20);
    let decision = w.tick();
    for name in ["a", "b", "c", "d"] {
        let view = view(&decision, name);
        assert!(view.target == view.full && view.turn.is_none(), "{view:?}");
    }
}

/// That it hurts when it has to wait is expected, and no reason to undo the take and never to try again.
#[test]
fn what_is_taken_for_a_turn_is_not_undone_because_it_hurts() {
    let mut w = crowd();
    until_turns(&mut w);
    for _ in 0..1200 {
        let decision = second(&mut w);
        let waits = |view: &&GuestView| view.turn == Some(Place::Waits);
        for view in decision.guests.iter().filter(waits) {
            assert!(!matches!(view.reason, Reason::Undo(_)), "{view:?}");
        }
    }
}

/// What its last kernel did says nothing of a swap that the present one may lack.
#[test]
fn who_has_rebooted_does_not_wait_before_it_is_seen_to_swap_again() {
    let mut w = crowd();
    until_turns(&mut w);
    whole(&mut w, 300);
    w.guest("a").swap_in = 0;
    for _ in 0..600 {
        let decision = second_without_swap_of(&mut w, "a");
        assert!(view(&decision, "a").turn != Some(Place::Waits), "{:?}", view(&decision, "a"));
    }
}

/// Nobody would go on with them.
#[test]
fn a_hand_over_and_a_pause_leave_nobody_waiting() {
    for paused in [false, true] {
        let mut w = crowd();
        until_turns(&mut w);
        whole(&mut w, 100);
        w.paused = paused;
        let decision = w.turn(1, if paused { Turn::Tick } else { Turn::Handover });
        assert!(!decision.turns && decision.guests.iter().all(|view| view.turn.is_none()), "{decision:?}");
    }
}

/// Smaller ones fit beside each other all the time; it fits while some of them wait.
#[test]
fn a_large_guest_among_small_ones_has_its_turn() {
    let small = |n: u64| Guest { period: 1, ..guest(&format!("small-{n}"), 512, 100) };
    let mut guests = vec![Guest { period: 1, ..guest("large", 1024, 200) }];
    guests.extend((0..6).map(small));
    let mut w = world(256 + 6 * 128 + 780, guests);
    settle(&mut w, 30);
    for guest in &mut w.guests {
        guest.used = if guest.name == "large" { 900 } else { 300 };
    }
    until_turns(&mut w);
    let mut large = 0;
    for _ in 0..3600 {
        second(&mut w);
        large += u64::from(w.guest("large").actual >= 900);
    }
    assert!(large > 360, "{large} s of an hour");
}

#[test]
fn who_cannot_wait_gives_what_it_does_not_use_any_more() {
    let mut w = crowd();
    for _ in 0..300 {
        second_without_swap_of(&mut w, "a");
    }
    assert!(w.target("a") >= 300, "{}", w.target("a"));
    w.guest("a").used = 80;
    for _ in 0..120 {
        second_without_swap_of(&mut w, "a");
    }
    assert!(w.target("a") < 250, "{}", w.target("a"));
}

/// It uses next to nothing when its kernel has killed in it, and its programs are started anew.
#[test]
fn who_cannot_wait_keeps_what_it_was_killed_for_until_that_counts_no_more() {
    let mut w = crowd();
    for _ in 0..300 {
        second_without_swap_of(&mut w, "a");
    }
    let had = w.target("a");
    (w.guest("a").used, w.guest("a").filled) = (80, 500);
    for _ in 0..100 {
        second_without_swap_of(&mut w, "a");
    }
    assert!(w.target("a") >= had, "{} of {had}", w.target("a"));
    for _ in 0..140 {
        second_without_swap_of(&mut w, "a");
    }
    assert!(w.target("a") < 250, "{}", w.target("a"));
}
