//! Turns, on real guests that swap to disks of their own: what all of them together need is not there.
//!
//! Memory is made short by what the agent is shown as its host's, not by squeezing the machine.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use overcommit_core::turns::Place;
use overcommit_core::view::GuestView;
use overcommit_tests::agent::{Agent, HostMemory};
use overcommit_tests::guests::{Guest, GuestSpec, Hypervisor, Load};
use overcommit_tests::machine::MIB;
use overcommit_tests::session::Session;
use overcommit_tests::wait;

const NAMES: [&str; 3] = ["one", "two", "three"];
const SIZE: u64 = 320;
const SWAP: u64 = 640;
/// What the programs of each come to need, in MiB: with its kernel, about 270 of its 320. Where all have a third of what is
/// shared, each lacks an eighth: with less, a machine that is slow thrashes too little for anybody to have to wait.
const NEEDS: Load = Load::Paced { mib: 200, ramp_mib_per_s: 60, pace_mib_per_s: PACE };
/// What each writes per second while it lacks nothing: little, so that all of them and their swapping leave time for others.
const PACE: u64 = 40;
/// Pages of that, but for what a busy machine holds up.
const WORKS: u64 = PACE * 256 * 4 / 5;
/// What they may hold together: as long as nobody knows what they need, two whole ones, and one that keeps a quarter.
const SHARED: u64 = 2 * SIZE + FLOOR;
/// What an account may be off by from one look to the next.
const MORE: u64 = 50;
/// The least that its class promises each, in MiB.
const FLOOR: u64 = SIZE / 4;
const SOON: Duration = Duration::from_mins(5);
/// Two minutes from when two of them are whole, and the swapping before and after; three times that on a busy machine.
const TWICE: Duration = Duration::from_mins(15);

/// Pages that its program wrote in the last second.
fn rate(guest: &Guest) -> Result<u64> {
    let told = guest.load_status()?;
    let rate = told.split_once("rate=").and_then(|(_, rest)| rest.split_once("pages/s")?.0.parse().ok());
    rate.with_context(|| format!("no rate in {told:?}"))
}

/// It has all that it is to have.
fn is_whole(guest: &GuestView) -> bool {
    matches!(guest.turn, Some(Place::Served { want, .. }) if guest.actual >= want)
}

#[test]
fn guests_that_need_more_than_there_is_each_work_undisturbed_in_their_turn_and_none_is_killed() -> Result<()>
{
    let hypervisor = Hypervisor::start()?;
    let spec = |name: &&str| GuestSpec::new(*name, SIZE).swap_mib(SWAP).stats_period_s(1);
    let guests =
        NAMES.iter().map(|name| hypervisor.define_and_start(&spec(name))).collect::<Result<Vec<_>>>()?;
    guests.iter().try_for_each(Guest::wait_booted)?;
    let (host, dir) = (HostMemory::new(16 * 1024)?, Session::shared()?.fresh_dir("state")?);
    let agent = Agent::start(hypervisor.uri(), &Agent::policy("Enforce", ""), &dir, &host)?;
    let promised = agent.promised_mib(3)?;
    host.set(promised + SHARED - 3 * SIZE)?;
    wait::until(SOON, "idle guests to be squeezed", || {
        let told = agent.told()?;
        let ledger = told.ledger.context("no ledger")?;
        let taken = ledger.reclaimed.get() / MIB >= 3 * SIZE - SHARED - MORE;
        ensure!(taken && ledger.shortfall.is_zero(), "{:?}", told.lines());
        Ok(())
    })?;

    guests.iter().try_for_each(|guest| guest.begin(&NEEDS))?;
    let (mut worked, mut waited) = (BTreeSet::new(), BTreeSet::new());
    let (mut evenly, mut in_turns) = (Vec::new(), Vec::new());
    wait::until(TWICE, "each to have worked in its turn, and to have waited", || {
        let told = agent.told()?;
        // One that thrashes may not answer in time.
        let rates: Vec<u64> = guests.iter().map(|guest| rate(guest).unwrap_or(0)).collect();
        let taken = told.guests.iter().any(|guest| guest.turn.is_some());
        if taken { &mut in_turns } else { &mut evenly }.push(rates.iter().sum::<u64>());
        for (guest, rate) in guests.iter().zip(&rates) {
            let view = told.guest(guest.name()).context("nothing of a guest")?;
            ensure!(view.target.get() / MIB >= FLOOR, "below what its class promises: {view:?}");
            match view.turn {
                Some(Place::Waits) => drop(waited.insert(guest.name())),
                Some(Place::Served { .. }) if is_whole(view) && *rate >= WORKS => {
                    worked.insert(guest.name());
                }
                _ => {}
            }
        }
        let done = worked.len() == guests.len() && waited.len() > 1;
        ensure!(done, "{worked:?} worked, {waited:?} waited: {:?}", told.lines());
        Ok(())
    })?;
    let mean = |pages: &[u64]| pages.iter().sum::<u64>() / u64::try_from(pages.len()).unwrap_or(0).max(1);
    eprintln!(
        "together {} pages/s before turns were taken, then {}, of {}",
        mean(&evenly),
        mean(&in_turns),
        PACE * 256 * 3
    );
    guests.iter().try_for_each(Guest::expect_unhurt)?;

    host.set(16 * 1024)?;
    wait::until(SOON, "nobody to wait any more", || {
        let told = agent.told()?;
        let all = told.guests.iter().all(|guest| guest.turn.is_none() && guest.actual == guest.full);
        ensure!(all, "{:?}", told.lines());
        Ok(())
    })?;
    guests.iter().try_for_each(Guest::expect_unhurt)?;
    agent.terminate()
}
