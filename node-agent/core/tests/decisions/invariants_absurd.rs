//! Samples that no host, guest or clock makes: any number anywhere, clocks that jump both ways, guests that come, go and
//! share identities from one turn to the next, commands that nobody gave. The loop decides each time, and well again once
//! the world is.

#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects)] // helpers outside #[test] functions are test code too

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::course::generate::{Temper, absurd, policy};
use crate::measure::show;
use crate::world::{guest as sane, world};
use overcommit_core::cadence::Cadence;
use overcommit_core::dealings::Original;
use overcommit_core::lane::{Glimpse, Lane, host_alarm};
use overcommit_core::plan::{Command, Failed, Outcome};
use overcommit_core::policy::Policy;
use overcommit_core::reason::Pain;
use overcommit_core::roster::{Membership, Roster};
use overcommit_core::sample::{
    Balloon, Faults, GuestConfig, GuestId, GuestName, GuestSample, HostCounters, HostMemory, HostSample,
    Incarnation, Ksm, Pressure, ProcessFacts, RunState, Sample, Untouchable,
};
use overcommit_core::step::{Input, Mandate, State, Turn};
use overcommit_core::stranger::Stranger;
use overcommit_core::units::{Bytes, Monotonic};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

fn bytes() -> impl Strategy<Value = Bytes> {
    absurd().prop_map(Bytes::new)
}

fn small() -> impl Strategy<Value = u32> {
    prop_oneof![Just(0), Just(1), Just(u32::MAX), any::<u32>()]
}

/// From the origin to the end of time, either way from one turn to the next.
fn time() -> impl Strategy<Value = Duration> {
    prop_oneof![
        4 => (0..10_000_u64).prop_map(Duration::from_secs),
        1 => any::<u64>().prop_map(Duration::from_secs),
        1 => any::<u32>().prop_map(|years| Duration::from_hours(u64::from(years) * 8766)),
        1 => Just(Duration::ZERO),
        1 => Just(Duration::MAX),
    ]
}

fn host() -> impl Strategy<Value = HostSample> {
    let pressure = option::of((small(), small()))
        .prop_map(|p| p.map(|(some_avg10, full_avg10)| Pressure { some_avg10, full_avg10 }));
    let ksm = option::of((any::<u8>(), bytes(), bytes(), absurd())).prop_map(|k| {
        k.map(|(run, sharing, shared, full_scans)| Ksm { run, sharing, shared, full_scans, ..Ksm::default() })
    });
    let ksm = (ksm, any::<bool>());
    (proptest::array::uniform12(bytes()), proptest::array::uniform4(absurd()), pressure, ksm).prop_map(
        |(
            [total, free, available, anon, shmem, slab, stack, tables, percpu, hugetlb, swap, left],
            n,
            pressure,
            (ksm, unread),
        )| {
            let memory = HostMemory {
                total,
                free,
                available,
                anon,
                shmem,
                slab_unreclaimable: slab,
                kernel_stack: stack,
                page_tables: tables,
                percpu,
                hugetlb,
                swap_total: swap,
                swap_free: left,
                buffers: left,
                cached: left,
            };
            let [swap_in_pages, swap_out_pages, major_faults, kills] = n;
            let counters =
                HostCounters { swap_in_pages, swap_out_pages, major_faults, oom_kills: Some(kills) };
            let cpus = u32::try_from(kills).ok();
            // Also none at all, which no kernel has.
            let page = (!hugetlb.is_zero()).then_some(left);
            HostSample { memory, counters, pressure, ksm_unread: unread && ksm.is_none(), ksm, cpus, page }
        },
    )
}

fn balloon() -> impl Strategy<Value = Option<Balloon>> {
    let amounts = proptest::array::uniform5(option::weighted(0.9, bytes()));
    let numbers = proptest::array::uniform3(option::weighted(0.9, absurd()));
    option::weighted(0.9, (bytes(), option::of(small()), amounts, numbers)).prop_map(|balloon| {
        let (actual, period, [available, unused, usable, swap_in, swap_out], numbers) = balloon?;
        let [last_update, major_faults, minor_faults] = numbers;
        Some(Balloon {
            actual,
            last_update,
            period,
            available,
            unused,
            usable,
            swap_in,
            swap_out,
            major_faults,
            minor_faults,
        })
    })
}

fn facts() -> impl Strategy<Value = ProcessFacts> {
    proptest::array::uniform9(option::weighted(0.8, bytes())).prop_map(
        |[resident, anon, repeated, merging, overhead, request, limit, swappable, bound]| ProcessFacts {
            bound,
            repeated,
            merging,
            resident,
            anon,
            overhead,
            request,
            limit,
            swappable,
            swapped: merging,
            faults: swappable.map(|n| Faults { minor: n.get(), major: n.get() }),
        },
    )
}

/// Few identities, so that guests come back, change places and appear twice.
const IDENTITIES: u8 = 4;

fn guest() -> impl Strategy<Value = GuestSample> {
    let config = (
        (bytes(), prop_oneof![3 => Just(Bytes::ZERO), 1 => bytes()], prop::bool::weighted(0.1)),
        prop::bool::weighted(0.9),
        any::<bool>(),
        option::weighted(0.1, Just(Untouchable::Realtime)),
    );
    let state = prop::sample::select(vec![
        RunState::Running,
        RunState::Running,
        RunState::Paused,
        RunState::Busy,
        RunState::Unreachable,
    ]);
    let process = option::weighted(0.8, (small(), absurd()));
    let shown = (facts(), option::weighted(0.8, time()));
    (0..IDENTITIES, 0..IDENTITIES, any::<bool>(), config, state, process, balloon(), shown).prop_map(
        |(
            id,
            name,
            in_cluster,
            ((full, plugged, plugging), has_balloon, reporting, untouchable),
            run_state,
            process,
            balloon,
            (facts, facts_age),
        )| {
            let name = format!("g{name}");
            GuestSample {
                id: GuestId::new(if in_cluster { format!("pod{id}/u") } else { format!("u{id}") }),
                name: if in_cluster { GuestName::namespaced("n", name) } else { GuestName::standalone(name) },
                incarnation: process.map(|(pid, start_ticks)| Incarnation { pid, start_ticks }),
                config: GuestConfig {
                    full,
                    plugged,
                    plugging,
                    has_balloon,
                    free_page_reporting: reporting,
                    untouchable: untouchable.into_iter().collect(),
                    vcpus: u32::try_from(full.get()).ok(),
                },
                run_state,
                balloon,
                facts,
                facts_age,
                trouble: None,
            }
        },
    )
}

fn stranger() -> impl Strategy<Value = Stranger> {
    let word = || option::weighted(0.8, bytes());
    (bytes(), word(), word(), word()).prop_map(|(claim, held, request, bound)| Stranger {
        pod: Arc::from("pod"),
        claim,
        held,
        request,
        bound,
    })
}

/// One turn, and what is said to the state before and after it.
#[derive(Clone, Debug)]
struct Absurd {
    sample: Sample,
    policy: Policy,
    turn: Turn,
    mandate: Mandate,
    eviction: Bytes,
    keep_found: bool,
    complete: bool,
    /// Which commands fail, a bit for each.
    fails: u8,
    /// Outcomes of commands that were never decided.
    foreign: Vec<(u8, Bytes, Bytes)>,
    adopted: Option<(u8, Bytes, Bytes)>,
    glimpse: (Bytes, Bytes),
}

fn turn() -> impl Strategy<Value = Absurd> {
    let kind = prop::sample::select(vec![Turn::Tick, Turn::Relief, Turn::Alarm, Turn::Handover]);
    let mandate =
        prop::sample::select(vec![Mandate::Full, Mandate::Full, Mandate::GiveOnly, Mandate::Release]);
    let read = (time(), time(), time(), host(), vec(guest(), 0..8), vec(stranger(), 0..4));
    let sample = read.prop_map(|(at, wall, host_age, host, guests, strangers)| Sample {
        strangers,
        at: Monotonic::new(at),
        wall,
        host_age,
        host,
        guests,
    });
    let foreign = vec((0..IDENTITIES, bytes(), bytes()), 0..2);
    let adopted = option::weighted(0.1, (0..IDENTITIES, bytes(), bytes()));
    let glimpse = (bytes(), bytes());
    (
        sample,
        policy(Temper::Hostile),
        kind,
        mandate,
        (bytes(), any::<bool>(), any::<bool>()),
        any::<u8>(),
        foreign,
        adopted,
        glimpse,
    )
        .prop_map(
            |(
                sample,
                policy,
                turn,
                mandate,
                (eviction, keep_found, complete),
                fails,
                foreign,
                adopted,
                glimpse,
            )| {
                Absurd {
                    sample,
                    policy,
                    turn,
                    mandate,
                    eviction,
                    keep_found,
                    complete,
                    fails,
                    foreign,
                    adopted,
                    glimpse,
                }
            },
        )
}

/// Every guest of a cluster is listed, or every one without, in a class that may or may not be there.
fn roster(in_cluster: bool) -> Roster {
    let member =
        |n: u8| Membership { class: Some(Arc::from(format!("c{}", n % 2))), opt_out: None, migrating: false };
    let all = 0..IDENTITIES;
    if in_cluster {
        let name = |n| GuestName::namespaced("n", format!("g{n}"));
        Roster::by_pod(all.map(|n| (Arc::from(format!("pod{n}")), name(n), member(n))))
    } else {
        Roster::by_name(all.map(|n| (GuestName::standalone(format!("g{n}")), member(n))))
    }
}

fn id(n: u8) -> GuestId {
    GuestId::new(format!("u{n}"))
}

/// Takes a turn; the checks are what every decision must keep.
fn take(state: &mut State, lane: &mut Lane, roster: &Roster, absurd: &Absurd) -> Result<(), TestCaseError> {
    if let Some((n, original, target)) = absurd.adopted {
        state.adopt(&id(n), Original { target: original, period: Some(u32::MAX) }, target);
    }
    let input = Input {
        sample: &absurd.sample,
        policy: &absurd.policy,
        roster,
        turn: absurd.turn,
        mandate: absurd.mandate,
        complete: absurd.complete,
        eviction: absurd.eviction,
        keep_found: absurd.keep_found,
        telling: true,
    };
    let decision = state.step(&input);
    let known: BTreeSet<&GuestId> = absurd.sample.guests.iter().map(|g| &g.id).collect();
    prop_assert_eq!(decision.guests.len(), known.len(), "each guest once");
    prop_assert!(decision.guests.iter().all(|g| (1..=400).contains(&g.reason.to_string().len())));
    let ledger = &decision.ledger;
    prop_assert!(ledger.budget <= ledger.total && ledger.spare <= ledger.budget);
    prop_assert!(ledger.shortfall == ledger.committed.minus(ledger.budget));
    for step in decision.plan.moves() {
        prop_assert!(known.contains(&step.id) && step.from != step.to, "{step:?}");
    }
    let (resident, read) = absurd.glimpse;
    for track in state.model().tracks() {
        // Whatever its device says that it holds, a guest costs what it can touch.
        let (sample, held) = (&track.sample, track.sample.facts.anon.unwrap_or_default());
        let known = if sample.balloon.is_none() { track.actual } else { Bytes::ZERO };
        let own = sample.config.full.max(track.target).max(known);
        let touchable = own.plus(sample.config.plugged).max(held);
        prop_assert!(track.charge() <= touchable.plus(track.overhead()), "{track:?}");
        let _ = lane.look(track, Glimpse { resident, read }, absurd.sample.at);
    }
    let _ = host_alarm(&absurd.sample.host, &absurd.sample.host, ledger, absurd.eviction);
    state.note_pain(&id(0), Pain::DiskReads { per_second: read }, absurd.sample.at);
    let commands = decision.plan.commands().chain(decision.periods).chain(decision.again);
    let failed = |at: usize| absurd.fails >> (at % 8) & 1 == 1;
    let result = |at| match at % 3 {
        _ if !failed(at) => Ok(()),
        0 => Err(Failed::unanswered("no answer")),
        _ => Err("refused".into()),
    };
    let mut outcomes: Vec<Outcome> =
        commands.enumerate().map(|(at, command)| Outcome { command, result: result(at) }).collect();
    outcomes.extend(absurd.foreign.iter().map(|(n, from, to)| {
        let command = Command::SetTarget { id: id(*n), from: *from, to: *to };
        Outcome { command, result: Ok(()) }
    }));
    state.note(&outcomes);
    Ok(())
}

/// No panic, no wrap, and a state that can be written and read.
#[test]
fn every_absurd_turn_decides() {
    let cases = (vec(turn(), 1..12), any::<bool>());
    show(cases, |(turns, in_cluster)| {
        let (mut state, mut lane, roster) = (State::default(), Lane::default(), roster(in_cluster));
        for absurd in &turns {
            take(&mut state, &mut lane, &roster, absurd)?;
        }
        let text = serde_json::to_vec(&state).unwrap();
        prop_assert_eq!(serde_json::from_slice::<State>(&text).unwrap(), state);
        Ok(turns.len())
    });
}

/// Turns after which nothing of what was absurd may be left.
const SANE: usize = 60;

/// What was absurd leaves nothing behind that keeps the loop from its work: time goes on, other guests come, and the node
/// promises what it has.
#[test]
fn once_the_world_is_sane_decisions_are() {
    show(vec(turn(), 1..12), |mut turns| {
        let (mut state, mut lane, roster) = (State::default(), Lane::default(), roster(false));
        for (second, absurd) in (0..).zip(&mut turns) {
            absurd.sample.at = Monotonic::new(Duration::from_secs(second));
            take(&mut state, &mut lane, &roster, absurd)?;
        }
        let mut w = world(800, vec![sane("a", 512, 50), sane("b", 512, 50)]);
        w.state = state;
        for _ in 0..SANE {
            w.tick();
        }
        let (a, b) = (w.target("a"), w.target("b"));
        prop_assert!(a + b <= 800, "{a} and {b} MiB of 800");
        prop_assert!(a >= 128 && b >= 128, "{a} and {b} MiB, less than the floor");
        Ok(turns.len() + SANE)
    });
}

/// Time that this thread has worked, whatever else the machine does (first field of `schedstat`,
/// Documentation/scheduler/sched-stats.rst).
fn worked() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

/// Ten thousand guests take a turn in a time that their square would exceed many times.
#[test]
fn ten_thousand_guests_are_decided_in_time() {
    const GUESTS: u64 = 10_000;
    let mut w = world(GUESTS * 400, (0..GUESTS).map(|n| sane(&format!("g{n}"), 512, 50)).collect());
    let (mut moves, mut slowest) = (0, Duration::ZERO);
    for _ in 0..12 {
        let (sample, roster) = (w.sample(), w.roster());
        w.now += 5;
        let input = Input {
            sample: &sample,
            policy: &w.policy,
            roster: &roster,
            turn: Turn::Tick,
            mandate: Mandate::Full,
            complete: true,
            eviction: Bytes::ZERO,
            keep_found: false,
            telling: true,
        };
        let began = worked();
        let decision = w.state.step(&input);
        slowest = slowest.max(worked().saturating_sub(began));
        let done = |command| Outcome { command, result: Ok(()) };
        w.state.note(&decision.plan.commands().chain(decision.periods).map(done).collect::<Vec<_>>());
        moves += decision.plan.moves().len();
    }
    assert!(moves > 0, "nobody was taken from");
    assert!(slowest < Duration::from_secs(1), "a turn took {slowest:?}");
}

/// However far statistics are off, the next look has a time.
#[test]
fn a_cadence_has_a_next_look_whatever_it_is_told() {
    show(vec((time(), option::of(absurd()), time()), 1..50), |looks| {
        let mut cadence = Cadence::default();
        let count = looks.len();
        for (at, stamp, period) in looks {
            cadence.looked(Monotonic::new(at), stamp, period);
            prop_assert!(cadence.due() >= Monotonic::new(at) || period.is_zero());
        }
        Ok(count)
    });
}
