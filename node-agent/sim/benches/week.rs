//! `make bench-sim`: how much faster than life a week of a full node passes, and whether memory stays flat meanwhile.

#![allow(clippy::unwrap_used, clippy::expect_used)] // as in tests

use std::time::{Duration, Instant};

use overcommit_sim::scenario::{self, Scenario, Span};
use overcommit_sim::{Orders, simulate};

/// The longest window of the decisions is of an hour (docs/ledger.md).
const WARM: Duration = Duration::from_hours(2);
/// By which the most that is allocated at a time may grow after that, bytes.
const FLAT: u64 = 1 << 20;

fn main() {
    // `cargo test --benches` has no week to spare.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/");
    let read = |path: &str| std::fs::read(folder.to_owned() + path).expect(path);
    let week = scenario::read(&read("scenarios/night-and-day-110-guests.yaml")).unwrap();
    let orders = Orders::read(&read("../../deploy/samples/enforce.yaml")).unwrap();
    let most = |node: &Scenario| {
        allocation_counter::measure(|| drop(std::hint::black_box(simulate("week", node, &orders)))).bytes_max
    };
    let warm = most(&Scenario { lasts: Span(WARM), ..week.clone() });
    let begun = Instant::now();
    let whole = most(&week);
    let took = begun.elapsed();
    let times = week.lasts.0.as_millis() / took.as_millis().max(1);
    println!("a week of 110 guests took {:.1} s: {times} times faster than life", took.as_secs_f64());
    println!("allocated at most: {} KiB in two hours, {} KiB in the week", warm >> 10, whole >> 10);
    assert!(whole <= warm + FLAT, "memory grows");
}
