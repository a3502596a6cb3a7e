//! What holds whatever happens.

use proptest::prelude::*;

use super::super::*;
use super::measure::{Verdict, show};
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

impl Event {
    /// Turns that it is followed by.
    fn turns(&self) -> u32 {
        match self {
            Self::Pass(turns) => *turns,
            _ => 2,
        }
    }
}

/// A kernel, the loop, and what others did to the kernel's knobs.
struct Stage {
    world: World,
    merging: Merging,
    /// Somebody wrote a knob since it was last all ours; and which run.
    foreign: bool,
    foreign_run: bool,
    /// Ours of the last turn.
    wrote_run: bool,
}

impl Stage {
    fn new() -> Self {
        let (world, merging) = (World::new(), Merging::default());
        Self { world, merging, foreign: false, foreign_run: false, wrote_run: false }
    }

    /// True if somebody changed `run` under us.
    fn suffer(&mut self, event: Event) -> bool {
        let world = &mut self.world;
        match event {
            Event::Pass(_) => {}
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
                let known = self.merging.held().is_some() && !self.wrote_run;
                let changed = known && run.is_some_and(|run| run != world.knobs.run);
                world.knobs.run = run.unwrap_or(world.knobs.run);
                (self.foreign, self.foreign_run) = (true, self.foreign_run || run.is_some());
                return changed;
            }
            Event::Restart => {
                let held = self.merging.held().cloned();
                self.merging = Merging::default();
                if let Some(held) = held {
                    self.merging.adopt(held);
                }
            }
        }
        false
    }

    /// One turn, the `nth` after an event; `theirs` is how many pages were to be scanned then.
    fn turn(&mut self, nth: u32, changed_run: bool, theirs: u64) -> Verdict {
        let (before, knobs) = (self.world.cpu, self.world.knobs);
        let held = self.merging.held().cloned();
        let plan = self.world.turn(&mut self.merging);
        let world = &self.world;
        let one = world.strangers == 0
            && world.namespaces.iter().all(|ns| ns.is_some() && *ns == world.namespaces[0]);
        let scans = world.knobs.run == 1;
        prop_assert!(!scans || one || world.rule.across_namespaces || self.foreign_run, "{plan:?}");
        let ours = world.manager.is_none() && world.rule.mode == KsmMode::Auto;
        prop_assert!(!scans || ours || self.foreign_run, "{plan:?}");
        self.wrote_run = plan.writes.iter().any(|w| w.knob == Knob::Run);
        prop_assert!(!(changed_run && nth < 2 && held.is_some() && self.wrote_run), "{plan:?}");
        if held.is_some_and(|held| held.yielded.is_some()) {
            prop_assert_eq!(world.knobs, knobs, "nothing is written any more");
        }
        if self.foreign && self.merging.held().is_some_and(|held| held.yielded.is_some()) {
            prop_assert!(plan.writes.iter().all(|w| w.knob != Knob::PagesToScan), "{plan:?}");
            prop_assert_eq!(world.knobs.pages_to_scan, theirs);
        }
        // A cost that rose is known a turn later.
        if nth > 2 && !self.foreign {
            let ceiling = CEILING_PRESSED.get() + 50;
            let share = (world.cpu - before).as_millis() * 1000 / STEP.as_millis();
            prop_assert!(share <= u128::from(ceiling), "{share} of {ceiling}");
        }
        Ok(())
    }

    /// Plays a course; returns how many turns it had.
    fn play(mut self, events: Vec<Event>) -> Result<usize, TestCaseError> {
        let mut played = 0;
        for event in events {
            let turns = event.turns();
            played += usize::try_from(turns).unwrap();
            let changed_run = self.suffer(event);
            let theirs = self.world.knobs.pages_to_scan;
            for nth in 0..turns {
                self.turn(nth, changed_run, theirs)?;
            }
            if self.world.rule.mode == KsmMode::Off && self.merging.held().is_none() {
                (self.foreign, self.foreign_run) = (false, false);
                self.world.knobs = FOUND;
            }
        }
        if !self.foreign {
            self.world.rule.mode = KsmMode::Off;
            self.world.turns(&mut self.merging, 3);
            prop_assert_eq!((self.world.knobs, self.merging.held()), (FOUND, None));
        }
        Ok(played)
    }
}

/// Invariant 8.
#[test]
fn whatever_happens_ksmd_scans_for_one_tenant_within_its_ceiling_and_for_nobody_elses_sake() {
    show(proptest::collection::vec(event(), 1..40), |events| Stage::new().play(events));
}

#[test]
fn what_saves_nothing_stops_within_few_passes() {
    show((500_u64..20_000, 1_u64 << 12..1 << 20), |(cost, pages)| {
        let (mut world, mut merging) = (World { cost, pages, equal: 0, ..World::new() }, Merging::default());
        let mut turns = 0;
        world.turns(&mut merging, 6);
        while world.knobs.run == 1 {
            world.turn(&mut merging);
            turns += 1;
            prop_assert!(
                world.scanned / world.pages <= 40 || turns < 12,
                "pass {}",
                world.scanned / world.pages
            );
            prop_assert!(turns < 2000);
        }
        Ok(turns + 6)
    });
}
