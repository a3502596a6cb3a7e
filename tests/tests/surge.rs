//! The promise itself, on real guests and a machine whose memory is really short: without a shortfall all guests may touch
//! all they have at once, and with one the memory that the account calls missing is missing.
//!
//! The machine is squeezed by huge pages, behind the valve. What the policy keeps for the node is what the tools live in.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use overcommit_core::ledger::Ledger;
use overcommit_core::units::Bytes;
use overcommit_tests::agent::Agent;
use overcommit_tests::guests::{Guest, GuestSpec, Hypervisor, Load};
use overcommit_tests::kernel_counts::{free_in_lists, oom_kills};
use overcommit_tests::machine::{self, MIB};
use overcommit_tests::session::Session;
use overcommit_tests::squeeze::{Squeeze, missing, promised_in_full};
use overcommit_tests::valve::ValveOrder;
use overcommit_tests::wait;

const NAMES: [&str; 5] = ["one", "two", "three", "four", "five"];
const SIZE: u64 = 640;
/// What the policy keeps for the node.
const KEPT: u64 = 1024;
/// What the agent has to take: within the reach of idle guests' floors.
const SHORT: u64 = 750;
/// What is missing where nothing is taken: more than what is kept, so that a surge would find no end; less than what idle
/// guests leave untouched, so that the squeeze itself finds memory.
const MISSING: u64 = KEPT + 600;
/// What a guest leaves usable: below 5 % it is in distress, and its kernel kills before the last page is gone.
const SPARE: u64 = 16;
/// What a guest's kernel does not give even to who needs it (its watermarks), beside that.
const UNREACHED: u64 = 40;
/// What the machine's kernel has that no line of meminfo names.
const UNNAMED: u64 = 400;
/// By how much the overhead of all of them may grow between two turns, if it was not measured to be more.
const OVERHEAD_GROWS: u64 = 32;
const SQUEEZED_BY: Duration = Duration::from_mins(6);
const SOON: Duration = Duration::from_mins(3);
/// Longer than all of a test takes on a slow machine: relief that comes sooner would be its end. One that stands still is
/// relieved after seconds all the same.
const RELIEF_AT_LAST: Duration = Duration::from_mins(12);

/// The guests, for one test at a time.
struct Stage {
    guests: MutexGuard<'static, Vec<Guest>>,
    kills: u64,
}

impl Stage {
    /// Guests at rest, which the machine's kernel would kill before anything else.
    fn set() -> Result<Self> {
        static SHARED: Mutex<Vec<Guest>> = Mutex::new(Vec::new());
        let mut guests = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if guests.is_empty() {
            let hypervisor = Hypervisor::shared()?;
            let start =
                |name: &&str| hypervisor.define_and_start(&GuestSpec::new(*name, SIZE).stats_period_s(1));
            *guests = NAMES.iter().map(start).collect::<Result<Vec<_>>>()?;
        }
        let stage = Self { guests, kills: oom_kills()? };
        for guest in stage.guests.iter() {
            guest.wait_booted()?;
            let path = format!("/proc/{}/oom_score_adj", guest.qemu_pid()?);
            std::fs::write(&path, "1000").with_context(|| format!("writing {path}"))?;
        }
        stage.rest()?;
        Ok(stage)
    }

    /// Ends the surge and waits until free pages were given back to the machine.
    fn rest(&self) -> Result<()> {
        self.guests.iter().try_for_each(|guest| guest.begin(&Load::IDLE))?;
        wait::until(SOON, "the guests' free memory to come back", || {
            let resident = self.resident_mib()?;
            ensure!(resident < self.count() * SIZE * 3 / 4, "{resident} MiB");
            Ok(())
        })
    }

    fn surge(&self, ramp_mib_per_s: u64) -> Result<()> {
        let load = Load::Surge { spare_mib: SPARE, ramp_mib_per_s };
        std::thread::scope(|threads| {
            let begun: Vec<_> =
                self.guests.iter().map(|guest| threads.spawn(|| guest.begin(&load))).collect();
            begun.into_iter().try_for_each(|thread| thread.join().map_err(|_| anyhow::anyhow!("no order"))?)
        })
    }

    fn count(&self) -> u64 {
        u64::try_from(self.guests.len()).unwrap_or(0)
    }

    fn resident_mib(&self) -> Result<u64> {
        Ok(self.guests.iter().map(Guest::resident_bytes).sum::<Result<u64>>()? / MIB)
    }

    fn agent(mode: &str) -> Result<Agent> {
        let dir = Session::shared()?.fresh_dir("state")?;
        let policy = Agent::policy_keeping(KEPT, mode, "");
        let agent = Agent::start_on_this_machine(Hypervisor::shared()?.uri(), &policy, &dir, &[])?;
        agent.promised_mib(u64::try_from(NAMES.len())?)?;
        Ok(agent)
    }

    /// Nobody was killed: no guest, and nothing in one.
    fn expect_unhurt(&self) -> Result<()> {
        ensure!(oom_kills()? == self.kills, "the machine's kernel has killed");
        for guest in self.guests.iter() {
            ensure!(guest.state()? == "running", "{} is gone", guest.name());
            guest.expect_unhurt()?;
        }
        Ok(())
    }
}

fn ledger(agent: &Agent) -> Result<Ledger> {
    agent.told()?.ledger.context("no ledger")
}

/// What the account keeps for everything that is no guest, in MiB.
fn beside(ledger: &Ledger) -> u64 {
    ledger.non_guest.plus(ledger.non_guest_growth).get() / MIB
}

/// What is free or could be, but for what the kernel keeps for itself, which whoever needs memory gets all the same.
fn free_mib() -> Result<u64> {
    let lines = ["MemFree", "Buffers", "Cached", "SReclaimable"].map(machine::meminfo);
    let free = lines.into_iter().sum::<Result<u64>>()? + free_in_lists()?;
    Ok(free.saturating_sub(machine::meminfo("Shmem")?) / MIB)
}

fn available_mib() -> Result<u64> {
    Ok(machine::meminfo("MemAvailable")? / MIB)
}

#[test]
fn without_a_shortfall_all_guests_touch_all_they_may_at_once_and_nobody_is_killed() -> Result<()> {
    let stage = Stage::set()?;
    let agent = Stage::agent("Enforce")?;
    let spare = ledger(&agent)?.spare.get() / MIB;
    let order = ValveOrder::huge_pages(RELIEF_AT_LAST);
    let squeeze = Squeeze::taking_behind(Session::shared()?, spare + SHORT, &order)?;
    squeeze.until_missing(SHORT, || agent.told())?;
    let squeezed =
        wait::until(SQUEEZED_BY, "promises within the budget, and balloons that followed", || {
            let told = agent.told()?;
            let ledger = told.ledger.context("no ledger")?;
            let follow = told.guests.iter().all(|g| g.actual <= g.target.plus(Bytes::from_mib(4)));
            let taken = ledger.reclaimed.get() / MIB > SHORT / 2;
            ensure!(ledger.shortfall.is_zero() && follow && taken, "{:?}", told.lines());
            Ok(told)
        })?;
    let before = free_mib()?;

    let mut turns = agent.turns();
    turns.fresh()?;
    stage.surge(1000)?;
    wait::until(SQUEEZED_BY, "all guests to have touched all that they may", || {
        for guest in stage.guests.iter() {
            let usable = guest.memory_stats()?.usable_kib.context("no usable memory told")? / 1024;
            ensure!(usable <= SPARE + 4, "{}: {usable} MiB usable, {}", guest.name(), guest.load_status()?);
        }
        Ok(())
    })?;
    let mut after = Vec::new();
    wait::until(SOON, "some turns of the loop after that", || -> Result<()> {
        after.extend(turns.fresh()?);
        ensure!(after.len() >= 10, "{} turns", after.len());
        Ok(())
    })?;
    let (told, left, resident) = (agent.told()?, free_mib()?, stage.resident_mib()?);
    let (account, then) =
        (told.ledger.context("no ledger")?, squeezed.ledger.context("no ledger before the surge")?);
    eprintln!("before: {then:?}\nafter: {account:?}\nfree {before} → {left} MiB, resident {resident} MiB");
    // Whoever else uses the machine takes and leaves meanwhile.
    let others = beside(&account).saturating_sub(beside(&then));
    ensure!(squeeze.opened().is_none(), "{:?}", squeeze.opened());
    stage.expect_unhurt()?;
    // The surge was real: they hold what they were promised, but for what their kernels keep.
    let promised = account.promised.get() / MIB;
    ensure!(resident + stage.count() * (SPARE + UNREACHED) >= promised, "{resident} of {promised} MiB");
    // An emulator's own memory grows with the work of its guest, and is taken from somebody in the next turns.
    let grown = account.overhead.minus(then.overhead).get() / MIB;
    let excused = others + grown.max(OVERHEAD_GROWS);
    ensure!(account.shortfall.get() / MIB <= excused, "{others} MiB are others' doing: {account:?}");
    ensure!(left + others + UNNAMED >= KEPT, "{left} MiB are left of the {KEPT} that the node keeps");
    for guest in &told.guests {
        let least = guest.full.scaled(1, 4);
        ensure!(guest.actual >= least && guest.target >= least, "below its floor: {guest:?}");
    }

    stage.rest()?;
    squeeze.release()?;
    agent.interrupt()?;
    for guest in stage.guests.iter() {
        let full = || guest.memory_stats().is_ok_and(|stats| stats.actual_kib == SIZE * 1024);
        wait::until(SOON, format!("{} to have its full size", guest.name()), full)?;
    }
    stage.expect_unhurt()
}

#[test]
fn with_a_shortfall_the_memory_that_the_account_calls_missing_is_missing() -> Result<()> {
    let stage = Stage::set()?;
    let agent = Stage::agent("Observe")?;
    let spare = ledger(&agent)?.spare.get() / MIB;
    // Only a moment beyond the line: relief is near, but not so near that a hiccup of the machine's own brings it.
    let stall = Duration::from_secs(4);
    let order = ValveOrder { stall, ..ValveOrder::huge_pages(RELIEF_AT_LAST) };
    let squeeze = Squeeze::taking_behind(Session::shared()?, spare + MISSING, &order)?;
    let (report, mut said) = squeeze.until_missing(MISSING, || agent.told())?;
    let promised = promised_in_full(&report)?.get() / MIB;
    let line = machine::meminfo("MemTotal")? / MIB / 100;

    stage.surge(20)?;
    let (why, left) =
        wait::until_paced(SQUEEZED_BY, Duration::from_millis(50), "memory to be missing", || {
            let left = available_mib()?;
            // Asked while there is memory to ask with.
            if left > 3 * line {
                said = missing(&agent.told()?)?.get() / MIB;
            }
            let killed = (oom_kills()? > stage.kills).then(|| "the kernel has killed".to_owned());
            let below = (left < line).then(|| format!("less than {line} MiB are available"));
            let why =
                killed.or(below).or(squeeze.opened()).with_context(|| format!("{left} MiB available"))?;
            Ok::<_, anyhow::Error>((why, free_mib()?))
        })?;
    let untouched = promised.saturating_sub(stage.resident_mib()?);
    drop(squeeze);
    eprintln!(
        "{why}: {left} MiB left for {untouched} MiB that guests may still touch; {said} MiB were said to be missing"
    );
    stage.rest()?;
    agent.terminate()?;
    // What no longer fits is what the account said, beyond what the policy keeps.
    let (beyond, said) = (untouched.saturating_sub(left), said.saturating_sub(KEPT));
    ensure!(beyond > 0 && beyond.abs_diff(said) <= UNNAMED, "{beyond} of {said} MiB");
    stage.expect_unhurt()
}
