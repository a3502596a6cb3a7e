//! Courses in which equal pages of guests are merged, by whomever: that is no budget, and no memory of anybody else.

#![allow(clippy::unwrap_used)] // helpers outside #[test] functions are test code too

use crate::world::{World, guest, mib, world};
use overcommit_core::ledger::Ledger;
use overcommit_core::sample::Ksm;
use overcommit_core::step::Turn;
use overcommit_core::units::Bytes;

/// What each of three guests holds, MiB, and what is there beside them.
const HELD: u64 = 400;
const OTHERS: u64 = 100;

/// What the kernel says of merging, MiB.
#[derive(Clone, Copy)]
struct Host {
    /// Its processes say what of them is merged (Linux 5.19).
    says: bool,
    /// What others save, or what the kernel still counts of guests that are gone.
    elsewhere: u64,
}

fn three() -> World {
    World { anon_other: OTHERS, ..world(4096, ["a", "b", "c"].map(|name| guest(name, 512, HELD)).to_vec()) }
}

/// A control period in which so much of each guest became one page for all three. They were looked at when it was `seen`.
fn tick(world: &mut World, host: Host, seen: u64, merged: u64) -> Ledger {
    world.now += 5;
    let mut sample = world.sample();
    let memory = &mut sample.host.memory;
    memory.anon = memory.anon.minus(mib(2 * merged));
    sample.host.ksm = Some(Ksm {
        sharing: mib(2 * merged + host.elsewhere),
        shared: mib(merged + host.elsewhere / 2),
        ..Ksm::default()
    });
    for facts in sample.guests.iter_mut().map(|guest| &mut guest.facts) {
        facts.repeated = if host.says { Some(mib(seen)) } else { facts.anon };
    }
    world.decide_on(&sample, Turn::Tick).ledger
}

/// 500 MiB are saved within five minutes: `(what was saved, the account)` of each control period.
fn course(host: Host) -> Vec<(Bytes, Ledger)> {
    let mut world = three();
    let seen = (0..=250).step_by(5);
    seen.map(|seen| (mib(2 * seen + 10), tick(&mut world, host, seen, seen + 5))).collect()
}

#[test]
fn five_hundred_mib_that_are_merged_change_no_budget_whether_guests_say_so_or_not() {
    let whole = Bytes::from_mib(4096 - OTHERS);
    for says in [true, false] {
        for (saved, ledger) in course(Host { says, elsewhere: 0 }) {
            let of = (ledger.budget, ledger.non_guest, ledger.non_guest_growth);
            assert_eq!(of, (whole, mib(OTHERS), Bytes::ZERO), "{saved} saved, {says}");
            assert_eq!(ledger.merged, saved);
        }
    }
}

#[test]
fn what_others_have_merged_is_no_budget_and_takes_no_more_of_it_than_one_of_each_page() {
    for (saved, ledger) in course(Host { says: true, elsewhere: 900 }) {
        // The first reading cannot know since when all that is merged.
        let first = ledger.non_guest == mib(OTHERS + 900);
        let (least, most) = (mib(OTHERS), mib(OTHERS + 10).plus(saved.scaled(1, 2)));
        assert!(ledger.non_guest >= least && (first || ledger.non_guest <= most), "{saved}: {ledger:?}");
    }
    for (saved, ledger) in course(Host { says: false, elsewhere: 900 }) {
        assert_eq!(ledger.non_guest, mib(OTHERS + 900).min(mib(OTHERS + 3 * HELD + 10).minus(saved)));
    }
}

#[test]
fn what_a_guest_maps_it_may_hold_whether_others_have_the_same_or_not() {
    let promised = |merged| {
        let mut world = three();
        tick(&mut world, Host { says: true, elsewhere: 0 }, merged, merged).promised
    };
    assert_eq!(promised(0), promised(250));
}
