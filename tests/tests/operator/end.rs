//! How it ends. Not among the tests that wait: what is measured here must not compete with API servers that start beside it.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::bench::{Bench, SOON};

/// What the chart has the kubelet wait, and a third of the pause between two turns; a watch lasts for minutes. It takes half a
/// second.
const AT_ONCE: Duration = Duration::from_secs(10);

#[test]
fn it_ends_at_once_when_it_is_asked_to_and_waits_for_no_watch() {
    let bench = Bench::start(&[]);
    let process = &bench.operator().process;
    let asked = Instant::now();
    process.signal(Signal::TERM).unwrap();
    let status = process.wait(SOON).unwrap();
    assert!(asked.elapsed() < AT_ONCE, "{:?}", asked.elapsed());
    assert!(status.success(), "{status}");
}
