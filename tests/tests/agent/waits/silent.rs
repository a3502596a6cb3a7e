//! Guests whose libvirt has not answered since the agent started, on real ones: a process that runs may touch its memory,
//! whoever is silent about it.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use overcommit_tests::agent::{Agent, HostMemory};
use overcommit_tests::guests::{Guest, GuestSpec, Hypervisor};
use overcommit_tests::session::Session;
use overcommit_tests::wait;
use serde_json::Value;

const MIB: u64 = 1 << 20;
const SIZE: u64 = 384;
const PLENTY: u64 = 16 * 1024;
const SQUEEZED_BY: Duration = Duration::from_mins(6);
const SOON: Duration = Duration::from_mins(3);

fn boot(hypervisor: &Hypervisor, names: &[&str]) -> Result<Vec<Guest>> {
    let guests = names
        .iter()
        .map(|name| hypervisor.define_and_start(&GuestSpec::new(*name, SIZE)))
        .collect::<Result<Vec<_>>>()?;
    for guest in &guests {
        guest.wait_booted()?;
    }
    Ok(guests)
}

/// An agent that starts while libvirtd is stopped.
fn start_before_an_answer(
    hypervisor: &Hypervisor,
    policy: &str,
    dir: &std::path::Path,
    host: &HostMemory,
) -> Result<Agent> {
    hypervisor.freeze_daemon()?;
    Agent::start(hypervisor.uri(), policy, dir, host)
}

/// The identities under which a guest of this name is reported.
fn ids(agent: &Agent, name: &str) -> Result<Vec<String>> {
    let report = agent.report()?;
    let guests = report.get("guests").and_then(Value::as_array).context("no guests in the report")?;
    let named = guests.iter().filter(|g| g.pointer("/name/name").and_then(Value::as_str) == Some(name));
    Ok(named.filter_map(|g| g.get("id")?.as_str().map(str::to_owned)).collect())
}

#[test]
fn guests_of_a_libvirtd_that_was_stopped_before_are_promised_their_full_size() -> Result<()> {
    let hypervisor = Hypervisor::start()?;
    let guests = boot(&hypervisor, &["mute-one", "mute-two"])?;
    let dir = Session::shared()?.fresh_dir("state")?;
    let host = HostMemory::new(PLENTY)?;
    let agent = start_before_an_answer(&hypervisor, &Agent::policy("Enforce", ""), &dir, &host)?;
    let mut silent = Vec::new();
    for guest in &guests {
        let told =
            agent.wait_guest(SOON, guest.name(), "to be charged", |g| g.reason.contains("Unreachable"));
        let told = told?;
        ensure!(told.full == SIZE * MIB && told.target == SIZE * MIB, "{told:?}");
        silent.push(ids(&agent, guest.name())?);
    }
    let promised = wait::until(SOON, "the promise with measured overheads", || {
        let (promised, overhead) = (agent.ledger("promised")?, agent.ledger("overhead")?);
        let least = 2 * SIZE * MIB + overhead;
        ensure!(overhead > 0 && promised >= least, "{promised} of {least}");
        Ok(promised)
    })?;
    ensure!(promised > 2 * SIZE * MIB + 20 * MIB, "{promised} leaves the overhead out");
    wait::until(SOON, "its trouble", || {
        let troubles = agent.troubles()?;
        ensure!(troubles.matches("not answer").count() == 1, "one fault: {troubles}");
        ensure!(troubles.contains("the hypervisor has not answered"), "{troubles}");
        ensure!(troubles.contains("mute-one: known by its process alone"), "{troubles}");
        Ok::<_, anyhow::Error>(())
    })?;

    hypervisor.thaw_daemon()?;
    for (guest, before) in guests.iter().zip(silent) {
        agent.wait_guest(SOON, guest.name(), "to be heard", |g| g.reason.contains("FullSize"))?;
        let now = ids(&agent, guest.name())?;
        ensure!(now.len() == 1 && now == before, "{before:?} became {now:?}");
        ensure!(guest.memory_stats()?.actual_kib == SIZE * 1024, "{} was touched", guest.name());
    }
    agent.terminate()
}

#[test]
fn what_a_silent_guest_had_is_not_forgotten_and_its_release_not_claimed() -> Result<()> {
    let hypervisor = Hypervisor::start()?;
    let guests = boot(&hypervisor, &["held"])?;
    let dir = Session::shared()?.fresh_dir("state")?;
    let host = HostMemory::new(PLENTY)?;
    let policy = Agent::policy("Enforce", "");
    let agent = Agent::start(hypervisor.uri(), &policy, &dir, &host)?;
    host.set(agent.promised_mib(1)? - 100)?;
    agent.wait_guest(SQUEEZED_BY, "held", "to be squeezed", |g| g.actual < (SIZE - 40) * MIB)?;
    agent.kill()?;

    let agent = start_before_an_answer(&hypervisor, &policy, &dir, &host)?;
    let silent = agent.wait_guest(SOON, "held", "to be charged", |g| g.reason.contains("Unreachable"))?;
    ensure!(silent.target < (SIZE - 40) * MIB, "its target is in the journal: {silent:?}");
    // No more than the host has, which is less than all of it.
    let told = agent.told()?;
    let (guest, ledger) = (told.guest("held").context("gone")?, told.ledger.context("no ledger")?);
    ensure!(
        guest.charge >= guest.full.min(ledger.total),
        "its balloon's obedience cannot be seen: {guest:?}"
    );
    agent.kill()?;

    host.set(PLENTY)?;
    let agent = Agent::start(hypervisor.uri(), &Agent::policy("Observe", ""), &dir, &host)?;
    let state = agent.report()?.get("release").map(ToString::to_string).unwrap_or_default();
    ensure!(state.contains("Underway"), "a release that reached nobody: {state}");
    hypervisor.thaw_daemon()?;
    wait::until(SOON, "held to have what it had, and its period", || {
        let (holds, period) = (guests[0].memory_stats()?.actual_kib, guests[0].stats_period_s()?);
        ensure!(holds == SIZE * 1024 && period == Some(10), "{holds} KiB, {period:?} s");
        Ok(())
    })?;
    agent.terminate()
}
