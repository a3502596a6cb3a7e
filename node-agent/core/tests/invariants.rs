//! The guard's invariants (design §6, 1 to 5) over generated courses: whatever hosts, guests and policies do.

mod world;

use std::collections::BTreeMap;
use std::sync::Arc;

use overcommit_core::eligibility::{Standing, standing};
use overcommit_core::floor;
use overcommit_core::policy::{Class, Floor};
use overcommit_core::reason::Reason;
use overcommit_core::roster::OptOut;
use overcommit_core::sample::{RunState, Untouchable};
use overcommit_core::step::{Decision, Turn};
use overcommit_core::units::{Amount, Bytes, Monotonic, Permille};
use proptest::prelude::*;
use world::{Guest, World, guest, mib, world};

/// What happens to one guest between two turns.
#[derive(Clone, Debug)]
enum Event {
    Use(u64),
    Swap(u64),
    Mute(bool),
    State(u8),
    OptOut(bool),
    Migrate(bool),
    Disobey(u64),
    Reboot,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0_u64..700).prop_map(Event::Use),
        2 => (0_u64..100).prop_map(Event::Swap),
        1 => any::<bool>().prop_map(Event::Mute),
        1 => (0_u8..5).prop_map(Event::State),
        1 => any::<bool>().prop_map(Event::OptOut),
        1 => any::<bool>().prop_map(Event::Migrate),
        2 => (0_u64..700).prop_map(Event::Disobey),
        1 => Just(Event::Reboot),
    ]
}

fn apply(g: &mut Guest, event: &Event) {
    match event {
        Event::Use(n) => g.used = *n,
        Event::Swap(n) => g.swap_in += n,
        Event::Mute(muted) => g.reports = !muted,
        Event::State(0) => g.state = RunState::Paused,
        Event::State(1) => g.state = RunState::Busy,
        Event::State(2) => g.state = RunState::Unreachable,
        Event::State(_) => g.state = RunState::Running,
        Event::OptOut(out) => g.opt_out = out.then_some(OptOut::Annotation),
        Event::Migrate(migrating) => g.migrating = *migrating,
        Event::Disobey(actual) => g.actual = (*actual).min(g.full),
        Event::Reboot => {
            g.swap_in = 0;
            g.faults = 0;
            g.stamp = 0;
        }
    }
}

/// Seconds before it, which kind of turn, and what happens to whom.
type TurnPlan = (u64, u8, Vec<(usize, Event)>);

#[derive(Clone, Debug)]
struct Course {
    total: u64,
    swap: u64,
    guests: Vec<Guest>,
    percent: u32,
    take_percent: u32,
    dead: u64,
    turns: Vec<TurnPlan>,
}

fn a_guest() -> impl Strategy<Value = Guest> {
    (64_u64..1024, 0_u64..1024, 0_u64..512, 0_u8..12, proptest::option::of(0_u64..1024)).prop_map(
        |(full, used, cache, odd, request)| {
            let mut g = guest("", full, used.min(full));
            g.cache = cache;
            g.request = request;
            match odd {
                0 => g.has_balloon = false,
                1 => g.untouchable = vec![Untouchable::HugePages],
                2 => g.listed = false,
                3 => g.limit = Some(full / 2),
                _ => {}
            }
            g
        },
    )
}

fn course() -> impl Strategy<Value = Course> {
    let turn = (0_u64..12, 0_u8..4, proptest::collection::vec((0_usize..6, event()), 0..4));
    (
        256_u64..4096,
        prop_oneof![3 => Just(0_u64), 1 => Just(4096_u64)],
        proptest::collection::vec(a_guest(), 1..6),
        0_u32..100,
        0_u32..100,
        0_u64..64,
        proptest::collection::vec(turn, 1..25),
    )
        .prop_map(|(total, swap, mut guests, percent, take_percent, dead, turns)| {
            for (index, g) in guests.iter_mut().enumerate() {
                g.name = format!("g{index}");
            }
            Course { total, swap, guests, percent, take_percent, dead, turns }
        })
}

fn start(course: &Course) -> World {
    let mut w = world(course.total, course.guests.clone());
    w.swap = course.swap;
    let floor =
        Floor { part: Permille::from_percent(course.percent), bytes: Bytes::ZERO, below_request: false };
    w.policy.classes = vec![Class { name: Arc::from("default"), floor, weight: 100, exclude: false }];
    w.policy.limits.take_per_guest = Amount::Part(Permille::from_percent(course.take_percent));
    w.policy.limits.dead_band = Amount::Bytes(mib(course.dead));
    w
}

/// Runs a course and shows `check` every decision before it is carried out.
fn run(
    course: &Course,
    mut check: impl FnMut(&World, &Decision) -> Result<(), TestCaseError>,
) -> Result<(), TestCaseError> {
    let mut w = start(course);
    for (seconds, kind, events) in &course.turns {
        for (index, event) in events {
            if let Some(g) = w.guests.get_mut(*index) {
                apply(g, event);
            }
        }
        w.release = *kind == 3 && *seconds == 0;
        let turn = if *kind == 1 { Turn::Relief } else { Turn::Tick };
        let decision = w.decide(*seconds, turn);
        check(&w, &decision)?;
        w.obey(&decision);
    }
    Ok(())
}

fn now(w: &World) -> Monotonic {
    Monotonic::new(std::time::Duration::from_secs(w.now))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Invariant 1.
    #[test]
    fn no_take_goes_below_the_floor(course in course()) {
        run(&course, |w, decision| {
            for step in decision.plan.moves().iter().filter(|m| m.takes()) {
                let track = w.state.model().track(&step.id).unwrap();
                let class = standing(track, &w.policy, now(w)).class().unwrap();
                prop_assert!(step.to >= floor::of(track, class).0, "{step:?}");
            }
            Ok(())
        })?;
    }

    /// Invariants 2 and 5: only guests with fresh statistics that may be touched are taken from.
    #[test]
    fn takes_come_only_from_open_guests_with_fresh_statistics(course in course()) {
        run(&course, |w, decision| {
            for step in decision.plan.moves().iter().filter(|m| m.takes()) {
                let track = w.state.model().track(&step.id).unwrap();
                prop_assert!(track.evidence.fresh().is_some(), "{step:?}");
                prop_assert!(matches!(standing(track, &w.policy, now(w)), Standing::Open(_)), "{step:?}");
                let g = w.guests.iter().find(|g| g.name == step.id.as_str()).unwrap();
                prop_assert!(g.has_balloon && g.listed && g.opt_out.is_none() && g.untouchable.is_empty());
                prop_assert!(g.state == RunState::Running && !g.migrating);
            }
            Ok(())
        })?;
    }

    /// Invariant 3: bounded take per guest and node in any window of one interval that starts with a take.
    #[test]
    fn takes_are_bounded_per_interval(course in course()) {
        let mut began = None;
        let mut guests: BTreeMap<String, u64> = BTreeMap::new();
        let mut node = 0;
        run(&course, |w, decision| {
            if began.is_none_or(|b| w.now - b >= 5) {
                began = Some(w.now);
                guests.clear();
                node = 0;
            }
            for step in decision.plan.moves().iter().filter(|m| m.takes()) {
                let taken = step.from.minus(step.to).get();
                let sum = guests.entry(step.id.to_string()).or_default();
                *sum += taken;
                node += taken;
                let full = w.guests.iter().find(|g| g.name == step.id.as_str()).unwrap().full;
                prop_assert!(*sum <= w.policy.limits.take_per_guest.of(mib(full)).get() + 4095);
                prop_assert!(node <= w.policy.limits.take_per_node.of(mib(w.total)).get() + 4095 * 8);
            }
            Ok(())
        })?;
    }

    /// Invariant 3: one take per new statistics.
    #[test]
    fn no_guest_is_taken_from_twice_on_the_same_statistics(course in course()) {
        let mut last: BTreeMap<String, u64> = BTreeMap::new();
        run(&course, |w, decision| {
            for step in decision.plan.moves().iter().filter(|m| m.takes()) {
                let stamp = w.state.model().track(&step.id).unwrap().last_update.unwrap();
                prop_assert_ne!(last.insert(step.id.to_string(), stamp), Some(stamp), "{:?}", step);
            }
            Ok(())
        })?;
    }

    /// Invariants 3 and 4: gives add no more promises than is spare, counting donors at what they still hold.
    #[test]
    fn gives_never_promise_more_than_is_spare(course in course()) {
        run(&course, |w, decision| {
            let added: Bytes = decision
                .plan
                .moves()
                .iter()
                .filter(|m| !m.takes())
                .map(|m| m.to.minus(w.state.model().track(&m.id).unwrap().reach()))
                .sum();
            prop_assert!(added <= decision.ledger.spare, "{added} > {}", decision.ledger.spare);
            for step in decision.plan.moves() {
                let track = w.state.model().track(&step.id).unwrap();
                prop_assert!(step.to <= track.sample.config.full);
                let restores =
                    matches!(step.reason, Reason::GiveRelease | Reason::GiveExempt | Reason::Undo(_));
                if let Some(limit) = track.sample.facts.limit.filter(|_| !step.takes() && !restores) {
                    prop_assert!(step.to <= limit.minus(track.overhead()));
                }
            }
            Ok(())
        })?;
    }

    /// Every guest has a reason, every turn.
    #[test]
    fn every_guest_has_a_view(course in course()) {
        run(&course, |w, decision| {
            prop_assert_eq!(decision.guests.len(), w.guests.len());
            Ok(())
        })?;
    }
}
