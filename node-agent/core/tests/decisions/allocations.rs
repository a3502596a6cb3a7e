//! A decision asks for no memory once a few like it were made: a node that thrashes may have none to give.

use allocation_counter::measure;
use overcommit_core::plan::Outcome;
use overcommit_core::policy::Mode;
use overcommit_core::sample::Untouchable;
use overcommit_core::step::{Input, Mandate, Turn};
use overcommit_core::units::Bytes;

use crate::world::{World, guest, world};

/// Pods of a node unless it is told otherwise (`--max-pods`, pkg/kubelet/apis/config/v1beta1/defaults.go).
const GUESTS: u64 = 110;
/// Turns until everything has happened to every guest.
const WARM_UP: u64 = 200;

/// Guests of 4 GiB, each with needs of its own, on a host with room for this part of their sizes.
fn node(percent: u64) -> World {
    let guests = (0..GUESTS).map(|n| guest(&format!("guest-{n:03}"), 4096, 1024)).collect();
    let mut world = world(GUESTS * 4096 * percent / 100, guests);
    world.guests[7].untouchable = vec![Untouchable::HostDevice];
    world.guests[8].follows = false;
    world
}

/// What a turn does, and how many allocations its decision took.
struct Took {
    takes: usize,
    gives: usize,
    allocations: u64,
}

fn turn(w: &mut World, turn: Turn, mandate: Mandate) -> Took {
    w.now += 5;
    let round = w.now / 5;
    for (n, guest) in (0..).zip(&mut w.guests) {
        guest.used = 1024 + (n * 37 + round * 11) % 2048;
    }
    let (sample, roster) = (w.sample(), w.roster());
    let input = Input {
        sample: &sample,
        policy: &w.policy,
        roster: &roster,
        turn,
        mandate,
        complete: true,
        eviction: Bytes::ZERO,
        keep_found: false,
        telling: true,
    };
    let mut decision = None;
    let decided = measure(|| decision = Some(w.state.step(&input)));
    let decision = decision.unwrap();
    w.obey(&decision);
    let moves = decision.plan.moves();
    let takes = moves.iter().filter(|step| step.takes()).count();
    let gives = moves.len() - takes;
    let outcomes: Vec<Outcome> =
        decision.plan.commands().map(|command| Outcome { command, result: Ok(()) }).collect();
    let noted = measure(|| w.state.note(&outcomes));
    let reused = measure(|| w.state.reuse(decision));
    Took { takes, gives, allocations: decided.count_total + noted.count_total + reused.count_total }
}

#[test]
fn a_decision_allocates_nothing_after_the_first_ones_of_its_kind() {
    let (mut takes, mut gives) = (0, 0);
    for percent in [150, 90, 60] {
        for mode in [Mode::Enforce, Mode::Observe] {
            let mut w = node(percent);
            w.policy.mode = mode;
            let kind = |round: u64| if round % 3 == 2 { Turn::Relief } else { Turn::Tick };
            for round in 0..WARM_UP {
                turn(&mut w, kind(round), Mandate::Full);
            }
            for round in 0..WARM_UP {
                let took = turn(&mut w, kind(round), Mandate::Full);
                assert_eq!(took.allocations, 0, "{percent} % {mode:?}, turn {round}");
                takes += took.takes;
                gives += took.gives;
            }
        }
    }
    assert!(takes > 100 && gives > 100, "{takes} takes, {gives} gives");
}

#[test]
fn giving_everything_back_and_handing_over_allocate_nothing_either() {
    for (kind, mandate) in [(Turn::Tick, Mandate::Release), (Turn::Handover, Mandate::Full)] {
        let mut w = node(60);
        for _ in 0..WARM_UP {
            turn(&mut w, Turn::Tick, Mandate::Full);
        }
        // Among these the first guests hurt that do not get what they lack: whose turn it is, is counted from then on.
        for _ in 0..WARM_UP {
            turn(&mut w, kind, mandate);
        }
        for round in 0..20 {
            assert_eq!(turn(&mut w, kind, mandate).allocations, 0, "{kind:?} {mandate:?}, turn {round}");
        }
    }
}
