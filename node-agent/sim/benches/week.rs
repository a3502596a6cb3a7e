//! `make bench-sim`: how much faster than life a week of a full node passes, and whether memory stays flat meanwhile.

#![allow(clippy::unwrap_used, clippy::expect_used)] // as in tests

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use overcommit_sim::{Orders, scenario, simulate};

/// How often memory is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// The longest window of the decisions is of an hour (docs/ledger.md); a tenth of the week is beyond all warm-up.
const WARM: usize = 10;

fn main() {
    // `cargo test --benches` has no week to spare.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/");
    let read = |path: &str| std::fs::read(folder.to_owned() + path).expect(path);
    let node = scenario::read(&read("scenarios/night-and-day-110-guests.yaml")).unwrap();
    let orders = Orders::read(&read("../../deploy/samples/enforce.yaml")).unwrap();
    let (over, begun) = (AtomicBool::new(false), Instant::now());
    let (sizes, course) = std::thread::scope(|threads| {
        let watch = threads.spawn(|| watch(&over));
        let outcome = simulate("week", &node, &orders);
        over.store(true, Ordering::Relaxed);
        // The course for the picture fills up to its bound all the week; the lists double as they grow.
        let points = outcome.series.node.budget.len() * 2 * size_of::<u64>();
        (watch.join().unwrap(), (4 * outcome.guests.len() + 3) * points)
    });
    let took = begun.elapsed();
    let times = node.lasts.0.as_millis() / took.as_millis().max(1);
    let warm = sizes.get(sizes.len() / WARM..).unwrap_or_default();
    let (least, most) = (warm.iter().min().unwrap_or(&0), warm.iter().max().unwrap_or(&0));
    println!("a week of 110 guests took {:.1} s: {times} times faster than life", took.as_secs_f64());
    let course = u64::try_from(course).unwrap_or(u64::MAX) >> 10;
    println!(
        "anonymous memory once warm: {least} to {most} KiB, {course} of it the picture's course at most"
    );
    assert!(most - least <= 1024 + course, "memory grows");
}

/// Its own anonymous memory (`RssAnon`), KiB, until it is over.
fn watch(over: &AtomicBool) -> Vec<u64> {
    let mut sizes = Vec::new();
    while !over.load(Ordering::Relaxed) {
        let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:"));
        sizes.extend(line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok()));
        std::thread::sleep(LOOK);
    }
    sizes
}
