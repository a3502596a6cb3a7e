//! One guest on a host that is too small for it, and an agent that takes from it: what the tests of its conduct begin with.
//!
//! Memory is made short by what the agent is shown as its host's, not by squeezing the machine.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use overcommit_core::conduct::Trust;
use overcommit_core::reason::Reason;
use overcommit_core::units::Bytes;
use overcommit_core::view::GuestView;
use serde_json::{Map, Value};

use super::{Action, Agent, HostMemory, expect_replayed, statistics_between};
use crate::api::free_port;
use crate::guests::{Guest, GuestSpec, Hypervisor};
use crate::http;
use crate::machine::MIB;
use crate::session::Session;
use crate::wait;

/// A host on which everything fits.
const PLENTY: u64 = 16 * 1024;
/// What the policy keeps of it, so that the host is larger than its guest.
const KEPT: u64 = 1024;
/// Less than 1 % of a guest, in MiB: more would be given to it at once (`limits.deadBand`), and nothing be spare again.
const SLACK: u64 = 3;
/// Boot grace, then a take per statistics and at most 10 % each; on a busy machine a take is undone and tried again later.
const SQUEEZED_BY: Duration = Duration::from_mins(6);
/// Ten seconds of patience, a minute of being left alone, and some for a busy machine.
pub const SOON: Duration = Duration::from_secs(150);

/// One guest on a host that is too small for it, and an agent that enforces. Dropped in this order.
pub struct Bench {
    agent: Agent,
    port: u16,
    host: HostMemory,
    short_mib: u64,
    /// The host's size when it lacks that.
    squeezed_mib: u64,
    guest: Guest,
    dir: PathBuf,
    hypervisor: Hypervisor,
}

impl Bench {
    /// Starts all that, with a host that lacks `short_mib` and further arguments of the agent, and takes nothing yet.
    ///
    /// # Errors
    /// When something does not start.
    pub fn start(spec: &GuestSpec, short_mib: u64, further: &[&str]) -> Result<Self> {
        let hypervisor = Hypervisor::start()?;
        let guest = hypervisor.define_and_start(spec)?;
        guest.wait_booted()?;
        let host = HostMemory::new(PLENTY)?;
        let dir = Session::shared()?.fresh_dir("state")?;
        let port = free_port()?;
        let agent = agent(&hypervisor, &dir, &host, port, further)?;
        let squeezed_mib = PLENTY;
        let mut bench = Self { agent, port, host, short_mib, squeezed_mib, guest, dir, hypervisor };
        // What QEMU needs while its guest boots says nothing of later.
        bench.wait(SOON, "to have booted in the agent's eyes", |g| g.reason == Reason::FullSize)?;
        bench.squeezed_mib = bench.agent.promised_mib(1)? + KEPT - short_mib;
        bench.squeeze()?;
        Ok(bench)
    }

    /// Starts another agent, with these further arguments, where the last one has ended.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start_agent(&mut self, further: &[&str]) -> Result<()> {
        self.agent = agent(&self.hypervisor, &self.dir, &self.host, self.port, further)?;
        Ok(())
    }

    /// Starts an agent that is to die of SIGKILL by itself, where the last one has ended, and waits for that.
    ///
    /// # Errors
    /// When it does not in time, or ends in another way.
    pub fn start_agent_to_die(&self, further: &[&str]) -> Result<()> {
        let (policy, arguments) = (policy(), arguments(&self.dir, self.port, further));
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        Agent::start_to_die(SOON, self.hypervisor.uri(), &policy, &self.dir, &self.host, &arguments)
    }

    /// Memory is there again: the agent gives all back that it took from its guest of so many MiB, which was not hurt, and ends;
    /// its journal and its recording agree.
    ///
    /// # Errors
    /// When it is not so.
    pub fn expect_all_back(&self, size_mib: u64) -> Result<()> {
        self.guest.expect_unhurt()?;
        self.relieve()?;
        self.agent.interrupt()?;
        let holds = self.holds_mib()?;
        ensure!(holds == size_mib, "{holds} MiB");
        self.expect_nobody_owed()?;
        self.expect_replayed()
    }

    /// By the journal on disk no guest is owed anything.
    ///
    /// # Errors
    /// When one is, or the journal cannot be read.
    pub fn expect_nobody_owed(&self) -> Result<()> {
        let guests = self.journalled()?;
        let owed = |entry: &Value| entry.get("target") != entry.pointer("/original/target");
        ensure!(!guests.values().any(owed), "{guests:?}");
        Ok(())
    }

    /// What the journal on disk knows as the guest's target, in MiB: gives since its last take are not written there.
    ///
    /// # Errors
    /// When it knows none, or cannot be read.
    pub fn journalled_mib(&self) -> Result<u64> {
        let guests = self.journalled()?;
        let target = guests.values().find_map(|entry| entry.get("target")?.as_u64());
        Ok(target.context("no guest in the journal")? / MIB)
    }

    /// Waits until the journal on disk says that each guest was seen to have all that it had.
    ///
    /// # Errors
    /// When it does not in time.
    pub fn wait_written_whole(&self) -> Result<()> {
        wait::until(SOON, "all to be written as given back", || {
            let guests = self.journalled()?;
            let whole = |entry: &Value| entry.get("whole") == Some(&Value::Bool(true));
            ensure!(guests.values().all(whole), "{guests:?}");
            Ok(())
        })
    }

    fn journalled(&self) -> Result<Map<String, Value>> {
        let text = std::fs::read_to_string(self.dir.join("journal"))?;
        let (_, journal) = text.split_once('\n').context("a journal without a seal")?;
        let journal: Value = serde_json::from_str(journal)?;
        Ok(journal.get("guests").and_then(Value::as_object).context("no guests")?.clone())
    }

    /// Once no agent runs, decides all again that they have recorded: each decision has to come out the same, bit by bit.
    ///
    /// # Errors
    /// When one comes out differently, or none was recorded.
    pub fn expect_replayed(&self) -> Result<()> {
        expect_replayed(&recording(&self.dir))
    }

    /// How many statistics of the guest the agents saw from the first reading of a host on which everything fits again until they gave
    /// it its full size, once no agent runs.
    ///
    /// # Errors
    /// When that did not happen.
    pub fn statistics_until_given(&self, size_mib: u64) -> Result<usize> {
        let (full, was_short) = (Bytes::from_mib(size_mib), Cell::new(false));
        statistics_between(
            &recording(&self.dir),
            self.guest.name(),
            |sample| {
                let fits = sample.host.memory.total >= Bytes::from_mib(PLENTY);
                was_short.set(was_short.get() || !fits);
                fits && was_short.get()
            },
            |made| made.recorded.moves.iter().any(|step| step.to >= full),
        )
    }

    /// Lets everything fit.
    ///
    /// # Errors
    /// When what the agent is shown cannot be written.
    pub fn relieve(&self) -> Result<()> {
        self.host.set(PLENTY)
    }

    /// Makes the host as short as it was at the start.
    ///
    /// # Errors
    /// When what the agent is shown cannot be written.
    pub fn squeeze(&self) -> Result<()> {
        self.host.set(self.squeezed_mib)
    }

    /// Waits until the loop has decided so many times from now on; returns all that it did meanwhile.
    ///
    /// # Errors
    /// When it does not in time.
    pub fn decisions(&self, number: usize) -> Result<Vec<Action>> {
        let mut turns = self.agent.turns();
        turns.fresh()?;
        let mut seen = Vec::new();
        wait::until(SOON, format!("{number} decisions"), || -> Result<()> {
            seen.extend(turns.fresh()?);
            ensure!(seen.len() >= number, "{}", seen.len());
            Ok(())
        })?;
        Ok(seen.into_iter().flat_map(|turn| turn.actions).collect())
    }

    /// The agent.
    pub fn agent(&self) -> &Agent {
        &self.agent
    }

    /// The hypervisor, which is its own.
    pub fn hypervisor(&self) -> &Hypervisor {
        &self.hypervisor
    }

    /// What it sees of its host.
    pub fn host(&self) -> &HostMemory {
        &self.host
    }

    /// The guest.
    pub fn guest(&self) -> &Guest {
        &self.guest
    }

    /// All that the agent tells of it.
    ///
    /// # Errors
    /// When the agent does not answer.
    pub fn view(&self) -> Result<GuestView> {
        self.agent.view(self.guest.name())
    }

    /// Waits for what is told of the guest.
    ///
    /// # Errors
    /// When it is not so in time; with what was seen last and all that was done.
    pub fn wait(&self, limit: Duration, what: &str, so: impl Fn(&GuestView) -> bool) -> Result<GuestView> {
        let seen = wait::until(limit, format!("{} {what}", self.guest.name()), || {
            let guest = self.view()?;
            ensure!(so(&guest), "{guest:?}");
            Ok(guest)
        });
        seen.with_context(|| {
            let done: Vec<String> =
                self.actions().into_iter().flatten().map(|action| format!("{action:?}")).collect();
            let done = done.join("\n");
            format!("its console ends with:\n{}\nthe agent did:\n{done}", tail(&self.guest.console()))
        })
    }

    /// A take is under way.
    ///
    /// # Errors
    /// When there is none in time.
    pub fn wait_take(&self) -> Result<GuestView> {
        self.wait(SQUEEZED_BY, "to be taken from", |g| g.target < g.full && g.underway.is_some())
    }

    /// All that is short was taken, the guest has done what was expected of it, and nothing more will be taken: overheads
    /// are measured again and wander a little, so the host is made a little larger, by less than is worth giving.
    ///
    /// # Errors
    /// When it does not come to that in time.
    pub fn wait_at_peace(&self) -> Result<GuestView> {
        self.wait_settled()?;
        let ledger = self.agent.told()?.ledger.context("no ledger")?;
        self.host.set(ledger.total.get() / MIB + SLACK)?;
        self.wait_settled()
    }

    /// All that is short of the host as it is now was taken, and the guest has done what was expected of it.
    ///
    /// # Errors
    /// When it does not come to that in time.
    pub fn wait_settled(&self) -> Result<GuestView> {
        let settled = |g: &GuestView| {
            g.target < g.full && g.underway.is_none() && g.failure.is_none() && g.trust == Trust::Trusted
        };
        let host = self.host.get()? * MIB;
        self.wait(SQUEEZED_BY, "to be squeezed and at peace", |g| {
            let is = |field, value| self.agent.ledger(field).is_ok_and(|so| so == value);
            settled(g) && is("total", host) && is("shortfall", 0)
        })
    }

    /// What was taken from it counts for nothing.
    ///
    /// # Errors
    /// When it does count.
    pub fn expect_charged_in_full(&self) -> Result<()> {
        let told = self.agent.told()?;
        let guest = told.guest(self.guest.name()).context("no guest")?;
        let ledger = told.ledger.context("no ledger")?;
        let overhead = guest.facts.overhead.context("no overhead")?;
        ensure!(guest.charge >= guest.full.plus(overhead), "{guest:?}");
        // Overheads are measured again and wander a little.
        ensure!(ledger.shortfall >= Bytes::from_mib(self.short_mib / 2), "{ledger:?}");
        Ok(())
    }

    /// What the guest really holds, by its device.
    ///
    /// # Errors
    /// When its hypervisor does not say.
    pub fn holds_mib(&self) -> Result<u64> {
        Ok(self.guest.memory_stats()?.actual_kib / 1024)
    }

    /// Why it has the memory it has.
    ///
    /// # Errors
    /// When the agent does not answer.
    pub fn explained(&self) -> Result<String> {
        Ok(String::from_utf8(self.agent.ask(&["explain", self.guest.name()])?.stdout)?)
    }

    /// What a scrape sees.
    ///
    /// # Errors
    /// When the agent does not answer.
    pub fn metrics(&self) -> Result<String> {
        Ok(http::get(self.port, "/metrics")?.1)
    }

    /// Waits for something that was done: it is printed when it is told, and read a moment later.
    ///
    /// # Errors
    /// When it was not done in time; with all that was.
    pub fn wait_done(&self, what: &str, so: impl Fn(&Action) -> bool) -> Result<()> {
        wait::until(SOON, what, || {
            let done = self.actions()?;
            ensure!(done.iter().any(&so), "{done:?}");
            Ok(())
        })
    }

    /// All that was done so far.
    ///
    /// # Errors
    /// When what it printed cannot be read.
    pub fn actions(&self) -> Result<Vec<Action>> {
        Ok(self.agent.turns().fresh()?.into_iter().flat_map(|turn| turn.actions).collect())
    }
}

fn agent(
    hypervisor: &Hypervisor,
    dir: &Path,
    host: &HostMemory,
    port: u16,
    further: &[&str],
) -> Result<Agent> {
    let arguments = arguments(dir, port, further);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    Agent::start_with(hypervisor.uri(), &policy(), dir, host, &arguments)
}

fn policy() -> String {
    Agent::policy_keeping(KEPT, "Enforce", "")
}

fn arguments(dir: &Path, port: u16, further: &[&str]) -> Vec<String> {
    let own = [format!("--http=127.0.0.1:{port}"), format!("--record={}", recording(dir).display())];
    further.iter().map(|word| (*word).to_owned()).chain(own).collect()
}

fn recording(dir: &Path) -> PathBuf {
    dir.join("recording")
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(12)..).unwrap_or_default().join("\n")
}
