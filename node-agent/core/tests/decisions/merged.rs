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

/// Who counts what guests hold.
#[derive(Clone, Copy, Debug)]
enum Counts {
    /// Their processes, which say what of them is merged.
    Processes,
    /// The same before Linux 5.19, which does not say it.
    OldProcesses,
    /// Cgroups of theirs; what is merged of all three is charged to the first.
    Cgroups,
}

/// What the kernel says of merging, MiB.
#[derive(Clone, Copy)]
struct Host {
    counts: Counts,
    /// What others save, having it in three places, or what the kernel still counts of guests that are gone.
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
    for (number, facts) in sample.guests.iter_mut().map(|guest| &mut guest.facts).enumerate() {
        match host.counts {
            Counts::Processes => facts.repeated = Some(mib(seen)),
            Counts::OldProcesses => facts.repeated = facts.anon,
            Counts::Cgroups => {
                let charged_elsewhere = mib(if number == 0 { 0 } else { seen });
                (facts.anon, facts.merging) =
                    (facts.anon.map(|a| a.minus(charged_elsewhere)), Some(mib(seen)));
            }
        }
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
fn five_hundred_mib_that_are_merged_change_no_budget_whoever_counts_them() {
    for (counts, since) in [(Counts::Processes, 0), (Counts::OldProcesses, 0), (Counts::Cgroups, 5)] {
        for (saved, ledger) in course(Host { counts, elsewhere: 0 }) {
            let of = (ledger.budget, ledger.non_guest, ledger.non_guest_growth);
            // What of the guests was merged after they were looked at may be others'.
            let want = (mib(4096 - OTHERS - since), mib(OTHERS + since), Bytes::ZERO);
            assert_eq!(of, want, "{saved} saved, {counts:?}");
            assert_eq!(ledger.merged, saved);
        }
    }
}

#[test]
fn what_others_have_merged_is_no_budget_whoever_counts_the_guests() {
    for counts in [Counts::Processes, Counts::OldProcesses, Counts::Cgroups] {
        // Of the pages themselves nobody tells whether guests' cgroups are charged for them.
        let most = if matches!(counts, Counts::Cgroups) { 900 + 450 + 5 } else { 900 };
        for (saved, ledger) in course(Host { counts, elsewhere: 900 }) {
            assert_eq!(ledger.non_guest, mib(OTHERS + most), "{saved} saved, {counts:?}");
        }
    }
}

#[test]
fn what_a_guest_maps_it_may_hold_whether_others_have_the_same_or_not() {
    let promised = |merged| {
        let mut world = three();
        tick(&mut world, Host { counts: Counts::Processes, elsewhere: 0 }, merged, merged).promised
    };
    assert_eq!(promised(0), promised(250));
}
