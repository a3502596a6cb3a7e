//! The agent on a machine that thrashes, without swap: what it decides must not wait for its own pages.

use std::time::Duration;

use anyhow::{Result, ensure};
use overcommit_tests::agent::{Agent, HostMemory};
use overcommit_tests::guests::{GuestSpec, Hypervisor};
use overcommit_tests::machine::{MIB, major_faults};
use overcommit_tests::session::Session;
use overcommit_tests::thrash::Thrash;
use overcommit_tests::wait;

const SIZE: u64 = 384;
const PLENTY: u64 = 16 * 1024;
const SQUEEZED_BY: Duration = Duration::from_mins(6);
const VALVE: Duration = Duration::from_mins(12);
/// Turns of the loop while the machine thrashes.
const TURNS: usize = 20;

#[test]
fn on_a_machine_that_thrashes_the_loop_takes_and_gives_and_never_waits_for_a_page_of_its_own() -> Result<()> {
    let hypervisor = Hypervisor::start()?;
    let guest = hypervisor.define_and_start(&GuestSpec::new("thrashed-around", SIZE).stats_period_s(2))?;
    guest.wait_booted()?;
    let (host, dir) = (HostMemory::new(PLENTY)?, Session::shared()?.fresh_dir("state")?);
    let agent = Agent::start(hypervisor.uri(), &Agent::policy("Enforce", ""), &dir, &host)?;
    let promised = agent.promised_mib(1)?;

    let thrash = Thrash::begin(Session::shared()?, VALVE)?;
    let loop_pid = agent.loop_pid()?;
    let (before, mut turns, mut seen) = (major_faults(loop_pid)?, agent.turns(), 0);
    turns.fresh()?;
    host.set(promised - 100)?;
    agent.wait_guest(SQUEEZED_BY, "thrashed-around", "to be taken from", |g| g.actual < (SIZE - 40) * MIB)?;
    host.set(PLENTY)?;
    agent.wait_guest(SQUEEZED_BY, "thrashed-around", "to have it back", |g| g.actual == SIZE * MIB)?;
    wait::until(SQUEEZED_BY, "more turns of the loop", || {
        seen += turns.fresh()?.len();
        ensure!(seen >= TURNS, "{seen}");
        Ok(())
    })?;
    let (waited, read_again) = (major_faults(loop_pid)?.saturating_sub(before), thrash.pages()?);
    thrash.check()?;
    drop(thrash);
    eprintln!("{seen} turns, {read_again} pages read again by everybody, {waited} by the agent");
    ensure!(waited == 0, "the agent has waited {waited} times for its own pages");
    agent.terminate()
}
