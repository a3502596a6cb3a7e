//! What one decision costs at 110 guests, the most that a kubelet runs pods by default: time, and allocations. `make bench-core`.

#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, missing_docs)]

use divan::counter::ItemsCount;
use divan::{AllocProfiler, Bencher};
use overcommit_core::plan::Outcome;
use overcommit_core::policy::{Mom, Policy, Slot};
use overcommit_core::roster::Roster;
use overcommit_core::sample::Sample;
use overcommit_core::step::{Input, Mandate, State, Turn};
use overcommit_core::units::Bytes;

#[path = "../tests/decisions/world/mod.rs"]
mod world;

use world::{guest, world};

#[global_allocator]
static ALLOC: AllocProfiler = AllocProfiler::system();

/// Pods of a node unless it is told otherwise (`--max-pods`, pkg/kubelet/apis/config/v1beta1/defaults.go).
const GUESTS: usize = 110;
/// Samples that differ, taken in turn: a sample that repeats itself would be no news to anybody.
const SAMPLES: usize = 64;

fn main() {
    divan::main();
}

/// What is decided on, turn by turn.
struct Course {
    state: State,
    samples: Vec<Sample>,
    roster: Roster,
    policy: Policy,
}

/// Guests of 4 GiB that use 1 to 3 GiB, on a host with room for this part of their sizes.
fn course(percent: u64, mom: Option<Mom>) -> Course {
    let guests =
        (0..GUESTS).map(|n| guest(&format!("guest-{n:03}"), 4096, 1024 + (n as u64 * 37) % 2048)).collect();
    let mut w = world(110 * 4096 * percent / 100, guests);
    w.policy.mom = mom;
    // Until it rests.
    for _ in 0..200 {
        w.tick();
    }
    let samples = (0..SAMPLES)
        .map(|n| {
            w.now += 5;
            for (k, g) in w.guests.iter_mut().enumerate() {
                g.used = 1024 + (k as u64 * 37 + n as u64 * 11) % 2048;
            }
            w.sample()
        })
        .collect();
    let roster = w.roster();
    Course { state: w.state, samples, roster, policy: w.policy }
}

#[divan::bench(args = [150, 90, 60])]
fn one_turn_with_room_for_percent(bencher: Bencher<'_, '_>, percent: u64) {
    decide(bencher, course(percent, None));
}

/// The same with the stock rules for balloons and merging: from the samples to guarded moves.
#[divan::bench(args = [150, 90, 60])]
fn one_turn_of_a_program_with_room_for_percent(bencher: Bencher<'_, '_>, percent: u64) {
    let slot = |name: &str, text: &str| Slot { name: name.into(), text: text.into() };
    let slots = vec![
        slot("balloon", include_str!("../../../deploy/samples/mom/balloon.rules")),
        slot("ksm", include_str!("../../../deploy/samples/mom/ksm.rules")),
    ];
    decide(bencher, course(percent, Some(Mom::new(slots).unwrap())));
}

fn decide(bencher: Bencher<'_, '_>, course: Course) {
    let Course { mut state, samples, roster, policy } = course;
    let mut next = samples.iter().cycle();
    let mut outcomes: Vec<Outcome> = Vec::new();
    bencher.counter(ItemsCount::new(GUESTS)).bench_local(|| {
        let sample = next.next().unwrap();
        let decision = state.step(&Input {
            sample,
            policy: &policy,
            roster: &roster,
            turn: Turn::Tick,
            mandate: Mandate::Full,
            complete: true,
            eviction: Bytes::ZERO,
            keep_found: false,
            telling: true,
        });
        outcomes.clear();
        outcomes.extend(decision.plan.commands().map(|command| Outcome { command, result: Ok(()) }));
        state.note(&outcomes);
        state.reuse(decision);
    });
}
