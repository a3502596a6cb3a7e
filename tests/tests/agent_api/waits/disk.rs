//! The disk under the state directory fails.

use std::process::Command;

use crate::bench::Bench;

/// Has the disk hang under new orders: opening a pipe for writing waits for a reader.
fn hang(bench: &Bench) {
    assert!(Command::new("mkfifo").arg(bench.fresh_orders()).status().unwrap().success());
}

#[test]
fn a_disk_that_hangs_holds_up_neither_orders_nor_words_nor_the_end() {
    let mut bench = Bench::running();
    hang(&bench);
    bench.order("two");
    bench.expect_reported("two");
    bench.wait_trouble(&["nothing is written to", "the disk hangs"]);
    let hung = "{.status.conditions[?(@.type==\"Degraded\")].message}";
    bench.expect(hung, |said| said.contains("the disk hangs"));
    assert_eq!(bench.get("/healthz").unwrap().0, 200);
    bench.order("three");
    bench.expect_reported("three");
    let kept = std::fs::read_to_string(bench.dir.join("orders.json")).unwrap();
    assert!(kept.contains("\"one\""), "the last that could be written: {kept}");
    drop(std::fs::File::open(bench.fresh_orders()).unwrap());
    bench.wait_no_trouble();
    bench.expect_kept("three");
    hang(&bench);
    bench.order("four");
    bench.expect_reported("four");
    bench.stop_agent();
}

#[test]
fn orders_that_a_disk_refused_are_written_when_it_takes_them_and_hold_after_a_restart() {
    let mut bench = Bench::running();
    // Nothing can be written over a folder.
    std::fs::create_dir(bench.fresh_orders()).unwrap();
    bench.order("two");
    bench.wait_trouble(&["orders.json cannot be written", "a restart may follow older orders"]);
    std::fs::remove_dir(bench.fresh_orders()).unwrap();
    bench.wait_no_trouble();
    bench.expect_kept("two");
    bench.stop_agent();
    bench.api.stop_apiserver();
    bench.start_agent();
    let report = bench.wait_report("a report", |_| true);
    assert_eq!((&report["revision"], &report["cached"]), (&"two".into(), &true.into()), "{report}");
}
