//! What is taken within one control period, and of whom.

#![allow(clippy::unwrap_used)] // helpers outside #[test] functions are test code too

use std::time::Duration;

use crate::world::{World, guest, mib, settle, world};
use overcommit_core::step::Turn;
use overcommit_core::units::{Amount, Monotonic};

/// Milliseconds after the moment at which a tick is due; its sample is of when hypervisors had answered.
const ANSWERED: [u64; 6] = [90, 3, 60, 12, 88, 1];
/// A tenth of a guest of 1000 MiB.
const STEP: u64 = 100;

/// A turn whose sample is so many milliseconds late.
fn tick(w: &mut World, late: u64) {
    w.now += 5;
    let mut sample = w.sample();
    sample.at = Monotonic::new(Duration::from_secs(w.now) + Duration::from_millis(late));
    let decision = w.decide_on(&sample, Turn::Tick);
    w.obey(&decision);
}

/// How many ticks it takes until no more is promised than there is, once so many MiB are gone.
fn ticks_until_paid(lacking: u64) -> usize {
    let mut w = world(2000, vec![guest("idle", 1000, 50), guest("busy", 1000, 900)]);
    settle(&mut w, 3);
    w.anon_other = lacking;
    let due = w.target("idle") - lacking;
    let mut late = ANSWERED.into_iter().cycle();
    (1..20)
        .find(|_| {
            tick(&mut w, late.next().unwrap());
            w.target("idle") <= due
        })
        .unwrap()
}

#[test]
fn what_is_short_is_taken_in_as_many_ticks_as_it_has_steps_however_late_hypervisors_answer() {
    for steps in 1..=7 {
        let ticks = ticks_until_paid(steps * STEP);
        let most = usize::try_from(steps).unwrap() + 2;
        assert!(ticks <= most, "{steps} steps took {ticks} ticks");
    }
}

#[test]
fn ticks_that_come_early_take_no_more_in_the_long_run() {
    let mut w = world(4000, vec![guest("idle", 4000, 50)]);
    settle(&mut w, 3);
    w.policy.interval = Duration::from_secs(10);
    w.policy.limits.take_per_guest = Amount::Bytes(mib(200));
    w.anon_other = 3000;
    let from = w.target("idle");
    // Each comes a tenth early: ten of them within nine periods, and one that began with the first.
    for _ in 0..10 {
        w.turn(9, Turn::Tick);
    }
    assert!(from - w.target("idle") <= 9 * 200, "{from} → {}", w.target("idle"));
}
