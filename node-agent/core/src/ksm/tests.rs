//! The rule, case by case.

#[path = "../../tests/decisions/measure.rs"]
mod measure;
mod properties;
mod readings;
mod world;

use std::time::Duration;

use super::*;
use crate::roster::KsmManager;
use crate::sample::HostMemory;
use world::{FOUND, STEP, World};

/// ksmd scans, and has been judged.
fn running() -> (World, Merging) {
    let (mut world, mut merging) = (World::new(), Merging::default());
    world.turns(&mut merging, 6);
    assert_eq!(world.knobs.run, 1);
    (world, merging)
}

#[test]
fn it_runs_when_memory_is_wanted_and_merges_what_there_is() {
    let (mut world, mut merging) = (World::new(), Merging::default());
    assert_eq!(world.turn(&mut merging).reason, Reason::TenantsSettle);
    assert_eq!((world.knobs, merging.held()), (FOUND, None), "nothing was touched");
    world.turns(&mut merging, 4);
    assert_eq!(world.knobs.run, 1);
    let plan = world.turns(&mut merging, 120);
    assert!(plan.merged >= Bytes::from_mib(2000), "{plan:?}");
    assert!(!plan.scan && matches!(plan.reason, Reason::Exhausted { .. }), "{plan:?}");
}

#[test]
fn each_objection_stops_it_and_says_why() {
    type Change = fn(&mut World);
    let cases: [(&str, Change, &str); 11] = [
        ("policy", |w| w.rule.mode = KsmMode::Off, "KsmOff"),
        ("manager", |w| w.manager = Some(KsmManager::KubeVirt), "KsmManaged"),
        ("release", |w| w.mandate = Mandate::Release, "KsmReleased"),
        ("hand-over", |w| w.turn = Turn::Handover, "KsmHandedOver"),
        ("pause", |w| w.mandate = Mandate::GiveOnly, "KsmPaused"),
        ("guests", |w| w.namespaces.clear(), "KsmNoGuests"),
        ("tenants", |w| w.namespaces.push(Some("other")), "KsmTenantsDiffer"),
        ("listed and not seen", |w| w.unseen = Some("other"), "KsmTenantsDiffer"),
        (
            "said to be in huge pages",
            |w| (w.huge, w.namespaces) = (true, vec![Some("a"), Some("b")]),
            "KsmTenantsDiffer",
        ),
        ("strangers", |w| w.strangers = 1, "KsmTenantUnknown"),
        ("plenty", |w| (w.available, w.promised) = (15 << 30, 1 << 30), "KsmNotNeeded"),
    ];
    for (what, change, code) in cases {
        let (mut world, mut merging) = running();
        change(&mut world);
        let plan = world.turn(&mut merging);
        assert_eq!((plan.reason.code(), plan.scan, world.knobs.run), (code, false, 0), "{what}");
    }
    let (mut world, mut merging) = (World::new(), Merging::default());
    (world.knobs.run, world.mandate) = (1, Mandate::GiveOnly);
    world.turns(&mut merging, 6);
    assert_eq!(merging.held(), None, "whoever is paused begins nothing");
    let (mut world, mut merging) = running();
    world.namespaces.push(None);
    assert_eq!(world.turn(&mut merging).reason, Reason::TenantUnknown { pods: 1 });
}

#[test]
fn what_ends_puts_the_knobs_back_and_holds_nothing() {
    let ends: [fn(&mut World); 5] = [
        |w| w.rule.mode = KsmMode::Off,
        |w| w.manager = Some(KsmManager::KubeVirt),
        |w| w.mandate = Mandate::Release,
        |w| w.turn = Turn::Handover,
        |w| w.mode = Mode::Observe,
    ];
    for end in ends {
        let (mut world, mut merging) = running();
        assert_ne!(world.knobs, FOUND);
        end(&mut world);
        let plan = world.turn(&mut merging);
        assert!(plan.ends);
        assert_eq!(world.knobs, FOUND);
        world.turn(&mut merging);
        assert_eq!(merging.held(), None);
    }
}

#[test]
fn observing_writes_nothing_and_says_what_would_be_done() {
    let (mut world, mut merging) = (World { mode: Mode::Observe, ..World::new() }, Merging::default());
    let plan = world.turns(&mut merging, 10);
    assert!(plan.scan && plan.observing && plan.writes.is_empty());
    assert_eq!(world.knobs, FOUND);
}

#[test]
fn the_kernels_advisor_is_taken_off_and_put_back() {
    let found = Knobs { run: 1, advisor: Advisor::ScanTime, pages_to_scan: 500, ..FOUND };
    let (mut world, mut merging) = (World { knobs: found, ..World::new() }, Merging::default());
    world.turns(&mut merging, 8);
    assert_eq!((world.knobs.run, world.knobs.advisor), (1, Advisor::None));
    world.mandate = Mandate::Release;
    world.turns(&mut merging, 2);
    let left = Knobs { pages_to_scan: found.pages_to_scan, ..world.knobs };
    assert_eq!((left, merging.held()), (found, None), "and what it sets by itself is its");
}

#[test]
fn one_that_dies_while_it_takes_the_advisor_off_or_puts_it_back_is_nobody_else_to_the_next() {
    let found = Knobs { run: 1, advisor: Advisor::ScanTime, pages_to_scan: 500, ..FOUND };
    // So many of the writes are made: of the first, or of those that put everything back.
    for (made, at_end) in [(0, false), (1, false), (2, false), (0, true), (1, true), (2, true)] {
        let (mut world, mut merging) = (World { knobs: found, ..World::new() }, Merging::default());
        if at_end {
            world.turns(&mut merging, 8);
            world.turn = Turn::Handover;
            world.pass();
        }
        let mut plan = world.decide(&mut merging);
        for _ in 0..20 {
            if plan.writes.iter().any(|write| write.knob == Knob::Advisor) {
                break;
            }
            world.pass();
            plan = world.decide(&mut merging);
        }
        plan.writes.truncate(made);
        world.write(&plan);
        let mut next = Merging::default();
        next.adopt(merging.held().unwrap().clone());
        world.turn = Turn::Tick;
        for turn in 0..12 {
            let plan = world.turn(&mut next);
            assert!(!plan.reason.is_conflict(), "{made}, {at_end}, turn {turn}: {:?}", plan.reason);
        }
        assert_eq!((world.knobs.run, world.knobs.advisor), (1, Advisor::None), "{made}, {at_end}");
        assert_ne!(world.knobs.pages_to_scan, 100, "{made}, {at_end}: it goes as fast as it should");
        world.mandate = Mandate::Release;
        world.turns(&mut next, 2);
        assert_eq!((world.knobs.run, world.knobs.advisor, next.held()), (1, Advisor::ScanTime, None));
    }
}

#[test]
fn whoever_turns_the_advisor_on_has_the_knobs_from_then_on() {
    for stopped in [false, true] {
        let (mut world, mut merging) = running();
        if stopped {
            world.namespaces.push(Some("other"));
            world.turns(&mut merging, 2);
        }
        let ours = world.knobs.pages_to_scan;
        world.write_advisor(true);
        // What it chooses is what was ours, by chance.
        world.knobs.pages_to_scan = ours - 14;
        let plan = world.turns(&mut merging, 2);
        assert_eq!((plan.reason.code(), world.knobs.pages_to_scan), ("KsmAdvised", ours));
        assert!(plan.reason.to_string().contains("advisor_mode became scan-time"), "{}", plan.reason);
        let left = (world.knobs.run, world.knobs.sleep_millisecs, world.knobs.advisor);
        assert_eq!(
            left,
            (FOUND.run, FOUND.sleep_millisecs, Advisor::ScanTime),
            "what is still ours is put back"
        );
        // Off again, it is still theirs, and what the kernel sets then nobody's mistake.
        world.write_advisor(false);
        let knobs = world.knobs;
        assert_eq!(world.turns(&mut merging, 5).reason.code(), "KsmAdvised");
        assert_eq!(world.knobs, knobs);
        world.rule.mode = KsmMode::Off;
        world.turn(&mut merging);
        (world.rule.mode, world.namespaces) = (KsmMode::Auto, vec![Some("a")]);
        world.turns(&mut merging, 6);
        assert_eq!(world.knobs.run, 1);
    }
}

#[test]
fn what_runs_already_is_stopped_while_it_must_not_and_runs_again_afterwards() {
    let found = Knobs { run: 1, ..FOUND };
    let world = World { knobs: found, namespaces: vec![Some("a"), Some("b")], ..World::new() };
    let (mut world, mut merging) = (world, Merging::default());
    world.turn(&mut merging);
    assert_eq!(world.knobs.run, 0);
    world.rule.mode = KsmMode::Off;
    world.turns(&mut merging, 2);
    assert_eq!(world.knobs, found);
}

#[test]
fn a_knob_that_somebody_else_writes_is_his_until_the_policy_was_off() {
    let (mut world, mut merging) = running();
    let sleep = |world: &mut World| world.knobs.sleep_millisecs = 77;
    sleep(&mut world);
    let plan = world.turn(&mut merging);
    assert!(
        plan.scan && plan.writes.iter().all(|w| w.knob == Knob::PagesToScan),
        "it may be between two writes"
    );
    let plan = world.turn(&mut merging);
    let foreign = Foreign { knob: Knob::SleepMillisecs, found: 77 };
    assert_eq!(plan.reason, Reason::Yielded(foreign));
    assert!(plan.reason.to_string().contains("sleep_millisecs became 77"));
    let left = Knobs { sleep_millisecs: 77, ..FOUND };
    assert_eq!(world.knobs, left, "what is still ours is put back");
    // Also by a successor, who knows of it from the journal.
    let mut next = Merging::default();
    next.adopt(merging.held().unwrap().clone());
    assert_eq!(world.turns(&mut next, 20).reason, Reason::Yielded(foreign));
    assert_eq!(world.knobs, left);
    world.rule.mode = KsmMode::Off;
    world.turn(&mut next);
    assert_eq!((world.knobs, next.held()), (left, None));
    world.rule.mode = KsmMode::Auto;
    world.turns(&mut next, 6);
    assert_eq!(world.knobs.run, 1);
}

/// Somebody wrote `run`, and that is sure.
fn yielded(theirs: u64) -> (World, Merging) {
    let (mut world, mut merging) = running();
    if theirs == 1 {
        world.namespaces.push(Some("other"));
        world.turns(&mut merging, 2);
    }
    assert_ne!(world.knobs.run, theirs);
    world.knobs.run = theirs;
    let plan = world.turns(&mut merging, 2);
    assert_eq!(plan.reason, Reason::Yielded(Foreign { knob: Knob::Run, found: theirs }));
    (world, merging)
}

#[test]
fn whether_to_run_is_his_who_wrote_it_each_time() {
    for theirs in [0, 1] {
        let (mut world, mut merging) = yielded(theirs);
        assert_eq!(world.knobs, Knobs { run: theirs, ..FOUND }, "what is still ours is put back");
        for run in [0, 1, 1, 0, 1] {
            world.knobs.run = run;
            world.turns(&mut merging, 3);
            assert_eq!(world.knobs.run, run);
        }
    }
}

#[test]
fn a_write_that_failed_is_made_again_and_what_it_was_to_change_is_still_known() {
    let (mut world, mut merging) = (World::new(), Merging::default());
    world.turns(&mut merging, 4);
    world.pass();
    assert!(!world.decide(&mut merging).writes.is_empty(), "and it is lost");
    world.namespaces.push(Some("other"));
    world.turn(&mut merging);
    world.knobs.run = 1;
    let plan = world.turns(&mut merging, 2);
    assert_eq!((plan.reason.code(), world.knobs.run), ("KsmYielded", 1));
}

#[test]
fn while_something_is_written_nothing_is_decided_and_what_is_read_says_nothing() {
    let (mut world, mut merging) = running();
    world.namespaces.push(Some("other"));
    world.pass();
    let late = world.decide(&mut merging);
    assert!(!late.writes.is_empty());
    merging.note_writing(true);
    world.namespaces.pop();
    for _ in 0..6 {
        world.pass();
        assert_eq!(world.decide(&mut merging).writes, []);
    }
    world.write(&late);
    merging.note_writing(false);
    assert!(!world.turns(&mut merging, 3).reason.is_conflict());
    assert_eq!(world.knobs.run, 1);
}

#[test]
fn beside_somebody_else_run_is_put_back_only_where_it_surely_is_as_it_was_set() {
    let (mut world, mut merging) = running();
    world.namespaces.push(Some("other"));
    world.pass();
    assert!(world.decide(&mut merging).writes.iter().any(|write| write.knob == Knob::Run), "and it is lost");
    world.manager = Some(KsmManager::KubeVirt);
    world.turns(&mut merging, 3);
    assert_eq!(world.knobs, Knobs { run: 1, ..FOUND });
}

#[test]
fn that_the_knobs_are_somebody_elses_is_known_until_the_policy_was_off() {
    let ends: [fn(&mut World); 3] =
        [|w| w.turn = Turn::Handover, |w| w.manager = Some(KsmManager::KubeVirt), |w| w.mode = Mode::Observe];
    for end in ends {
        let (mut world, mut merging) = yielded(0);
        end(&mut world);
        world.turns(&mut merging, 3);
        let mut next = Merging::default();
        next.adopt(merging.held().unwrap().clone());
        (world.turn, world.manager, world.mode) = (Turn::Tick, None, Mode::Enforce);
        assert_eq!(world.turns(&mut next, 6).reason.code(), "KsmYielded");
        assert_eq!(world.knobs, FOUND);
    }
    for end in [|w: &mut World| w.rule.mode = KsmMode::Off, |w: &mut World| w.mandate = Mandate::Release] {
        let (mut world, mut merging) = yielded(1);
        end(&mut world);
        assert!(world.turn(&mut merging).writes.is_empty());
        assert_eq!(merging.held(), None);
    }
}

#[test]
fn a_value_that_changed_while_nobody_looked_is_not_overwritten() {
    let (mut world, merging) = running();
    let mut next = Merging::default();
    next.adopt(merging.held().unwrap().clone());
    world.knobs.pages_to_scan = 4321;
    let plan = world.turns(&mut next, 3);
    assert_eq!(plan.reason.code(), "KsmYielded");
    assert_eq!(world.knobs, Knobs { pages_to_scan: 4321, ..FOUND });
    // Put back by whoever died before it could say so.
    let mut next = Merging::default();
    next.adopt(merging.held().unwrap().clone());
    world.knobs = FOUND;
    world.turn(&mut next);
    assert_ne!(next.held().and_then(|held| held.yielded), Some(Foreign { knob: Knob::Run, found: 0 }));
    world.turns(&mut next, 6);
    assert_eq!(world.knobs.run, 1);
}

#[test]
fn a_successor_goes_on_whether_the_last_writes_were_made_or_not() {
    let (mut world, mut merging) = running();
    for made in [true, false] {
        world.pass();
        world.cost *= 2;
        let plan = world.turns(&mut merging, 1);
        let last = world.decide(&mut merging);
        if made {
            world.write(&last);
        }
        drop(plan);
        let mut next = Merging::default();
        next.adopt(merging.held().unwrap().clone());
        assert!(!world.turns(&mut next, 4).reason.is_conflict());
        world.mandate = Mandate::Release;
        world.turns(&mut next, 2);
        assert_eq!((world.knobs, next.held()), (FOUND, None));
        (world, merging) = running();
    }
}

#[test]
fn a_stop_that_no_journal_knows_of_is_nobody_elses_to_the_next() {
    for by_hand in [false, true] {
        let (mut world, mut merging) = running();
        // The disk is full from now on.
        let journal = merging.held().unwrap().clone();
        if by_hand {
            world.knobs.run = 0;
        } else {
            world.mandate = Mandate::GiveOnly;
            world.turns(&mut merging, 2);
        }
        assert_eq!(world.knobs.run, 0);
        let mut next = Merging::default();
        next.adopt(journal);
        world.mandate = Mandate::Full;
        let plan = world.turns(&mut next, 6);
        assert_eq!((plan.reason.is_conflict(), world.knobs.run), (by_hand, u64::from(!by_hand)), "{plan:?}");
        world.mandate = Mandate::Release;
        world.turns(&mut next, 2);
        assert_eq!((world.knobs, next.held()), (FOUND, None));
    }
}

#[test]
fn a_stop_by_ksmtuned_mom_or_kubevirt_is_never_taken_for_one_of_ours() {
    let (world, merging) = running();
    let journal = merging.held().unwrap().clone();
    let by_total = (1..=1024).map(|half_gib: u64| (10 * 32 / half_gib).max(10));
    let by_used = (2..=1024).map(|half_gib: u64| (100 * 32 / half_gib).max(10));
    let others = by_total.chain(by_used).chain([20, 100, 200, 1000, 2000, 4000, 5000]);
    for sleep_millisecs in others {
        let (mut world, mut next) = (world.clone(), Merging::default());
        next.adopt(journal.clone());
        (world.knobs.run, world.knobs.sleep_millisecs) = (0, sleep_millisecs);
        let plan = world.turns(&mut next, 2);
        assert!(plan.reason.is_conflict(), "{sleep_millisecs}: {:?}", plan.reason);
    }
}

#[test]
fn counters_that_cannot_be_read_are_not_taken_for_a_kernel_without_any() {
    let (mut world, mut merging) = running();
    let knobs = world.knobs;
    world.unread = true;
    let plan = world.turn(&mut merging);
    assert_eq!((plan.reason, plan.writes, world.knobs), (Reason::NoKnobs, Vec::new(), knobs));
}

#[test]
fn for_another_tenant_it_is_stopped_though_its_knobs_cannot_be_read_until_it_is_seen_to_rest() {
    let (mut world, mut merging) = running();
    let sleep = world.knobs.sleep_millisecs;
    world.unread = true;
    world.namespaces = vec![Some("a"), Some("b")];
    world.turn(&mut merging);
    assert_eq!(world.knobs.run, 0);
    // That was refused.
    (world.knobs.run, world.knobs.sleep_millisecs) = (1, sleep);
    world.turn(&mut merging);
    assert_eq!(world.knobs.run, 0);
    world.unread = false;
    let plan = world.turn(&mut merging);
    assert_eq!((plan.reason, world.knobs.run), (Reason::TenantsDiffer { namespaces: 2 }, 0));
    world.namespaces = vec![Some("a")];
    world.turns(&mut merging, 8);
    assert_eq!(world.knobs.run, 1, "it goes on by itself");
}

#[test]
fn where_memory_is_short_it_takes_half_of_a_cpu_whatever_it_took_before() {
    let share = |world: &mut World, merging: &mut Merging| {
        let before = world.cpu;
        world.turn(merging);
        (world.cpu - before).as_millis() * 1000 / STEP.as_millis()
    };
    // So little is left to merge that it goes slower, and the scan goes on.
    let (mut world, mut merging) = (World { cost: 12_000, ..World::large(40) }, Merging::default());
    while !matches!(merging.told, Reason::Slower { .. }) {
        world.turn(&mut merging);
        assert!(world.at < Duration::from_hours(12), "{:?}", merging.told);
    }
    world.turns(&mut merging, 2);
    assert!(share(&mut world, &mut merging) < 150);
    world.available = 50 << 30;
    world.turns(&mut merging, 2);
    let pressed = share(&mut world, &mut merging);
    assert!((430..=550).contains(&pressed), "{pressed}");
    // While it only notes what there is, too.
    let (mut world, mut merging) = (World { available: 50 << 30, ..World::large(100) }, Merging::default());
    world.turns(&mut merging, 12);
    let pressed = share(&mut world, &mut merging);
    assert!((430..=550).contains(&pressed), "{pressed}");
    // And no more than a fifth once it is not.
    world.available = 200 << 30;
    world.turns(&mut merging, 2);
    assert!(share(&mut world, &mut merging) <= 220);
}

#[test]
fn what_was_restored_is_taken_in_once_the_knobs_are_read_again() {
    let (mut world, mut merging) = running();
    world.turn = Turn::Handover;
    world.turn(&mut merging);
    let before = merging.held().unwrap().clone();
    merging.confirm(&world.knobs);
    let after = merging.held().unwrap().clone();
    assert_ne!(after, before, "what they were before is nobody's here any more");
    // A successor that finds a value of before the last write knows that it is somebody else's.
    world.turn = Turn::Tick;
    world.knobs.run = 1;
    for (held, yields) in [(before, false), (after, true)] {
        let (mut world, mut next) = (world.clone(), Merging::default());
        next.adopt(held);
        assert_eq!(world.turns(&mut next, 3).reason.is_conflict(), yields);
    }
}

#[test]
fn one_that_was_unmerged_is_left_alone() {
    let found = Knobs { run: 2, ..FOUND };
    let (mut world, mut merging) = (World { knobs: found, ..World::new() }, Merging::default());
    assert_eq!(world.turns(&mut merging, 9).reason, Reason::Unmerged);
    assert_eq!((world.knobs, merging.held()), (found, None));
}

#[test]
fn without_equal_pages_it_rests_longer_and_longer() {
    let (mut world, mut merging) = (World { equal: 0, ..World::new() }, Merging::default());
    until_rest(&mut world, &mut merging, 1);
    assert_eq!((merging.told, world.knobs.run), (Reason::DoesNotPay, 0));
    let spent = world.cpu;
    let hours = 6;
    world.turns(&mut merging, hours * 720);
    let per_hour = (world.cpu - spent) / hours;
    assert!(per_hour < Duration::from_mins(1), "{per_hour:?} of CPU an hour for nothing");
}

/// Until ksmd rests or `hours` are over; the time that it took.
fn until_rest(world: &mut World, merging: &mut Merging, hours: u64) -> Duration {
    let began = world.at;
    world.turns(merging, 6);
    while world.knobs.run == 1 && world.at - began < Duration::from_hours(hours) {
        world.turn(merging);
    }
    world.at - began
}

#[test]
fn on_512_gib_without_equal_pages_it_rests_within_40_minutes_and_costs_a_hundredth_of_a_cpu_then() {
    let (mut world, mut merging) = (World::large(0), Merging::default());
    let took = until_rest(&mut world, &mut merging, 12);
    // A pass takes 403 s of CPU, which are 34 minutes at a fifth of one; and an eighth of another.
    assert!((Duration::from_mins(37)..Duration::from_mins(42)).contains(&took), "{took:?}");
    assert!(world.cpu < Duration::from_mins(8), "{:?}", world.cpu);
    let mut share = 1000;
    for _ in 0..7 {
        let (spent, began) = (world.cpu, world.at);
        world.at += merging.control.rests_for().unwrap();
        until_rest(&mut world, &mut merging, 12);
        share = (world.cpu - spent).as_millis() * 1000 / (world.at - began).as_millis();
    }
    assert!(share <= 10, "{share} thousandths of a CPU for nothing");
    let (mut world, mut merging) = (World { available: 50 << 30, ..World::large(0) }, Merging::default());
    let took = until_rest(&mut world, &mut merging, 12);
    assert!(took < Duration::from_mins(17), "where memory is short: {took:?}");
}

#[test]
fn on_512_gib_what_pays_is_known_as_soon_as_pages_are_come_by_again() {
    let (mut world, mut merging) = (World::large(100), Merging::default());
    let began = world.at;
    while !matches!(merging.told, Reason::Pays { .. } | Reason::AtCeiling { .. }) {
        world.turn(&mut merging);
        assert!(world.at - began < Duration::from_mins(36), "{:?}", merging.told);
    }
    // What is equal is merged by the end of that pass, and what pays is not stopped before.
    while world.sharing < 50 << 18 {
        world.turn(&mut merging);
        assert!(world.at - began < Duration::from_hours(3), "{:?}, {}", merging.told, world.sharing >> 18);
        assert!(world.at - began < Duration::from_mins(1) || world.knobs.run == 1, "{:?}", merging.told);
    }
}

#[test]
fn what_two_guests_have_in_common_is_not_given_up_before_both_were_come_by() {
    let (mut world, mut merging) =
        (World { namespaces: vec![Some("shop"); 2], ..World::large(0) }, Merging::default());
    let took = until_rest(&mut world, &mut merging, 12);
    assert!(took > Duration::from_mins(65), "{took:?}");
}

#[test]
fn a_rest_ends_with_new_guests_with_what_was_merged_and_with_pressure() {
    let rested = || {
        let (mut world, mut merging) = (World::new(), Merging::default());
        let mut turns = 0;
        while merging.control.rests_for().is_none_or(|lasts| lasts < Duration::from_mins(30)) {
            world.turn(&mut merging);
            turns += 1;
            assert!(turns < 5000, "it never rests");
        }
        // Not at once: each launcher that starts would be a reason.
        world.turns(&mut merging, 7);
        assert_eq!(world.knobs.run, 0);
        (world, merging)
    };
    let changes: [fn(&mut World); 3] =
        [|w| w.namespaces.push(Some("shop")), |w| w.sharing /= 2, |w| w.available = 1 << 30];
    for change in changes {
        let (mut world, mut merging) = rested();
        change(&mut world);
        world.turn(&mut merging);
        assert_eq!(world.knobs.run, 1);
    }
    let (mut world, mut merging) = rested();
    world.turns(&mut merging, 3);
    assert_eq!(world.knobs.run, 0, "and with nothing else");
}

/// What ksmd took of a processor in six hours in which the world changes after each turn, in thousandths.
fn taken_of_six_hours(change: impl Fn(u32, &mut World)) -> u128 {
    let (mut world, mut merging) = (World::new(), Merging::default());
    let turns = 6 * 3600 / u32::try_from(STEP.as_secs()).unwrap();
    for turn in 0..turns {
        world.turn(&mut merging);
        change(turn, &mut world);
    }
    world.cpu.as_nanos() * 1000 / (STEP * turns).as_nanos()
}

#[test]
fn what_comes_apart_soon_is_not_worth_what_it_would_be_if_it_stayed() {
    let apart_each = |turns: u32| {
        taken_of_six_hours(move |turn, world| {
            // A sixty-fourth of all that there is.
            if turn % turns == 0 {
                (world.equal, world.sharing) = (1 << 14, 0);
            }
        })
    };
    assert!(apart_each(6) < 20, "half a minute: {}", apart_each(6));
    assert!(apart_each(720) > 5, "an hour is worth it: {}", apart_each(720));
}

#[test]
fn a_need_that_comes_and_goes_has_nothing_noted_again_and_again() {
    let taken = taken_of_six_hours(|turn, world| {
        world.equal = 0;
        (world.available, world.promised) =
            if turn % 12 < 6 { (8 << 30, 16 << 30) } else { (15 << 30, 1 << 30) };
    });
    assert!(taken < 20, "{taken}");
}

#[test]
fn that_the_kernel_need_not_remember_pages_any_more_is_no_merit_of_a_scan() {
    let taken = taken_of_six_hours(|turn, world| {
        world.equal = 0;
        world.pages = if turn % 20 < 15 { 1 << 20 } else { 1 << 16 };
    });
    assert!(taken < 20, "{taken}");
}

#[test]
fn one_that_cannot_be_seen_is_taken_for_a_slow_one() {
    let (mut world, mut merging) = (World { visible: false, ..World::new() }, Merging::default());
    let began = world.at;
    world.turns(&mut merging, 30);
    assert!(world.sharing > 0);
    assert!(world.cpu < (world.at - began) / 5, "{:?}", world.cpu);
}

#[test]
fn a_node_is_no_longer_short_only_with_a_margin() {
    let memory = |available| HostMemory {
        total: Bytes::from_gib(100),
        available: Bytes::from_gib(available),
        ..HostMemory::default()
    };
    let small = Bytes::from_gib(1);
    assert_eq!(Need::Plenty.next(&memory(19), small), Need::Pressed);
    assert_eq!(Need::Pressed.next(&memory(22), small), Need::Pressed);
    assert_eq!(Need::Pressed.next(&memory(26), small), Need::Plenty);
    assert_eq!(Need::Plenty.next(&memory(50), Bytes::from_gib(81)), Need::Wanted);
    assert_eq!(Need::Wanted.next(&memory(50), Bytes::from_gib(78)), Need::Wanted);
    assert_eq!(Need::Plenty.next(&memory(50), Bytes::from_gib(78)), Need::Plenty);
    // Huge pages are nobody's to merge, and no memory that is used.
    let reserved = HostMemory { hugetlb: Bytes::from_gib(80), ..memory(15) };
    assert_eq!(Need::Plenty.next(&reserved, small), Need::Plenty);
}

/// A node whose policy leaves merging to its program, which asks for this.
fn asked(run: Option<u64>, pages_to_scan: Option<u64>, sleep_millisecs: Option<u64>) -> World {
    let rule = crate::policy::Ksm { mode: KsmMode::Program, across_namespaces: false };
    World { rule, asked: Asked { run, pages_to_scan, sleep_millisecs }, ..World::new() }
}

#[test]
fn a_program_has_the_knobs_as_it_asks_within_what_is_safe_and_what_was_found_is_put_back() {
    // Memory is plenty: whether merging is needed is the program's to say.
    let mut world = World { available: 16 << 30, promised: 1 << 30, ..asked(Some(1), Some(1250), Some(5)) };
    let mut merging = Merging::default();
    assert_eq!(world.turn(&mut merging).reason, Reason::TenantsSettle);
    let plan = world.turns(&mut merging, 10);
    assert_eq!((plan.reason, plan.scan), (Reason::Program, true));
    let Knobs { run, pages_to_scan, sleep_millisecs, .. } = world.knobs;
    assert_eq!((run, pages_to_scan, sleep_millisecs), (1, 1250, 10), "ksmd must sleep a little");
    world.asked = Asked { run: Some(0), ..Asked::default() };
    world.turns(&mut merging, 2);
    assert_eq!(world.knobs.run, 0);
    world.asked = Asked { run: Some(1), pages_to_scan: Some(u64::MAX), ..Asked::default() };
    world.turns(&mut merging, 2);
    assert_eq!((world.knobs.run, world.knobs.pages_to_scan), (1, 30_000));
    assert_eq!(world.knobs.sleep_millisecs, FOUND.sleep_millisecs, "what a stop left there is nobody's wish");
    world.rule.mode = KsmMode::Off;
    world.turns(&mut merging, 3);
    assert_eq!(world.knobs, FOUND);
}

#[test]
fn where_a_program_says_nothing_of_merging_the_knobs_stay_as_they_were() {
    let (mut world, mut merging) = (asked(None, None, None), Merging::default());
    let plan = world.turns(&mut merging, 10);
    assert_eq!((plan.reason, plan.scan, world.knobs), (Reason::ProgramSilent, false, FOUND));
    // Nor does what it asked for once outlive its asking.
    world.asked = Asked { run: Some(1), pages_to_scan: Some(500), sleep_millisecs: None };
    assert!(world.turns(&mut merging, 10).scan);
    world.asked = Asked::default();
    let plan = world.turns(&mut merging, 3);
    assert_eq!((plan.reason, plan.scan, world.knobs), (Reason::ProgramSilent, false, FOUND));
}

#[test]
fn a_ksmd_that_was_found_running_goes_on_after_a_stop_where_the_program_does_not_say() {
    let found = Knobs { run: 1, ..FOUND };
    let mut world = World { knobs: found, ..asked(None, Some(500), None) };
    let mut merging = Merging::default();
    assert_eq!(world.turn(&mut merging).reason, Reason::TenantsSettle);
    world.turn(&mut merging);
    assert_eq!(world.knobs.run, 0);
    world.turns(&mut merging, 10);
    assert_eq!(world.knobs, Knobs { pages_to_scan: 500, ..found });
}

#[test]
fn a_program_merges_no_tenants_with_each_other_and_writes_no_knob_that_is_somebody_elses() {
    let mut world = World { namespaces: vec![Some("shop"), Some("bank")], ..asked(Some(1), Some(500), None) };
    let mut merging = Merging::default();
    assert_eq!(world.turns(&mut merging, 10).reason, Reason::TenantsDiffer { namespaces: 2 });
    assert_eq!(world.knobs, FOUND);
    let mut world = World { manager: Some(KsmManager::KubeVirt), ..asked(Some(1), Some(500), None) };
    assert_eq!(world.turns(&mut merging, 10).reason, Reason::Managed { by: KsmManager::KubeVirt });
    let (mut world, mut merging) = (asked(Some(1), Some(500), None), Merging::default());
    world.turns(&mut merging, 10);
    world.knobs.pages_to_scan = 77;
    let plan = world.turns(&mut merging, 5);
    assert!(matches!(plan.reason, Reason::Yielded(_)), "{plan:?}");
    assert_eq!(world.knobs.pages_to_scan, 77);
}
