//! The guests tier itself: what later tests build upon must hold.

#![allow(
    clippy::unwrap_used,
    reason = "all of this is test code; the exception in clippy.toml sees only the test functions"
)]

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use overcommit_tests::guests::{Balloon, Guest, GuestSpec, Hypervisor, Load, MemoryStats};
use overcommit_tests::hugepages::HugePages;
use overcommit_tests::machine::{self, MIB};
use overcommit_tests::session::Session;
use overcommit_tests::squeeze::Squeeze;
use overcommit_tests::valve::{Cause, Valve, ValveOrder, now};
use overcommit_tests::wait::until;
use overcommit_tests::waits::Waits;
use rustix::process::{Pid, Signal, kill_process};

const SOON: Duration = Duration::from_mins(3);

/// Starts guests side by side and waits for all.
fn booted<const N: usize>(specs: [GuestSpec; N]) -> [Guest; N] {
    let hypervisor = Hypervisor::shared().unwrap();
    let guests = specs.map(|spec| hypervisor.define_and_start(&spec).unwrap());
    for guest in &guests {
        guest.wait_booted().unwrap();
    }
    guests
}

fn stats_when(guest: &Guest, what: &str, holds: impl Fn(&MemoryStats) -> bool) -> MemoryStats {
    let look = || {
        let stats = guest.memory_stats().map_err(|e| e.to_string())?;
        if holds(&stats) { Ok(stats) } else { Err(format!("{stats:?}")) }
    };
    until(SOON, what, look).unwrap()
}

#[test]
fn several_guests_boot_at_once_and_report_fresh_statistics() {
    let guests = booted([1, 2, 3].map(|n| GuestSpec::new(format!("fresh-{n}"), 192).stats_period_s(1)));
    for guest in &guests {
        let stats = stats_when(guest, "usable memory in a report of the last 3 s", |s| {
            s.usable_kib.is_some() && s.age().is_some_and(|age| age < Duration::from_secs(3))
        });
        assert_eq!(stats.actual_kib, 192 * 1024);
    }
}

#[test]
fn the_balloon_follows_its_target_and_survives_a_reset() {
    let [guest] = booted([GuestSpec::new("follows", 256).stats_period_s(1)]);
    guest.set_balloon_mib(160).unwrap();
    stats_when(&guest, "an inflated balloon", |s| s.actual_kib == 160 * 1024);
    guest.reset().unwrap();
    until(Duration::from_mins(5), "a second boot", || guest.boots() == 2).unwrap();
    stats_when(&guest, "the new kernel's inflated balloon", |s| s.actual_kib == 160 * 1024);
    guest.set_balloon_mib(256).unwrap();
    stats_when(&guest, "a deflated balloon", |s| s.actual_kib == 256 * 1024);
    guest.set_stats_period_s(5).unwrap();
    assert_eq!(guest.stats_period_s().unwrap(), Some(5));
}

#[test]
fn a_guest_reboots_when_ordered_and_when_its_time_has_come() {
    let specs = [GuestSpec::new("ordered", 192), GuestSpec::new("timed", 192).reboot_after_s(3)];
    let [ordered, timed] = booted(specs);
    ordered.order("reboot").unwrap();
    for guest in [&ordered, &timed] {
        until(Duration::from_mins(5), "a second boot", || guest.boots() >= 2).unwrap();
    }
}

#[test]
fn a_guest_on_huge_pages_gives_them_back() {
    let [guest] = booted([GuestSpec::new("huge", 192).hugepages()]);
    assert_eq!(
        machine::meminfo("HugePages_Total").unwrap() - machine::meminfo("HugePages_Free").unwrap(),
        96
    );
    guest.destroy().unwrap();
    assert_eq!(machine::meminfo("HugePages_Free").unwrap(), machine::meminfo("HugePages_Total").unwrap());
}

#[test]
fn a_busy_guest_grows_its_qemu_and_an_order_makes_an_idle_one_busy() {
    let [guest] = booted([GuestSpec::new("orders", 256)]);
    assert!(guest.load_status().unwrap().starts_with("idle:24 runs"), "{}", guest.load_status().unwrap());
    let before = guest.resident_bytes().unwrap();
    guest.begin(&Load::Busy { mib: 120, ramp_mib_per_s: 60 }).unwrap();
    until(SOON, "QEMU to grow by 80 MiB", || {
        let now = guest.resident_bytes().unwrap();
        if now > before + 80 * MIB { Ok(()) } else { Err(format!("{before} to {now}")) }
    })
    .unwrap();
    guest.wait_console(SOON, "held=120MiB").unwrap();
    assert!(guest.order("dance").unwrap_err().to_string().contains("unknown order"));
}

#[test]
fn a_service_answers_out_of_its_files_and_says_how_long_each_request_waited() {
    let load = Load::Cloudy { data_mib: 32, heap_mib: 8, per_second: 16, seed: 7 };
    let [guest] = booted([GuestSpec::new("cloudy", 256).swap_mib(64).data_mib(32).load(load)]);
    let answered = || -> Option<Waits> {
        let console = guest.console();
        let (_, waits) = console.rsplit_once("waits=")?;
        waits.lines().next()?.trim().parse().ok()
    };
    let waits =
        until(SOON, "a hundred answers", || answered().filter(|waits| waits.count() >= 100).ok_or("fewer"));
    let median = waits.unwrap().quantile_ms(500, 0).unwrap();
    assert!((0.1..10_000.0).contains(&median), "{median} ms");
    let stats = stats_when(&guest, "its files in the cache", |stats| {
        stats.usable_kib.zip(stats.unused_kib).is_some_and(|(usable, unused)| usable >= unused + (24 << 10))
    });
    assert_eq!(stats.actual_kib, 256 * 1024);
    let [without] = booted([GuestSpec::new("no-files", 192)]);
    without.begin(&Load::Cloudy { data_mib: 32, heap_mib: 8, per_second: 16, seed: 7 }).unwrap();
    without.wait_console(SOON, "LOAD has no disk of files").unwrap();
}

#[test]
fn a_load_that_is_too_large_is_seen_to_be_killed() {
    let [guest] = booted([GuestSpec::new("killed", 192).load(Load::Hold { mib: 400 })]);
    guest.wait_console(SOON, "LOAD killed signal=9 load=hold:400").unwrap();
    assert!(guest.load_status().unwrap().contains("ended"));
}

#[test]
fn a_guest_can_swap_and_lack_the_balloon_or_its_driver() {
    let specs = [
        GuestSpec::new("swaps", 192).swap_mib(256).stats_period_s(1).load(Load::Hold { mib: 220 }),
        GuestSpec::new("driverless", 192).balloon(Balloon::WithoutDriver),
        GuestSpec::new("deviceless", 192).balloon(Balloon::Absent),
    ];
    let [swaps, driverless, deviceless] = booted(specs);
    stats_when(&swaps, "pages swapped out", |s| s.swap_out_kib.is_some_and(|kib| kib > 0));
    assert_eq!(driverless.memory_stats().unwrap().last_update, None);
    assert_eq!(deviceless.stats_period_s().unwrap(), None);
    assert_eq!(swaps.stats_period_s().unwrap(), Some(1));
}

#[test]
fn guests_outlive_their_daemon_and_are_found_again() {
    let hypervisor = Hypervisor::start().unwrap();
    let guest = hypervisor.define_and_start(&GuestSpec::new("outlives", 192)).unwrap();
    guest.wait_booted().unwrap();
    let qemu = guest.qemu_pid().unwrap();
    hypervisor.kill_daemon().unwrap();
    assert!(machine::is_running(qemu));
    hypervisor.restart_daemon().unwrap();
    assert_eq!(guest.state().unwrap(), "running");
    guest.set_balloon_mib(160).unwrap();
    stats_when(&guest, "an inflated balloon", |s| s.actual_kib == 160 * 1024);
    drop(guest);
    assert!(!machine::is_running(qemu));
}

#[test]
fn a_killed_test_bed_leaves_nothing_behind() {
    let program = machine::sibling("testbed-guests").unwrap();
    let output = tempfile::NamedTempFile::new().unwrap();
    let mut bed = Command::new(program)
        .arg("192")
        .stdin(Stdio::null())
        .stdout(output.reopen().unwrap())
        .spawn()
        .unwrap();
    let said = || std::fs::read_to_string(output.path()).unwrap();
    until(Duration::from_mins(6), "a guest", || said().contains("ready").then_some(()).ok_or_else(said))
        .unwrap();
    let text = said();
    let word_after = |word: &str| {
        let mut words = text.split_whitespace().skip_while(|w| *w != word);
        words.nth(1).unwrap().to_owned()
    };
    let [libvirtd, qemu, guardian] =
        ["libvirtd", "qemu", "guardian"].map(|w| word_after(w).parse::<u32>().unwrap());
    assert!(machine::is_running(libvirtd) && machine::is_running(qemu));

    bed.kill().unwrap();
    bed.wait().unwrap();

    until(SOON, "the guardian's end", || !machine::is_running(guardian)).unwrap();
    assert!(!machine::is_running(libvirtd) && !machine::is_running(qemu));
    let folder = PathBuf::from(word_after("folder"));
    assert!(!folder.exists());
    assert!(!machine::cgroup2_root().unwrap().join(folder.file_name().unwrap()).exists());
}

/// When the valve of a squeeze opens.
const VALVE: Duration = Duration::from_secs(45);

#[test]
fn a_squeeze_takes_what_it_says_and_the_valve_gives_it_back_at_its_deadline() {
    let session = Session::shared().unwrap();
    let begun = Instant::now();
    // Long enough to take it all on a slow machine.
    let squeeze = Squeeze::taking(session, 1024, VALVE).unwrap();
    assert_eq!(squeeze.taken_mib().unwrap(), 1024);
    let another = HugePages::take_over(session, Duration::ZERO).unwrap_err().to_string();
    assert!(another.contains("another use of huge pages"), "{another}");

    let why = until(SOON, "the valve", || squeeze.opened()).unwrap();
    assert!(why.contains("deadline") && begun.elapsed() >= VALVE, "{why}");
    assert_eq!(squeeze.taken_mib().unwrap(), 0);
}

#[test]
fn a_squeeze_leaves_the_tools_their_memory() {
    let session = Session::shared().unwrap();
    let refused = Squeeze::leaving(session, 900, Duration::from_secs(20)).unwrap_err().to_string();
    assert!(refused.contains("must leave 1024 MiB"), "{refused}");
}

/// A valve that relieves nothing but a file, with an hour to its deadline.
fn dry_valve(stall: Duration) -> (Valve, PathBuf) {
    let session = Session::shared().unwrap();
    let relief = session.fresh_dir("relief").unwrap().join("file");
    std::fs::write(&relief, "9").unwrap();
    let order =
        ValveOrder { stall, deadline: Duration::from_hours(1), relief: relief.clone(), value: "0".into() };
    (Valve::start(session, &order).unwrap(), relief)
}

#[test]
fn a_valve_opens_when_its_starter_lets_go() {
    let (valve, relief) = dry_valve(Duration::from_hours(1));
    let why = valve.open_now().unwrap();
    assert!(why.contains("starter is gone"), "{why}");
    assert_eq!(std::fs::read_to_string(relief).unwrap(), "0");
}

#[test]
fn a_valve_that_was_kept_from_running_takes_the_machine_for_stalled() {
    let begun = now();
    let (valve, relief) = dry_valve(Duration::from_secs(2));
    let pid = Pid::from_raw(i32::try_from(valve.pid()).unwrap()).unwrap();
    kill_process(pid, Signal::STOP).unwrap();
    let stopped = Instant::now();
    until(SOON, "3 s without the valve", || stopped.elapsed() > Duration::from_secs(3)).unwrap();
    kill_process(pid, Signal::CONT).unwrap();
    let opening = until(SOON, "the valve", || valve.opening()).unwrap();
    assert!(opening.cause == Cause::Livelock && opening.told.contains("no progress"), "{opening:?}");
    assert!(opening.at > begun && opening.at < now(), "{opening:?}");
    assert_eq!(std::fs::read_to_string(relief).unwrap(), "0");
}

#[test]
fn a_valve_that_was_killed_is_gone_and_has_not_opened() {
    let (valve, relief) = dry_valve(Duration::from_hours(1));
    assert_eq!(valve.opening(), None);
    let pid = Pid::from_raw(i32::try_from(valve.pid()).unwrap()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
    let opening = until(SOON, "the valve", || valve.opening()).unwrap();
    assert_eq!(opening.cause, Cause::Gone, "{opening:?}");
    assert_eq!(std::fs::read_to_string(relief).unwrap(), "9");
}
