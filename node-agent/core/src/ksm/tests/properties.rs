//! What holds whatever happens.

use proptest::prelude::*;

use super::super::*;
use super::world::{FOUND, STEP, World};
use crate::roster::KsmManager;

#[derive(Clone, Debug)]
enum Event {
    Pass(u32),
    Namespaces(Vec<Option<&'static str>>),
    Strangers(usize),
    Across(bool),
    Available(u64),
    Promised(u64),
    Equal(u64),
    Cost(u64),
    Manager(bool),
    Mode(KsmMode),
    Foreign { pages: u64, run: Option<u64> },
    Restart,
}

fn event() -> impl Strategy<Value = Event> {
    let namespace = prop_oneof![5 => Just(Some("a")), 1 => Just(Some("b")), 1 => Just(None)];
    prop_oneof![
        6 => (1_u32..40).prop_map(Event::Pass),
        2 => proptest::collection::vec(namespace, 0..4).prop_map(Event::Namespaces),
        1 => (0_usize..2).prop_map(Event::Strangers),
        1 => any::<bool>().prop_map(Event::Across),
        2 => (0_u64..16).prop_map(|gib| Event::Available(gib << 30)),
        1 => (0_u64..20).prop_map(|gib| Event::Promised(gib << 30)),
        2 => (0_u64..1 << 20).prop_map(Event::Equal),
        2 => (500_u64..20_000).prop_map(Event::Cost),
        1 => any::<bool>().prop_map(Event::Manager),
        1 => prop_oneof![3 => Just(KsmMode::Auto), 1 => Just(KsmMode::Off)].prop_map(Event::Mode),
        1 => (0_u64..4000, proptest::option::of(0_u64..2)).prop_map(|(pages, run)| Event::Foreign { pages, run }),
        1 => Just(Event::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn whatever_happens_ksmd_scans_for_one_tenant_within_its_ceiling_and_for_nobody_elses_sake(
        events in proptest::collection::vec(event(), 1..40),
    ) {
        let (mut world, mut merging) = (World::new(), Merging::default());
        let (mut foreign, mut foreign_run, mut wrote_run) = (false, false, false);
        for event in events {
            let (mut passes, mut changed_run) = (2, false);
            match event {
                Event::Pass(turns) => passes = turns,
                Event::Namespaces(all) => world.namespaces = all,
                Event::Strangers(pods) => world.strangers = pods,
                Event::Across(yes) => world.rule.across_namespaces = yes,
                Event::Available(bytes) => world.available = bytes,
                Event::Promised(bytes) => world.promised = bytes,
                Event::Equal(pages) => world.equal = pages,
                Event::Cost(nanos) => world.cost = nanos,
                Event::Manager(yes) => world.manager = yes.then_some(KsmManager::KubeVirt),
                Event::Mode(mode) => world.rule.mode = mode,
                Event::Foreign { pages, run } => {
                    world.knobs.pages_to_scan = pages + 100_000;
                    let known = merging.held().is_some() && !wrote_run;
                    changed_run = known && run.is_some_and(|run| run != world.knobs.run);
                    world.knobs.run = run.unwrap_or(world.knobs.run);
                    (foreign, foreign_run) = (true, foreign_run || run.is_some());
                }
                Event::Restart => {
                    let held = merging.held().cloned();
                    merging = Merging::default();
                    if let Some(held) = held {
                        merging.adopt(held);
                    }
                }
            }
            let theirs = world.knobs.pages_to_scan;
            for turn in 0..passes {
                let (before, knobs) = (world.cpu, world.knobs);
                let held = merging.held().cloned();
                let plan = world.turn(&mut merging);
                let one = world.strangers == 0
                    && world.namespaces.iter().all(|ns| ns.is_some() && *ns == world.namespaces[0]);
                let scans = world.knobs.run == 1;
                prop_assert!(!scans || one || world.rule.across_namespaces || foreign_run, "{plan:?}");
                let ours = world.manager.is_none() && world.rule.mode == KsmMode::Auto;
                prop_assert!(!scans || ours || foreign_run);
                wrote_run = plan.writes.iter().any(|w| w.knob == Knob::Run);
                prop_assert!(!(changed_run && turn < 2 && held.is_some() && wrote_run), "{plan:?}");
                if held.is_some_and(|held| held.yielded.is_some()) {
                    prop_assert_eq!(world.knobs, knobs, "nothing is written any more");
                }
                if foreign && merging.held().is_some_and(|held| held.yielded.is_some()) {
                    prop_assert!(plan.writes.iter().all(|w| w.knob != Knob::PagesToScan), "{plan:?}");
                    prop_assert_eq!(world.knobs.pages_to_scan, theirs);
                }
                // A cost that rose is known a turn later.
                if turn > 2 && !foreign {
                    let ceiling = CEILING_PRESSED.get() + 50;
                    prop_assert!((world.cpu - before).as_millis() * 1000 / STEP.as_millis() <= u128::from(ceiling));
                }
            }
            if world.rule.mode == KsmMode::Off && merging.held().is_none() {
                (foreign, foreign_run) = (false, false);
                world.knobs = FOUND;
            }
        }
        if !foreign {
            world.rule.mode = KsmMode::Off;
            world.turns(&mut merging, 3);
            prop_assert_eq!((world.knobs, merging.held()), (FOUND, None));
        }
    }

    #[test]
    fn what_saves_nothing_stops_within_few_passes(cost in 500_u64..20_000, pages in 1_u64 << 12..1 << 20) {
        let (mut world, mut merging) = (World { cost, pages, equal: 0, ..World::new() }, Merging::default());
        let mut turns = 0;
        world.turns(&mut merging, 6);
        while world.knobs.run == 1 {
            world.turn(&mut merging);
            turns += 1;
            prop_assert!(world.scanned / world.pages <= 40 || turns < 12, "pass {}", world.scanned / world.pages);
            prop_assert!(turns < 2000);
        }
    }
}
