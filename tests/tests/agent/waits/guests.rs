//! The agent on real guests under libvirt: what people get from `overcommit-agent run --policy`.
//!
//! Memory is made short by what the agents are shown as their host's, not by squeezing the machine.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use overcommit_core::units::Bytes;
use overcommit_tests::agent::{Agent, HostMemory};
use overcommit_tests::guests::{Balloon, Guest, GuestSpec, Hypervisor, Load};
use overcommit_tests::session::Session;
use overcommit_tests::wait;
use rustix::process::{Pid, Signal, kill_process};

const MIB: u64 = 1 << 20;
const SIZE: u64 = 384;
/// A host on which everything fits.
const PLENTY: u64 = 16 * 1024;
/// Boot grace, then a take per statistics of 2 s and at most 10 % each; on a busy machine a take is undone and tried again later.
const SQUEEZED_BY: Duration = Duration::from_mins(6);
const GIVEN_BY: Duration = Duration::from_mins(3);

/// Period of the guests' statistics, in seconds. By one that is much longer, the first of several guests that is heard of would
/// have given all that is short before the next is heard of: one that is squeezed reports each second.
const PERIOD: u32 = 3;

fn boot(hypervisor: &Hypervisor, names: &[&str]) -> Result<Vec<Guest>> {
    let start =
        |name: &&str| hypervisor.define_and_start(&GuestSpec::new(*name, SIZE).stats_period_s(PERIOD));
    let guests = names.iter().map(start).collect::<Result<Vec<_>>>()?;
    for guest in &guests {
        guest.wait_booted()?;
    }
    Ok(guests)
}

fn actual_mib(guest: &Guest) -> Result<u64> {
    Ok(guest.memory_stats()?.actual_kib / 1024)
}

/// What the guests are promised at full size.
fn promised_mib(hypervisor: &Hypervisor, guests: u64) -> Result<u64> {
    let dir = Session::shared()?.fresh_dir("promised")?;
    let agent =
        Agent::start(hypervisor.uri(), &Agent::policy("Observe", ""), &dir, &HostMemory::new(PLENTY)?)?;
    let promised = agent.promised_mib(guests)?;
    agent.terminate()?;
    Ok(promised)
}

const OUT_CLASS: &str = "  classes:
  - {name: out, selector: {matchLabels: {name: stays-out}}, exclude: true}
  - {name: rest}
";

#[test]
fn memory_moves_from_the_idle_to_the_busy_and_back_on_interrupt() -> Result<()> {
    let hypervisor = Hypervisor::start()?;
    let guests = boot(&hypervisor, &["idles", "works", "stays-out"])?;
    let [idle, busy, out] = &guests[..] else { unreachable!() };
    // Both can give that, and what their emulators come to need; and each holds less then than a guest at work needs.
    let host = HostMemory::new(promised_mib(&hypervisor, 3)? - 350)?;
    let dir = Session::shared()?.fresh_dir("state")?;
    let agent = Agent::start(hypervisor.uri(), &Agent::policy("Enforce", OUT_CLASS), &dir, &host)?;

    agent.wait_guest(SQUEEZED_BY, "idles", "to be squeezed", |g| g.target < (SIZE - 60) * MIB)?;
    let squeezed = agent.wait_settled(SQUEEZED_BY, &host, "works")?;
    busy.begin(&Load::Paced { mib: 150, ramp_mib_per_s: 5, pace_mib_per_s: 20 })?;
    agent
        .wait_guest(GIVEN_BY, "works", "to be given memory", |g| g.actual > squeezed.actual.max(215 * MIB))?;
    busy.expect_unhurt()?;

    assert_eq!(actual_mib(out)?, SIZE, "the excluded guest was touched");
    assert!(agent.guest("stays-out")?.reason.contains("Class"));
    let told = String::from_utf8(agent.ask(&["explain", "idles"])?.stdout)?;
    assert!(told.contains("idles:") && told.contains("floor"), "{told}");
    assert_eq!(idle.stats_period_s()?, Some(1), "a squeezed guest reports often");

    host.set(PLENTY)?;
    agent.wait_guest(GIVEN_BY, "idles", "to have its full size", |g| g.target == SIZE * MIB)?;
    agent.interrupt()?;
    for guest in &guests {
        wait::until(GIVEN_BY, "the full size", || actual_mib(guest).is_ok_and(|a| a == SIZE))?;
    }
    assert_eq!(idle.stats_period_s()?, Some(PERIOD), "the period is as it was found");
    Ok(())
}

#[test]
fn a_successor_adopts_after_sigterm_and_after_kill_and_nothing_is_forgotten() -> Result<()> {
    let hypervisor = Hypervisor::start()?;
    let guests = boot(&hypervisor, &["first", "second"])?;
    let host = HostMemory::new(promised_mib(&hypervisor, 2)? - 200)?;
    let dir = Session::shared()?.fresh_dir("state")?;
    let policy = Agent::policy("Enforce", "");
    let agent = Agent::start(hypervisor.uri(), &policy, &dir, &host)?;
    wait::until(SQUEEZED_BY, "both to be short of nothing", || {
        agent
            .ledger("shortfall")
            .and_then(|s| Ok(s == 0 && agent.ledger("reclaimed")? > 100 * MIB))
            .unwrap_or(false)
    })?;
    agent.kill()?;

    let held: u64 = guests.iter().map(actual_mib).sum::<Result<u64>>()?;
    assert!(held < 2 * SIZE - 100, "the balloons stay as they were: {held} MiB");
    let agent = Agent::start(hypervisor.uri(), &policy, &dir, &host)?;
    // Its first report may come before libvirt has answered.
    agent.wait_guest(GIVEN_BY, "first", "to be known", |g| g.full == SIZE * MIB)?;
    wait::until(GIVEN_BY, "the ceilings that the first agent found, not what it left", || {
        let reclaimed = agent.ledger("reclaimed")?;
        ensure!(reclaimed > 100 * MIB, "{reclaimed}");
        Ok::<_, anyhow::Error>(())
    })?;
    agent.terminate()?;

    host.set(PLENTY)?;
    let agent = Agent::start(hypervisor.uri(), &Agent::policy("Observe", ""), &dir, &host)?;
    for name in ["first", "second"] {
        agent.wait_guest(GIVEN_BY, name, "to be given back while observing", |g| g.actual == SIZE * MIB)?;
    }
    // It is sent with the last of the memory, or a turn later.
    wait::until(GIVEN_BY, "its period", || {
        let period = guests[0].stats_period_s()?;
        ensure!(period == Some(PERIOD), "{period:?} s");
        Ok(())
    })?;
    agent.terminate()
}

#[test]
fn guests_without_device_or_driver_are_left_alone_and_say_why() -> Result<()> {
    let hypervisor = Hypervisor::shared()?;
    let none = hypervisor.define_and_start(&GuestSpec::new("no-device", 256).balloon(Balloon::Absent))?;
    let mute =
        hypervisor.define_and_start(&GuestSpec::new("no-driver", 256).balloon(Balloon::WithoutDriver))?;
    none.wait_booted()?;
    mute.wait_booted()?;
    let host = HostMemory::new(promised_mib(hypervisor, 2)? - 300)?;
    let dir = Session::shared()?.fresh_dir("state")?;
    let agent = Agent::start(hypervisor.uri(), &Agent::policy("Enforce", ""), &dir, &host)?;
    agent.wait_guest(GIVEN_BY, "no-device", "to say why", |g| g.reason.contains("NoBalloon"))?;
    agent.wait_guest(GIVEN_BY, "no-driver", "to say why", |g| g.reason.contains("NoStatistics"))?;
    agent.terminate()?;
    assert_eq!(actual_mib(&mute)?, 256);
    Ok(())
}

#[test]
fn a_stopped_libvirtd_delays_nothing_and_its_guests_are_reported() -> Result<()> {
    let hypervisor = Hypervisor::start()?;
    let guests = boot(&hypervisor, &["left"])?;
    let host = HostMemory::new(PLENTY)?;
    let dir = Session::shared()?.fresh_dir("state")?;
    let agent = Agent::start(hypervisor.uri(), &Agent::policy("Enforce", ""), &dir, &host)?;
    agent.wait_guest(GIVEN_BY, "left", "to be seen", |g| g.actual == SIZE * MIB)?;
    hypervisor.freeze_daemon()?;
    let seen = agent.wait_guest(GIVEN_BY, "left", "to be unreachable", |g| g.reason.contains("Unreachable"));
    hypervisor.thaw_daemon()?;
    seen?;
    agent.wait_guest(GIVEN_BY, "left", "to be back", |g| g.reason.contains("FullSize"))?;
    drop(guests);
    wait::until(GIVEN_BY, "the agent to forget a guest that is gone", || agent.guest("left").is_err())?;
    agent.terminate()
}

#[test]
fn a_guest_that_vanishes_inside_a_call_is_forgotten_and_its_memory_given_to_the_rest() -> Result<()> {
    let hypervisor = Hypervisor::start()?;
    let guests = boot(&hypervisor, &["stays", "vanishes"])?;
    let host = HostMemory::new(promised_mib(&hypervisor, 2)? - 150)?;
    let dir = Session::shared()?.fresh_dir("state")?;
    let agent = Agent::start(hypervisor.uri(), &Agent::policy("Enforce", ""), &dir, &host)?;
    // By one take or more: the two share what is short as their statistics come.
    agent.wait_guest(SQUEEZED_BY, "stays", "to be squeezed", |g| g.target < SIZE * MIB)?;
    let qemu = Pid::from_raw(guests[1].qemu_pid()?.try_into()?).context("no process")?;
    // libvirtd passes calls on to it, and waits for the answer.
    kill_process(qemu, Signal::STOP)?;
    let inside = agent.wait_guest(GIVEN_BY, "vanishes", "to be silent", |g| g.reason.contains("Unreachable"));
    kill_process(qemu, Signal::KILL)?;
    inside?;
    wait::until(GIVEN_BY, "the agent to forget it", || agent.guest("vanishes").is_err())?;
    agent.wait_guest(GIVEN_BY, "stays", "to have its full size", |g| g.actual == SIZE * MIB)?;
    wait::until(GIVEN_BY, "no trouble left", || {
        agent.report().is_ok_and(|report| report["troubles"] == serde_json::json!([]))
    })?;
    agent.terminate()
}

#[test]
fn a_guest_that_reboots_under_its_balloon_is_promised_all_and_given_what_there_is() -> Result<()> {
    let hypervisor = Hypervisor::start()?;
    // Alone: while it boots, another one would give all that is short.
    let guests = boot(&hypervisor, &["reboots"])?;
    let host = HostMemory::new(promised_mib(&hypervisor, 1)? - 150)?;
    let dir = Session::shared()?.fresh_dir("state")?;
    let agent = Agent::start(hypervisor.uri(), &Agent::policy("Enforce", ""), &dir, &host)?;
    agent.wait_guest(SQUEEZED_BY, "reboots", "to be squeezed", |g| g.target < (SIZE - 100) * MIB)?;
    let before = agent.wait_settled(SQUEEZED_BY, &host, "reboots")?;
    guests[0].reset()?;
    // No guest is promised more than the host has, which is less than this one's size; its emulator's own memory comes to that.
    let promised_all = || {
        let told = agent.told()?;
        let (guest, ledger) = (told.guest("reboots").context("gone")?, told.ledger.context("no ledger")?);
        let all = guest.full.min(ledger.total).plus(guest.facts.overhead.unwrap_or_default());
        Ok::<_, anyhow::Error>((guest.charge >= all, format!("{} of {all}", guest.charge)))
    };
    wait::until(SQUEEZED_BY, "its full size to be promised", || {
        let (all, seen) = promised_all()?;
        ensure!(all, "{seen}");
        Ok::<_, anyhow::Error>(())
    })?;
    // All that the host has: what it holds more than its target is what its emulator needs.
    let given = |g: &overcommit_tests::agent::GuestReport| g.target >= before.target + 40 * MIB;
    agent.wait_guest(GIVEN_BY, "reboots", "to be given what there is", given)?;
    wait::until(SQUEEZED_BY, "its second boot", || guests[0].boots() >= 2)?;
    guests[0].wait_booted()?;
    wait::until(SQUEEZED_BY, "its balloon to be believed again", || {
        let (all, seen) = promised_all()?;
        ensure!(!all, "{seen}");
        Ok::<_, anyhow::Error>(())
    })?;
    guests[0].expect_unhurt()?;
    agent.terminate()
}

#[test]
fn a_release_goes_as_fast_as_there_is_memory_and_says_what_it_lacks() -> Result<()> {
    let hypervisor = Hypervisor::start()?;
    let _guests = boot(&hypervisor, &["released"])?;
    let full = promised_mib(&hypervisor, 1)?;
    let host = HostMemory::new(full - 200)?;
    let dir = Session::shared()?.fresh_dir("state")?;
    let agent = Agent::start(hypervisor.uri(), &Agent::policy("Enforce", ""), &dir, &host)?;
    agent.wait_guest(SQUEEZED_BY, "released", "to be squeezed", |g| g.actual < (SIZE - 100) * MIB)?;
    // Before, a part of what is added below would only pay for what it is promised already.
    let squeezed = agent.wait_settled(SQUEEZED_BY, &host, "released")?;
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| agent.ask(&["release"]));
        wait::until(GIVEN_BY, "the release to say what it lacks", || {
            let report = agent.report()?;
            let short = report.pointer("/release/Blocked/short").and_then(serde_json::Value::as_u64);
            let short = short.with_context(|| format!("{:?}", report.get("release")))? / MIB;
            // What was taken; that is no more than a guest's floor leaves to be taken.
            ensure!((1..=SIZE * 3 / 4).contains(&short), "{short} MiB");
            Ok::<_, anyhow::Error>(())
        })?;
        // 130 MiB more, of which the emulator may come to need some; 70 are lacking still.
        host.set(full - 70)?;
        let given = agent.wait_guest(GIVEN_BY, "released", "to get what there is", |g| {
            g.actual > squeezed.actual + 40 * MIB
        })?;
        ensure!(given.actual < SIZE * MIB, "there is not enough for all of it");
        host.set(PLENTY)?;
        asked.join().map_err(|_| anyhow::anyhow!("asking panicked"))??;
        // So near to its target a balloon counts as there.
        ensure!(agent.guest("released")?.actual + 4 * MIB >= SIZE * MIB, "released");
        agent.terminate()
    })
}

#[test]
fn memory_that_is_plugged_is_promised_and_nothing_is_taken_meanwhile() -> Result<()> {
    const PLUGGED: u64 = 128;
    let hypervisor = Hypervisor::start()?;
    let guest = hypervisor.define_and_start(&GuestSpec::new("grows", SIZE).pluggable_mib(2 * PLUGGED))?;
    guest.wait_booted()?;
    let host = HostMemory::new(PLENTY)?;
    let dir = Session::shared()?.fresh_dir("state")?;
    let agent = Agent::start(hypervisor.uri(), &Agent::policy("Enforce", ""), &dir, &host)?;
    let promised = agent.promised_mib(1)?;
    let before = agent.guest("grows")?;
    ensure!(before.full == SIZE * MIB && agent.ledger("plugged")? == 0, "{before:?}");

    // This guest's kernel has no driver for it: it was asked to have what it does not have yet.
    guest.plug_mib(PLUGGED)?;
    let is = |entry: &str, mib: u64| agent.ledger(entry).is_ok_and(|bytes| bytes == mib * MIB);
    wait::until(GIVEN_BY, "the promise", || is("plugged", PLUGGED))?;
    let ledger = agent.told()?.ledger.context("no ledger")?;
    ensure!(ledger.promised >= Bytes::from_mib(SIZE + PLUGGED).plus(ledger.overhead), "{ledger:?}");
    host.set(promised - 100)?;
    agent.wait_guest(SQUEEZED_BY, "grows", "to be let alone", |g| g.reason.contains("Plugging"))?;
    ensure!(agent.guest("grows")?.target == SIZE * MIB, "it was taken from");

    guest.plug_mib(0)?;
    wait::until(GIVEN_BY, "the promise to be over", || is("plugged", 0))?;
    agent.wait_guest(SQUEEZED_BY, "grows", "to be squeezed", |g| g.target < (SIZE - 40) * MIB)?;
    host.set(PLENTY)?;
    agent.interrupt()?;
    wait::until(GIVEN_BY, "the full size", || actual_mib(&guest).is_ok_and(|mib| mib == SIZE))
}
