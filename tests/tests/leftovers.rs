//! What the test bed does to the machine is undone, and processes end with all that descends from them. Needs root, as the tiers do.

#![allow(
    clippy::unwrap_used,
    reason = "all of this is test code; the exception in clippy.toml sees only the test functions"
)]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use overcommit_tests::machine;
use overcommit_tests::process::Launch;
use overcommit_tests::session::Session;
use overcommit_tests::undo::Undo;
use overcommit_tests::wait::until;

const SOON: Duration = Duration::from_mins(1);

fn run(command: &str) -> String {
    let done = Command::new("sh").args(["-c", command]).output().unwrap();
    assert!(done.status.success(), "{command}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

#[test]
fn mounts_swap_links_addresses_and_values_are_undone_and_twice_is_fine() {
    let session = Session::start().unwrap();
    let dir = session.fresh_dir("undo").unwrap();
    let (mount, swap, at) = (dir.join("mount"), dir.join("swap"), dir.display());
    let address = Undo::RemoveAddress { link: "lo".into(), address: "127.77.0.1/32".into() };
    let link = "ocveth0";
    let undos = [
        Undo::Unmount(mount.clone()),
        Undo::SwapOff(swap.clone()),
        address,
        Undo::RemoveLink(link.into()),
        Undo::restore("/proc/sys/vm/page-cluster").unwrap(),
    ];
    let before = run("cat /proc/sys/vm/page-cluster; ip -o link; ip -o address show lo; cat /proc/swaps");
    let pending: Vec<_> = undos.iter().map(|undo| session.undo_later(undo.clone()).unwrap()).collect();

    run(&format!(
        "mkdir {at}/mount && mount -t tmpfs tmpfs {at}/mount && mkdir {at}/mount/in && mount -t tmpfs tmpfs {at}/mount/in"
    ));
    run(&format!(
        "dd if=/dev/zero of={at}/swap bs=1M count=8 status=none && chmod 600 {at}/swap && mkswap {at}/swap && swapon {at}/swap"
    ));
    run(&format!("ip address add 127.77.0.1/32 dev lo && ip link add {link} type veth peer name {link}p"));
    run("echo 1 > /proc/sys/vm/page-cluster");
    drop(pending);

    assert!(!fs::read_to_string("/proc/self/mounts").unwrap().contains(mount.to_str().unwrap()));
    let after = run("cat /proc/sys/vm/page-cluster; ip -o link; ip -o address show lo; cat /proc/swaps");
    assert_eq!(after, before);
    for undo in undos {
        undo.perform().unwrap();
    }
}

#[test]
fn a_process_takes_its_detached_descendants_with_it() {
    let session = Session::start().unwrap();
    let script = "setsid sh -c 'sleep 1000 & echo $!; wait' & wait";
    let process = session.spawn(Launch::new("parent", "sh").args(["-c", script])).unwrap();
    let sleeper: u32 =
        process.ready(SOON, "a grandchild", || process.output().trim().parse::<u32>()).unwrap();
    assert!(machine::is_running(sleeper) && process.members().contains(&sleeper));
    drop(process);
    assert!(!machine::is_running(sleeper));
}

#[test]
fn a_process_lives_on_when_the_thread_that_asked_for_it_ends() {
    let session = Session::start().unwrap();
    let ask = || session.spawn(Launch::new("sleeper", "sleep").arg("1000")).unwrap();
    let process = std::thread::scope(|scope| scope.spawn(ask).join().unwrap());
    assert!(process.ended().unwrap().is_none());
    assert!(process.terminate(SOON).is_ok());
}

#[test]
fn an_error_shows_the_end_of_the_log() {
    let session = Session::start().unwrap();
    let process = session
        .spawn(Launch::new("broken", "sh").args(["-c", "echo no such flag: --x >&2; exit 3"]))
        .unwrap();
    let error = format!("{:#}", process.ready(SOON, "its port", || false).unwrap_err());
    assert!(error.contains("before its port") && error.contains("no such flag: --x"), "{error}");
    assert!(error.contains(process.log().to_str().unwrap()), "{error}");
}

#[test]
fn mounts_of_a_process_of_its_own_namespace_are_not_seen_outside() {
    let session = Session::start().unwrap();
    let script = "mount -t tmpfs tmpfs /mnt && touch /mnt/inside && echo $$ && sleep 1000";
    let process =
        session.spawn(Launch::new("hidden", "sh").args(["-c", script]).own_pids_and_mounts()).unwrap();
    let own: u32 = process.ready(SOON, "its mount", || process.output().trim().parse::<u32>()).unwrap();
    assert_eq!(own, 1);
    assert!(!Path::new("/mnt/inside").exists());
}

#[test]
fn a_session_that_ends_in_order_leaves_nothing() {
    let session = Session::start().unwrap();
    let (dir, guardian) = (session.dir().to_owned(), session.guardian_pid());
    let sleeper = session.spawn(Launch::new("sleeper", "sleep").arg("1000")).unwrap();
    let pid = sleeper.pid();
    drop(sleeper);
    drop(session);
    until(SOON, "the guardian's end", || !machine::is_running(guardian)).unwrap();
    assert!(!dir.exists() && !machine::is_running(pid));
    assert!(!machine::cgroup2_root().unwrap().join(dir.file_name().unwrap()).exists());
}
