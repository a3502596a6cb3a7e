//! What a guest is thought to need: how fast it grows, the most that it can be, and how long it is remembered.

#![allow(clippy::unwrap_used)] // helpers outside #[test] functions are test code too

use std::time::Duration;

use crate::world::{World, guest, mib, settle, view, world};
use overcommit_core::policy::Policy;
use overcommit_core::step::Turn;
use overcommit_core::units::{Bytes, Monotonic, Permille};
use overcommit_core::view::GuestView;

/// Words of a stamp, in seconds after the start, that were seen at a time in milliseconds after it: MiB used.
type Words = (u64, u64, u64);

/// A guest of 1 GiB that says this, one after the other.
fn says(words: &[Words]) -> GuestView {
    let mut w = world(4096, vec![guest("a", 1024, 100)]);
    settle(&mut w, 3);
    let start = w.now;
    let mut last = None;
    for (stamp, seen_at, used) in words {
        w.guest("a").used = *used;
        let mut sample = w.sample();
        sample.at = Monotonic::new(Duration::from_secs(start) + Duration::from_millis(*seen_at));
        sample.guests[0].balloon.as_mut().unwrap().last_update = Some(1_000_000 + start + stamp);
        last = Some(view(&w.decide_on(&sample, Turn::Relief), "a"));
    }
    last.unwrap()
}

#[test]
fn a_guest_grows_from_word_to_word_and_not_from_look_to_look() {
    let rise = |words: &[Words]| says(words).rise;
    assert_eq!(rise(&[(1, 1000, 100), (2, 2000, 130)]), mib(30));
    assert_eq!(rise(&[(1, 1900, 100), (2, 2000, 130)]), mib(30), "the first was seen 0.9 s late");
    // The last of the long period was seen late; a take made it short, and the next came a second after the look.
    let late = rise(&[(5, 10_000, 100), (11, 11_000, 160)]);
    assert!(late >= mib(10) && late <= mib(12), "60 MiB within six seconds: {late}");
    assert_eq!(rise(&[(1, 1990, 100), (3, 3000, 130)]), mib(30).scaled(100, 101), "whole seconds");
}

#[test]
fn no_guest_needs_more_than_it_may_have() {
    let grown = says(&[(1, 1000, 100), (2, 2000, 600)]);
    assert_eq!((grown.rise, grown.demand), (mib(500), mib(1024)), "(600 + 2 × 500) × 10 / 9 = 1778");
}

#[test]
fn the_headroom_of_the_policy_stays_usable() {
    let demand = |percent| {
        let mut w = world(4096, vec![guest("a", 1024, 300)]);
        w.policy.adaptive.headroom = Permille::from_percent(percent);
        settle(&mut w, 3);
        w.state.model().track(&World::id("a")).unwrap().demand
    };
    assert_eq!([25, 40, 50].map(demand), [400, 500, 600].map(mib));
    assert_eq!(demand(100), mib(1024), "where nothing may be used nobody has enough");
}

/// A fifth is usable: less than a policy without a headroom of its own leaves.
#[test]
fn who_is_left_less_by_its_policy_is_not_hurt_by_reading_its_files_with_less() {
    let hurts = |percent| {
        let mut w = world(4096, vec![guest("a", 1024, 819)]);
        w.policy.adaptive.headroom = Permille::from_percent(percent);
        settle(&mut w, 3);
        w.guest("a").faults += 1000;
        view(&w.tick(), "a").pain.is_some()
    };
    assert_eq!([25, 15].map(hurts), [true, false]);
}

#[test]
fn a_need_is_forgotten_by_new_words_and_not_by_what_others_say() {
    let mut w = world(4096, vec![guest("a", 1024, 600)]);
    settle(&mut w, 3);
    let demand = |w: &World| w.state.model().track(&World::id("a")).unwrap().demand;
    assert_eq!(demand(&w), mib(800));
    w.guest("a").used = 300;
    w.tick();
    assert_eq!(demand(&w), mib(775), "a sixteenth of what is needed no more");
    w.guest("a").reports = false;
    for _ in 0..5 {
        w.decide(1, Turn::Relief);
    }
    assert_eq!(demand(&w), mib(775));
    w.guest("a").reports = true;
    w.tick();
    assert!(demand(&w) < mib(775));
}

#[test]
fn a_policy_that_sets_nothing_of_this_is_written_and_read_as_by_builds_that_could_not() {
    let mut policy = crate::world::policy();
    let written = serde_json::to_string(&policy).unwrap();
    assert!(!written.contains("adaptive"), "{written}");
    assert_eq!(serde_json::from_str::<Policy>(&written).unwrap(), policy);
    policy.adaptive.headroom = Permille::from_percent(30);
    let written = serde_json::to_string(&policy).unwrap();
    assert_eq!(serde_json::from_str::<Policy>(&written).unwrap(), policy);
}

#[test]
fn what_was_needed_when_a_kernel_killed_is_needed_again_within_two_minutes() {
    // It grows by 60 MiB/s until 80 MiB are left, and all of that is gone with its next words.
    let full = [(1, 1000, 824), (2, 2000, 884), (3, 3000, 944)];
    let killed = [&full[..], &[(4, 4000, 40), (5, 5000, 40)]].concat();
    assert_eq!(says(&killed).demand, mib(1024), "(944 + 2 × 60) × 10 / 9 is more than it may have");
    // What is remembered of a need fades with each of its words: after 200 of them nothing is left of it.
    let fades = |from: u64, used: [u64; 2], to: u64| {
        let mut words = vec![(1, 1000, used[0] - 60), (2, 2000, used[0])];
        words.extend((from..to).step_by(3).map(|second| (second, second * 1000, used[1])));
        says(&words).demand
    };
    assert!(fades(3, [560, 40], 590) < mib(100), "it ended, and had plenty");
    assert_eq!(fades(3, [940, 40], 120), mib(1024));
    assert!(fades(3, [940, 40], 750) < mib(100), "nobody started it again");
    assert!(fades(3, [940, 600], 590) < mib(900), "most of it is still there");
}

/// A guest of 2 GiB of which it has 512 MiB, and uses 400.
fn small() -> World {
    let mut w = world(700, vec![guest("a", 2048, 400)]);
    w.guest("a").actual = 512;
    w.guest("a").follows = false;
    settle(&mut w, 3);
    w
}

/// Each second it says that it uses so much, and that its programs filled so much meanwhile, MiB.
fn goes_on(w: &mut World, seconds: u32, used: u64, filled: u64) -> Bytes {
    for _ in 0..seconds {
        (w.guest("a").used, w.guest("a").filled) = (used, w.guest("a").filled + filled);
        w.decide(1, Turn::Relief);
    }
    w.state.model().track(&World::id("a")).unwrap().demand
}

#[test]
fn who_fills_all_that_it_has_and_uses_next_to_nothing_then_was_killed() {
    let mut w = small();
    goes_on(&mut w, 1, 20, 100);
    assert!(goes_on(&mut w, 100, 20, 0) >= mib(400).scaled(10, 9));

    let mut w = small();
    goes_on(&mut w, 1, 20, 50);
    assert!(goes_on(&mut w, 100, 20, 0) < mib(40), "it ended before it had filled what was left");
}

#[test]
fn who_is_killed_again_and_again_needs_more_each_time() {
    let mut w = small();
    goes_on(&mut w, 1, 20, 100);
    assert_eq!(goes_on(&mut w, 1, 20, 500), mib(640));
    assert_eq!(goes_on(&mut w, 1, 20, 500), mib(800));
    assert_eq!(goes_on(&mut w, 110, 20, 0), mib(800));
    assert!(goes_on(&mut w, 200, 20, 0) < mib(40), "for two minutes");

    let mut w = small();
    w.guest("a").used = 20;
    settle(&mut w, 100);
    assert!(goes_on(&mut w, 100, 20, 500) < mib(40), "programs that come and go fill as much");
}

#[test]
fn who_lives_with_more_than_it_was_killed_for_tells_by_itself_what_it_needs() {
    let needs = |lives_with: u64| {
        let mut w = small();
        goes_on(&mut w, 1, 20, 100);
        w.guest("a").actual = 1024;
        goes_on(&mut w, 9, lives_with, 0);
        goes_on(&mut w, 100, 20, 0)
    };
    assert!(needs(500) >= mib(400).scaled(10, 9));
    assert!(needs(600) < mib(60));
}

#[test]
fn what_is_filled_within_minutes_tells_of_no_kill() {
    let mut w = small();
    (w.guest("a").used, w.guest("a").filled) = (20, 500);
    w.decide(5, Turn::Relief);
    assert!(goes_on(&mut w, 100, 20, 0) < mib(40));
}

/// It is killed at 700 MiB, and six others that merely hurt may have all that they ever had.
#[test]
fn who_was_killed_in_comes_before_what_others_ever_had() {
    let others = (0..6).map(|n| guest(&format!("b{n}"), 1024, 300));
    let mut w = world(3000, std::iter::once(guest("a", 2048, 600)).chain(others).collect());
    w.guests.iter_mut().for_each(|g| g.actual = if g.full == 2048 { 700 } else { 380 });
    settle(&mut w, 3);
    (w.guest("a").used, w.guest("a").filled) = (20, 200);
    for _ in 0..12 {
        w.guests[1..].iter_mut().for_each(|g| g.swap_in += 50);
        w.turn(1, Turn::Tick);
    }
    assert!(w.target("a") >= 660, "{} and {}", w.target("a"), w.target("b0"));
}

/// Both together lack what neither has; one of them hurts, and the other used 100 MiB less a second ago.
#[test]
fn who_grows_is_left_what_it_will_use_before_who_hurts_has_all_that_it_ever_had() {
    let mut w = world(900, vec![guest("grows", 600, 100), guest("hurts", 600, 330)]);
    w.guests.iter_mut().for_each(|guest| (guest.actual, guest.period) = (450, 1));
    settle(&mut w, 3);
    w.turn(1, Turn::Relief);
    w.guest("grows").used = 200;
    w.guest("hurts").swap_in += 50;
    w.turn(1, Turn::Relief);
    assert!(w.target("grows") >= 440, "{} and {}", w.target("grows"), w.target("hurts"));
}
