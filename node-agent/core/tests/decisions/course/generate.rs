//! Strategies: numbers as they are and numbers as they must never be.

use std::sync::Arc;
use std::time::Duration;

use overcommit_core::policy::{Adaptive, Class, Floor, Ksm, Limits, Mode, Mom, Policy, Reserve, Slot};
use overcommit_core::roster::OptOut;
use overcommit_core::sample::{HostMemory, Pressure, RunState, Untouchable};
use overcommit_core::step::Turn;
use overcommit_core::units::{Amount, Bytes, Permille};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::{Change, Course, Follow, Guest, Host, Stamp, TurnPlan, Words};

/// Whether a course stays within what can happen on a node, and how often it does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Temper {
    /// Nothing absurd, and every guest obeys and tells the truth.
    Honest,
    /// Nothing absurd; guests may be slow, deaf or silent.
    Valid,
    /// Anything, often.
    Hostile,
}

impl Temper {
    fn odd(self) -> u32 {
        u32::from(self == Self::Hostile)
    }
    fn faulty(self) -> u32 {
        u32::from(self != Self::Honest)
    }
}

const ABSURD: [u64; 12] = [
    0,
    1,
    4095,
    4097,
    1 << 52,
    (1 << 52) + 1,
    1 << 53,
    1 << 63,
    (1 << 63) - 1,
    u64::MAX - 4095,
    u64::MAX - 1,
    u64::MAX,
];

fn number(temper: Temper, valid: impl Strategy<Value = u64> + 'static) -> BoxedStrategy<u64> {
    match temper {
        Temper::Hostile => {
            prop_oneof![6 => valid, 1 => prop::sample::select(ABSURD.to_vec()), 1 => any::<u64>()].boxed()
        }
        _ => valid.boxed(),
    }
}

/// Any number, and often one at which arithmetic goes wrong.
pub fn absurd() -> impl Strategy<Value = u64> {
    prop_oneof![3 => prop::sample::select(ABSURD.to_vec()), 1 => any::<u64>(), 2 => (0..4096_u64).prop_map(|n| n << 20)]
}

fn bytes(temper: Temper, mib: std::ops::Range<u64>) -> BoxedStrategy<Bytes> {
    number(temper, mib.prop_map(|n| n << 20)).prop_map(Bytes::new).boxed()
}

fn part(temper: Temper) -> BoxedStrategy<Permille> {
    let odd = prop_oneof![Just(0), Just(1000), Just(1001), Just(u32::MAX)];
    prop_oneof![4 => 0..=1000_u32, 1 + temper.odd() => odd].prop_map(Permille::new).boxed()
}

fn amount(temper: Temper, mib: std::ops::Range<u64>) -> BoxedStrategy<Amount> {
    prop_oneof![part(temper).prop_map(Amount::Part), bytes(temper, mib).prop_map(Amount::Bytes)].boxed()
}

fn class(temper: Temper) -> impl Strategy<Value = (Floor, u32, bool)> {
    let weight = match temper {
        Temper::Hostile => prop_oneof![Just(0), Just(u32::MAX), 1..10_000_u32].boxed(),
        _ => (1..10_000_u32).boxed(),
    };
    let floor_part = prop_oneof![3 => (0..500_u32).prop_map(Permille::new), 1 => part(temper)];
    let floor_bytes = prop_oneof![1 => Just(Bytes::ZERO), 1 => bytes(temper, 0..2048)];
    let floor = (floor_part, floor_bytes, any::<bool>()).prop_map(|(part, bytes, below_request)| Floor {
        part,
        bytes,
        below_request,
    });
    (floor, weight, prop::bool::weighted(0.05))
}

/// All that the CRD permits (`crds/src/policy.rs`), and what it does not.
fn adaptive(temper: Temper) -> BoxedStrategy<Adaptive> {
    let valid = (15..=50_u32, 30..=1800_u64).prop_map(|(percent, seconds)| Adaptive {
        headroom: Permille::from_percent(percent),
        turn: Duration::from_secs(seconds),
    });
    let turns = vec![Duration::ZERO, Duration::from_nanos(1), Duration::MAX];
    let odd =
        (part(temper), prop::sample::select(turns)).prop_map(|(headroom, turn)| Adaptive { headroom, turn });
    prop_oneof![1 => Just(Adaptive::default()), 4 => valid, temper.odd() => odd].boxed()
}

pub fn policy(temper: Temper) -> BoxedStrategy<Policy> {
    let interval = match temper {
        Temper::Hostile => prop_oneof![
            4 => (1..60_u64).prop_map(Duration::from_secs),
            1 => prop::sample::select(vec![Duration::ZERO, Duration::from_nanos(1), Duration::MAX]),
        ]
        .boxed(),
        _ => (1..60_u64).prop_map(Duration::from_secs).boxed(),
    };
    let reserve =
        (prop_oneof![2 => Just(Amount::Bytes(Bytes::ZERO)), 1 => amount(temper, 0..512)], part(temper))
            .prop_map(|(minimum, growth_quantile)| Reserve { minimum, growth_quantile });
    let limits = (amount(temper, 1..1024), amount(temper, 1..4096), amount(temper, 0..64));
    let limits = prop_oneof![
        1 => limits,
        1 => (part(temper), part(temper), 0..50_u32).prop_map(|(guest, node, dead)| {
            (Amount::Part(guest), Amount::Part(node), Amount::Part(Permille::new(dead)))
        }),
    ]
    .prop_map(|(take_per_guest, take_per_node, dead_band)| Limits {
        take_per_guest,
        take_per_node,
        dead_band,
    });
    let mode = prop_oneof![9 => Just(Mode::Enforce), 1 => Just(Mode::Observe)];
    (mode, interval, vec(class(temper), 1..4), reserve, limits, adaptive(temper))
        .prop_map(|(mode, interval, classes, reserve, limits, adaptive)| {
            let named = |(index, (floor, weight, exclude)): (usize, (Floor, u32, bool))| Class {
                name: Arc::from(format!("c{index}")),
                floor,
                weight,
                exclude,
            };
            let classes = classes.into_iter().enumerate().map(named).collect();
            Policy { mode, interval, classes, reserve, limits, ksm: Ksm::default(), adaptive, mom: None }
        })
        .boxed()
}

fn host(temper: Temper) -> BoxedStrategy<Host> {
    let b = |range| bytes(temper, range);
    let rare = |range| prop_oneof![3 => Just(Bytes::ZERO), 1 => b(range)];
    let gone = prop_oneof![4 => Just(None), 1 => b(0..64).prop_map(Some)];
    // In quarters how much of it is free.
    let swap = prop_oneof![3 => Just((Bytes::ZERO, 0)), 1 => (b(0..8192), 0..=4_u64)];
    let pressure = prop_oneof![
        4 => Just(None),
        1 => (0..2000_u32, 0..2000_u32).prop_map(|(some, full)| {
            Some(Pressure { some_avg10: some, full_avg10: full })
        }),
        temper.odd() => Just(Some(Pressure { some_avg10: u32::MAX, full_avg10: u32::MAX })),
    ];
    (b(256..6144), gone, rare(0..256), rare(0..4096), swap, rare(0..256), rare(0..128), pressure)
        .prop_map(|(total, gone, anon, hugetlb, swap, shmem, kernel, pressure)| {
            let memory = HostMemory {
                total,
                available: gone.unwrap_or(total),
                anon,
                hugetlb,
                shmem,
                slab_unreclaimable: kernel,
                page_tables: kernel,
                swap_total: swap.0,
                swap_free: swap.0.scaled(swap.1, 4),
                ..HostMemory::default()
            };
            Host { memory, pressure }
        })
        .boxed()
}

fn follow(temper: Temper) -> BoxedStrategy<Follow> {
    prop_oneof![
        4 => Just(Follow::AtOnce),
        1 => (1..200_u64).prop_map(Follow::Slowly),
        temper.faulty() => Just(Follow::Never),
    ]
    .boxed()
}

pub fn guest(temper: Temper) -> BoxedStrategy<Guest> {
    let b = |range| bytes(temper, range);
    let memory = (b(64..2048), b(0..1024), b(0..512), follow(temper));
    let pod = (option::of(b(0..128)), option::weighted(0.3, b(0..2048)), option::weighted(0.2, b(64..4096)));
    let memory = (memory, prop::bool::weighted(0.2));
    let fault = prop_oneof![30 => Just(None), 1 => prop::sample::select(vec![0_u8, 1, 2, 3]).prop_map(Some)];
    (memory, pod, fault, prop_oneof![6 => Just(0_u8), 1 => 1..3_u8], option::weighted(0.9, 1..15_u32))
        .prop_map(
            move |(
                ((full, used, cache, follows), in_cluster),
                (overhead, request, limit),
                fault,
                class,
                period,
            )| Guest {
                in_cluster,
                full,
                actual: full,
                plugged: Bytes::ZERO,
                plugging: false,
                used,
                cache,
                follows,
                words: Words::Honest,
                stamp: Stamp::Now,
                period,
                held: None,
                overhead,
                request,
                limit,
                has_balloon: fault != Some(0),
                untouchable: (fault == Some(1)).then_some(Untouchable::HugePages),
                opt_out: None,
                listed: fault != Some(2),
                class,
                migrating: false,
                state: RunState::Running,
                silent: false,
                // A guest of which nobody sees that it is another process by now seems to disobey.
                process: (fault != Some(3) || temper == Temper::Honest).then_some(1),
                started: 0,
                present: true,
                swap_in: 0,
                faults: 0,
            },
        )
        .boxed()
}

fn words(temper: Temper) -> BoxedStrategy<Words> {
    let b = || option::weighted(0.95, bytes(temper, 0..2048));
    prop_oneof![
        2 => Just(Words::Honest),
        1 => (b(), b(), b()).prop_map(|(total, unused, usable)| Words::Raw { total, unused, usable }),
    ]
    .boxed()
}

fn stamp() -> impl Strategy<Value = Stamp> {
    prop_oneof![
        3 => Just(Stamp::Now),
        2 => Just(Stamp::Frozen),
        1 => Just(Stamp::Absent),
        1 => prop::sample::select(vec![0, 1, u64::MAX]).prop_map(Stamp::Raw),
        1 => (-100..100_i64).prop_map(Stamp::Off),
    ]
}

fn state() -> impl Strategy<Value = RunState> {
    use RunState::{Busy, Paused, Running, Unreachable};
    prop::sample::select(vec![Running, Running, Running, Paused, Busy, Unreachable])
}

/// What its owner and the API may do to any guest, and what it does with its memory.
fn ordinary(temper: Temper) -> BoxedStrategy<Change> {
    let b = move |range| bytes(temper, range);
    let out = vec![None, None, Some(OptOut::Annotation), Some(OptOut::Class), Some(OptOut::NoClass)];
    prop_oneof![
        8 => b(0..2048).prop_map(Change::Uses),
        3 => b(0..512).prop_map(Change::Caches),
        1 => state().prop_map(Change::State),
        1 => prop::sample::select(out).prop_map(Change::OptOut),
        1 => prop::bool::weighted(0.7).prop_map(Change::Listed),
        1 => prop_oneof![2 => Just(0_u8), 1 => 1..4_u8].prop_map(Change::Class),
        1 => any::<bool>().prop_map(Change::Migrating),
        1 => option::of(b(0..2048)).prop_map(Change::Request),
        1 => option::of(b(64..4096)).prop_map(Change::Limit),
        1 => b(0..1024).prop_map(Change::Plugs),
        1 => prop::bool::weighted(0.3).prop_map(Change::Plugging),
        3 => Just(Change::Reboot),
        1 => Just(Change::Restart),
        1 => any::<bool>().prop_map(Change::Present),
    ]
    .boxed()
}

/// What goes wrong in it.
fn fault(temper: Temper) -> BoxedStrategy<Change> {
    let b = move |range| bytes(temper, range);
    let untouchable = vec![None, Some(Untouchable::HostDevice), Some(Untouchable::Guaranteed)];
    prop_oneof![
        2 => follow(temper).prop_map(Change::Follows),
        3 => b(0..2048).prop_map(Change::Holds),
        3 => words(temper).prop_map(Change::Says),
        4 => stamp().prop_map(Change::Stamps),
        1 => option::of(0..120_u32).prop_map(Change::Period),
        2 => option::of(b(0..2048)).prop_map(Change::Held),
        1 => option::of(b(0..256)).prop_map(Change::Overhead),
        1 => any::<bool>().prop_map(Change::Silent),
        1 => prop::sample::select(untouchable).prop_map(Change::Untouchable),
        2 => number(temper, 0..(100_u64 << 20)).prop_map(Change::SwapIn),
        1 => number(temper, 0..10_000_u64).prop_map(Change::Faults),
        1 => Just(Change::LoseProcess),
        2 => prop::bool::weighted(0.4).prop_map(Change::Shown),
    ]
    .boxed()
}

fn change(temper: Temper) -> BoxedStrategy<Change> {
    match temper {
        Temper::Honest => ordinary(temper),
        _ => prop_oneof![ordinary(temper), fault(temper)].boxed(),
    }
}

fn turn(temper: Temper) -> BoxedStrategy<TurnPlan> {
    let jumps = vec![Duration::from_hours(1), Duration::from_hours(20_000), Duration::from_secs(1 << 57)];
    let after = prop_oneof![
        20 => (0..12_u64).prop_map(Duration::from_secs),
        4 => (0..2000_u64).prop_map(Duration::from_millis),
        1 => (12..120_u64).prop_map(Duration::from_secs),
        temper.odd() => prop::sample::select(jumps),
    ];
    let kind = prop_oneof![
        6 => Just(Turn::Tick),
        3 => Just(Turn::Relief),
        1 => Just(Turn::Alarm),
        1 => Just(Turn::Handover)
    ];
    let wall = prop_oneof![20 => Just(0_i64), temper.odd() => -10_000..10_000_i64];
    let flags = (prop::bool::weighted(0.05), prop::bool::weighted(0.05), prop::bool::weighted(0.05));
    let eviction = prop_oneof![3 => Just(Bytes::ZERO), 1 => bytes(temper, 0..256)];
    let swapped = (option::weighted(0.1, host(temper)), option::weighted(0.05, policy(temper)));
    let changes = prop_oneof![2 => vec((0..6_usize, change(temper)), 0..1), 1 => vec((0..6_usize, change(temper)), 1..4)];
    (after, kind, wall, flags, eviction, swapped, changes)
        .prop_map(
            |(after, turn, wall_jump, (paused, release, refused), eviction, (host, policy), changes)| {
                TurnPlan { after, wall_jump, turn, paused, release, eviction, refused, changes, host, policy }
            },
        )
        .boxed()
}

/// Programs as people write them, and as nobody should.
const PROGRAMS: [&str; 9] = [
    include_str!("../../../../../deploy/samples/mom/balloon.rules"),
    include_str!("../../../../../deploy/samples/mom/ksm.rules"),
    // All from everybody, and all to everybody.
    "(with Guests g (g.Control \"balloon_target\" 0))",
    "(with Guests g (g.Control \"balloon_target\" 1e15))",
    // What is no size, for some; an error for others.
    "(with Guests g (g.Control \"balloon_target\" (- (* 1e308 g.balloon_cur) (* 1e308 10))))",
    "(with Guests g {(g.Control \"balloon_target\" (* 0.8 g.balloon_cur)) (if (< g.mem_unused 262144) (/ 1 0) 0)})",
    // A step down and back, by turns.
    "(with Guests g (let ((up (g.GetVar \"up\"))) (if (null up) {(g.SetVar \"up\" 1) (g.Control \"balloon_target\"
        (* 0.7 g.balloon_cur))} {(g.SetVar \"up\" nil) (g.Control \"balloon_target\" (* 1.2 g.balloon_cur))})))",
    // Whatever the sample says.
    "(with Guests g (g.Control \"balloon_target\" (- (g.StatAvg \"balloon_cur\") (g.StatAvg \"mem_unused\"))))",
    // Remembers more and more, tells everything, and fails in the end.
    "(def f (n) {(Host.SetVar n n) (Host.Control n n) (if (< n \"xxxxxxxxxx\") (f (+ n \"x\")) 0)})
        (with Guests g (g.Control \"balloon_target\" (* 0.9 g.balloon_cur))) (f \"x\") (f 1)",
];

/// A policy's program, where it has one.
fn program() -> impl Strategy<Value = Option<Mom>> {
    let texts = prop::sample::select(PROGRAMS.to_vec());
    let slot = |text: &str| Slot { name: "main".into(), text: text.into() };
    prop::option::weighted(0.25, texts.prop_map(move |text| Mom::new(vec![slot(text)]).unwrap()))
}

/// The same courses, where a policy may carry a program.
fn programmed(courses: BoxedStrategy<Course>) -> BoxedStrategy<Course> {
    let programmed = |(mut course, mom): (Course, Option<Mom>)| {
        for plan in &mut course.turns {
            if let Some(policy) = &mut plan.policy {
                policy.mom.clone_from(&mom);
            }
        }
        course.policy.mom = mom;
        course
    };
    (courses, program()).prop_map(programmed).boxed()
}

/// A course of that temper.
pub fn tempered(temper: Temper) -> BoxedStrategy<Course> {
    let turns = vec(turn(temper), 1..40);
    (host(temper), policy(temper), vec(guest(temper), 1..6), prop::bool::weighted(0.3), turns)
        .prop_map(|(host, policy, guests, keep_found, turns)| Course {
            host,
            policy,
            guests,
            keep_found,
            turns,
        })
        .boxed()
}

/// Any course.
pub fn any_course() -> BoxedStrategy<Course> {
    programmed(unprogrammed())
}

/// Any course in which the adaptive engine decides.
fn unprogrammed() -> BoxedStrategy<Course> {
    prop_oneof![tempered(Temper::Honest), tempered(Temper::Valid), tempered(Temper::Hostile)].boxed()
}

/// Courses in which guests idle, are squeezed, and then together need more than there is, and swap; whatever else happens to
/// them.
pub fn thirsty_course() -> BoxedStrategy<Course> {
    (unprogrammed(), vec(256..1024_u64, 6), 40..90_u64, 60..101_u64)
        .prop_map(|(mut course, sizes, room, thirst)| {
            let mut sum = Bytes::ZERO;
            for (guest, size) in course.guests.iter_mut().zip(sizes) {
                guest.full = Bytes::from_mib(size);
                (guest.actual, guest.used, guest.cache) = (guest.full, guest.full.scaled(1, 5), Bytes::ZERO);
                (guest.request, guest.limit, guest.overhead) = (None, None, Some(Bytes::ZERO));
                sum = sum.plus(guest.full);
            }
            let memory = HostMemory { total: sum.scaled(room, 100), ..HostMemory::default() };
            course.host = Host { memory: HostMemory { available: memory.total, ..memory }, pressure: None };
            course.policy.mode = Mode::Enforce;
            course.policy.interval = Duration::from_secs(5);
            course.policy.reserve.minimum = Amount::Bytes(Bytes::ZERO);
            course.policy.limits = Limits {
                take_per_guest: Amount::Part(Permille::from_percent(20)),
                take_per_node: Amount::Part(Permille::from_percent(20)),
                dead_band: Amount::Part(Permille::from_percent(1)),
            };
            course.policy.classes.iter_mut().for_each(|class| class.floor.bytes = Bytes::ZERO);
            let begins = course.turns.len() / 3;
            for (at, turn) in course.turns.iter_mut().enumerate() {
                (turn.host, turn.policy) = (None, None);
                for (place, guest) in course.guests.iter().enumerate().filter(|_| at >= begins) {
                    if at == begins {
                        turn.changes.push((place, Change::Uses(guest.full.scaled(thirst, 100))));
                    }
                    turn.changes.push((place, Change::SwapIn(50 << 20)));
                }
            }
            course
        })
        .boxed()
}
