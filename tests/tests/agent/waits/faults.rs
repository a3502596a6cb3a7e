//! A disk that refuses and a journal that cannot be read, on real guests.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use overcommit_tests::agent::{Agent, HostMemory};
use overcommit_tests::disk::SmallDisk;
use overcommit_tests::guests::{Guest, GuestSpec, Hypervisor};
use overcommit_tests::session::Session;
use overcommit_tests::wait;
use rustix::process::Signal;

const MIB: u64 = 1 << 20;
const SIZE: u64 = 384;
const PLENTY: u64 = 16 * 1024;
/// Boot grace, then a take per statistics of 2 s and at most 10 % each; on a busy machine a take is undone and tried again later.
const SQUEEZED_BY: Duration = Duration::from_mins(6);
const SOON: Duration = Duration::from_mins(3);

fn boot(hypervisor: &Hypervisor, name: &str) -> Result<Guest> {
    let guest = hypervisor.define_and_start(&GuestSpec::new(name, SIZE))?;
    guest.wait_booted()?;
    Ok(guest)
}

/// Waits for so many further reports, so that what has not happened by then did not happen for want of time.
fn turns(agent: &Agent, count: usize) -> Result<()> {
    let at = || Ok::<_, anyhow::Error>(agent.report()?.get("at").context("no time")?.to_string());
    for _ in 0..count {
        let before = at()?;
        wait::until(SOON, "a further turn", || at().is_ok_and(|now| now != before))?;
    }
    Ok(())
}

/// Squeezes a little, breaks the disk, wants more; then gives while it is broken, and mends it.
fn takes_nothing_gives_and_recovers(
    name: &str,
    told: [&str; 2],
    break_it: impl Fn(&SmallDisk) -> Result<()>,
    mend_it: impl Fn(&SmallDisk) -> Result<()>,
) -> Result<()> {
    let hypervisor = Hypervisor::start()?;
    let guest = boot(&hypervisor, name)?;
    let disk = SmallDisk::mount()?;
    let host = HostMemory::new(PLENTY)?;
    let agent = Agent::start(hypervisor.uri(), &Agent::policy("Enforce", ""), disk.dir(), &host)?;
    let promised = agent.promised_mib(1)?;
    host.set(promised - 80)?;
    agent.wait_guest(SQUEEZED_BY, name, "to be squeezed", |g| g.target < (SIZE - 40) * MIB)?;
    let settled = agent.wait_settled(SQUEEZED_BY, &host, name)?.target;

    break_it(&disk)?;
    host.set(promised - 160)?;
    let says = |words: [&str; 2]| {
        let troubles = agent.troubles()?;
        ensure!(words.iter().all(|word| troubles.contains(word)), "{troubles}");
        Ok(())
    };
    wait::until(SOON, "the reason and the remedy", || says(told))?;
    let before = agent.guest(name)?.target;
    // One take, a tenth, may have been sent when the disk broke: half of what the host lacks now.
    ensure!(before + 40 * MIB >= settled, "{settled} became {before} without a journal");
    turns(&agent, 5)?;
    let after = agent.guest(name)?;
    ensure!(after.target >= before, "{before} became {after:?} without a journal");

    host.set(PLENTY)?;
    agent.wait_guest(SOON, name, "to be given back all the same", |g| g.actual == SIZE * MIB)?;
    says(told)?;
    mend_it(&disk)?;
    wait::until(SOON, "the trouble to be over", || {
        let troubles = agent.troubles()?;
        ensure!(troubles == "[]", "{troubles}");
        Ok(())
    })?;
    host.set(promised - 80)?;
    agent.wait_guest(SQUEEZED_BY, name, "to be squeezed again", |g| g.target < (SIZE - 40) * MIB)?;
    host.set(PLENTY)?;
    agent.interrupt()?;
    wait::until(SOON, "the full size", || guest.memory_stats().is_ok_and(|s| s.actual_kib == SIZE * 1024))
}

#[test]
fn with_a_full_disk_nothing_is_taken_giving_goes_on_and_it_recovers() -> Result<()> {
    let told = ["disk full", "free space there"];
    takes_nothing_gives_and_recovers("full-disk", told, SmallDisk::fill, SmallDisk::make_room)
}

#[test]
fn with_a_read_only_disk_nothing_is_taken_giving_goes_on_and_it_recovers() -> Result<()> {
    let told = ["read-only", "remount it writable"];
    takes_nothing_gives_and_recovers(
        "read-only-disk",
        told,
        |disk| disk.remount("ro"),
        |disk| disk.remount("rw"),
    )
}

#[test]
fn a_loop_that_dies_on_a_read_only_disk_is_followed_by_one_that_gives_back() -> Result<()> {
    let hypervisor = Hypervisor::start()?;
    let guest = boot(&hypervisor, "held")?;
    let disk = SmallDisk::mount()?;
    let host = HostMemory::new(PLENTY)?;
    let agent = Agent::start(hypervisor.uri(), &Agent::policy("Enforce", ""), disk.dir(), &host)?;
    host.set(agent.promised_mib(1)? - 80)?;
    agent.wait_guest(SQUEEZED_BY, "held", "to be squeezed", |g| g.actual < (SIZE - 40) * MIB)?;
    disk.remount("ro")?;
    agent.signal_loop(Signal::KILL)?;
    host.set(PLENTY)?;
    // Nobody can be asked: there is no room for a socket.
    wait::until(SOON, "the full size", || guest.memory_stats().is_ok_and(|s| s.actual_kib == SIZE * 1024))
        .with_context(|| agent.process().log_tail())?;
    disk.remount("rw")?;
    agent.terminate()
}

#[test]
fn with_an_unreadable_journal_a_squeezed_guest_gets_its_full_size_back() -> Result<()> {
    let hypervisor = Hypervisor::start()?;
    let guest = boot(&hypervisor, "orphan")?;
    let dir = Session::shared()?.fresh_dir("state")?;
    let host = HostMemory::new(PLENTY)?;
    let agent = Agent::start(hypervisor.uri(), &Agent::policy("Enforce", ""), &dir, &host)?;
    host.set(agent.promised_mib(1)? - 80)?;
    agent.wait_guest(SQUEEZED_BY, "orphan", "to be squeezed", |g| g.actual < (SIZE - 40) * MIB)?;
    agent.kill()?;
    let journal = std::fs::read_to_string(dir.join("journal"))?;
    std::fs::write(dir.join("journal"), journal.replace("target", "tarpit"))?;

    host.set(PLENTY)?;
    // Observe touches nothing of its own accord: all that is given is owed.
    let agent = Agent::start(hypervisor.uri(), &Agent::policy("Observe", ""), &dir, &host)?;
    let told = agent.troubles()?;
    ensure!(told.contains("unreadable") && told.contains("journal.corrupt"), "{told}");
    ensure!(dir.join("journal.corrupt").is_file(), "it is not set aside");
    agent.wait_guest(SOON, "orphan", "to have its full size", |g| g.actual == SIZE * MIB)?;
    // Which period it had nobody knows, but that a second was the agent's.
    wait::until(SOON, "KubeVirt's period", || guest.stats_period_s().is_ok_and(|period| period == Some(10)))?;
    agent.terminate()?;
    ensure!(guest.memory_stats()?.actual_kib == SIZE * 1024, "its balloon is deflated");
    Ok(())
}
