//! What the stock balloon policy costs at 110 guests, the most that a kubelet runs pods by default: to load it, and to
//! evaluate it; time, and allocations. `make bench-policy`.

#![allow(clippy::unwrap_used, missing_docs)]

use divan::counter::ItemsCount;
use divan::{AllocProfiler, Bencher, black_box};
use overcommit_policy::{Limits, Program, Source, Value, World, check, evaluate};

#[global_allocator]
static ALLOC: AllocProfiler = AllocProfiler::system();

/// Pods of a node unless it is told otherwise (`--max-pods`, pkg/kubelet/apis/config/v1beta1/defaults.go).
const GUESTS: u32 = 110;
const BALLOON: &[u8] = include_bytes!("../../../deploy/samples/mom/balloon.rules");

fn main() {
    divan::main();
}

fn sources() -> [Source<'static>; 1] {
    [Source { name: "balloon.rules", bytes: BALLOON }]
}

/// A host with that part of its memory free, and guests of 4 GiB with ten samples each.
fn world(free_percent: i64) -> World {
    let total = 110 * 4_194_304;
    let mut world = World::default();
    let host = [("mem_available", total), ("mem_free", total * free_percent / 100)];
    let host = host.map(|(name, value)| (world.field(name), Value::Int(value)));
    let fields = ["balloon_cur", "balloon_max", "balloon_min", "mem_unused"].map(|name| world.field(name));
    for _ in 0..10 {
        world.host.push(host.clone());
    }
    for n in 0..GUESTS {
        let mut guest = overcommit_policy::world::Subject::named(&format!("guest-{n:03}"));
        for sample in 0..10 {
            let unused = i64::from(n * 37_000 + sample * 1000);
            guest.push(fields.into_iter().zip([3_900_000, 4_194_304, 1_048_576, unused].map(Value::Int)));
        }
        world.guests.push(guest);
    }
    world
}

#[divan::bench]
fn parse(bencher: Bencher<'_, '_>) {
    bencher.bench(|| Program::parse(&sources()).unwrap());
}

#[divan::bench]
fn parse_and_check(bencher: Bencher<'_, '_>) {
    bencher.bench(|| check(black_box(&sources())));
}

/// A fresh world for each evaluation, as for each cycle; making it is not measured.
#[divan::bench(args = [10, 50])]
fn evaluate_with_percent_free(bencher: Bencher<'_, '_>, free: i64) {
    let program = Program::parse(&sources()).unwrap();
    let world = world(free);
    bencher
        .counter(ItemsCount::new(GUESTS))
        .with_inputs(|| world.clone())
        .bench_refs(|world| evaluate(&program, world, &Limits::default()).unwrap());
}
