//! What the agent costs, itself and its neighbours, with no, some and many guests, idle and squeezed.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use overcommit_tests::agent::{Agent, HostMemory, Turns};
use overcommit_tests::guests::{Guest, GuestSpec, Hypervisor};
use overcommit_tests::session::Session;
use overcommit_tests::wait;

use crate::spread::Spread;
use overcommit_tests::cost::{Memory, cpu_ms, released, whole};

/// Guests at most.
pub(crate) const MOST: usize = 12;
/// Guests that are paused, to whom the agent has nothing to say.
const PAUSED: usize = 30;
/// As many as a node has pods by default (kubelet, `maxPods`). They are paused as soon as they are started: so many kernels
/// would boot for most of an hour.
const FULL_NODE: usize = 110;
/// For a p99 of the loop's turns there have to be a hundred.
const FULL_NODE_SAMPLES: usize = 55;
/// Full size of each, in MiB.
pub(crate) const SIZE: u64 = 512;
/// What the host lacks for each at full size, when they are squeezed.
const SHORT: u64 = 100;
/// A host on which everything fits.
pub(crate) const PLENTY: u64 = 64 * 1024;
/// A window is so many samples of this length.
const SAMPLES: usize = 6;
const SAMPLE: Duration = Duration::from_secs(10);
const SQUEEZED_BY: Duration = Duration::from_mins(4);
/// The control period that a policy has by default.
const POLICY: &str = "apiVersion: overcommit.dev/v1alpha1\nkind: OvercommitPolicy\nmetadata: {name: measured}\nspec:\n  \
                      mode: Enforce\n  interval: 5s\n  reserve: {minimum: \"0\", growthPercentile: 50}\n";

/// Guests, and a host whose memory can be made short for the agent alone.
pub(crate) struct Bench {
    /// The guests that run; they end before their hypervisor.
    pub(crate) guests: Vec<Guest>,
    hypervisor: Hypervisor,
    host: HostMemory,
    state: PathBuf,
    program: PathBuf,
}

/// One window.
pub(crate) struct Cost {
    guests: usize,
    state: &'static str,
    /// ms of CPU per minute: the agent, libvirtd, one QEMU on average.
    agent: Spread,
    libvirtd: Spread,
    qemu: Spread,
    memory: Vec<Memory>,
    /// ms.
    turns: Spread,
}

impl Bench {
    /// Boots so many guests.
    pub(crate) fn boot(count: usize) -> Result<Self> {
        let bench = Self::start(count, |_| Ok(()))?;
        bench.guests.iter().try_for_each(Guest::wait_booted)?;
        Ok(bench)
    }

    /// Starts so many guests, and does this with each as soon as it is started.
    fn start(count: usize, then: fn(&Guest) -> Result<()>) -> Result<Self> {
        let program = released("overcommit-agent")?;
        let hypervisor = Hypervisor::start()?;
        let spec = |number| GuestSpec::new(format!("guest-{number:02}"), SIZE);
        let one = |number| {
            let guest = hypervisor.define_and_start(&spec(number))?;
            then(&guest).map(|()| guest)
        };
        let guests = (0..count).map(one).collect::<Result<Vec<_>>>()?;
        let state = Session::shared()?.fresh_dir("state")?;
        Ok(Self { hypervisor, guests, host: HostMemory::new(PLENTY)?, state, program })
    }

    /// Ends all guests but so many.
    pub(crate) fn keep(&mut self, count: usize) {
        self.guests.truncate(count);
    }

    /// An agent whose host has plenty.
    pub(crate) fn agent(&self) -> Result<Agent> {
        self.agent_in(&self.state)
    }

    /// Such an agent with another state directory.
    pub(crate) fn agent_in(&self, state: &Path) -> Result<Agent> {
        self.host.set(PLENTY)?;
        Agent::start_program(&self.program, self.hypervisor.uri(), POLICY, state, &self.host)
    }

    /// Makes memory short for the agent, and waits until it has taken what was missing.
    pub(crate) fn squeeze(&self, agent: &Agent) -> Result<()> {
        squeeze(&self.host, agent)
    }

    /// Windows without an agent, with one that has nothing to do, and with one whose guests are squeezed.
    pub(crate) fn costs(&self) -> Result<Vec<Cost>> {
        let mut costs = Vec::new();
        if !self.guests.is_empty() {
            costs.push(self.window("no agent", None)?);
        }
        let agent = self.agent()?;
        costs.push(self.window("nothing short", Some(&agent))?);
        if !self.guests.is_empty() {
            self.squeeze(&agent)?;
            costs.push(self.window("squeezed", Some(&agent))?);
        }
        self.end(&agent)?;
        Ok(costs)
    }

    /// Windows beside guests that are paused.
    pub(crate) fn paused() -> Result<Vec<Cost>> {
        let bench = Self::boot(PAUSED)?;
        bench.guests.iter().try_for_each(Guest::suspend)?;
        let without = bench.window("paused, no agent", None)?;
        let agent = bench.agent()?;
        let beside = bench.window("paused", Some(&agent))?;
        bench.end(&agent)?;
        Ok(vec![beside, without])
    }

    /// A long window beside as many guests as a node has at most, none of which ever ran.
    pub(crate) fn full_node() -> Result<Cost> {
        let bench = Self::start(FULL_NODE, Guest::suspend)?;
        let agent = bench.agent()?;
        let cost = bench.samples("paused before they booted", Some(&agent), FULL_NODE_SAMPLES)?;
        bench.end(&agent)?;
        Ok(cost)
    }

    /// Boots one more.
    pub(crate) fn add(&self, spec: &GuestSpec) -> Result<Guest> {
        self.hypervisor.define_and_start(spec)
    }

    /// Where they run.
    pub(crate) fn uri(&self) -> &str {
        self.hypervisor.uri()
    }

    /// What the agent is shown as its host's memory.
    pub(crate) fn host(&self) -> &HostMemory {
        &self.host
    }

    /// Lets the agent give everything back, for which its host needs the memory.
    pub(crate) fn end(&self, agent: &Agent) -> Result<()> {
        self.host.set(PLENTY)?;
        agent.interrupt()
    }

    fn window(&self, state: &'static str, agent: Option<&Agent>) -> Result<Cost> {
        self.samples(state, agent, SAMPLES)
    }

    fn samples(&self, state: &'static str, agent: Option<&Agent>, samples: usize) -> Result<Cost> {
        let pids = self.guests.iter().map(Guest::qemu_pid).collect::<Result<Vec<_>>>()?;
        let mut turns = agent.map(Agent::turns);
        // What came before the window is no part of it.
        turns.as_mut().map(Turns::fresh).transpose()?;
        let spent = || -> Result<[f64; 3]> {
            let agent = agent.map_or(Ok(0.0), |agent| agent.pids().into_iter().map(cpu_ms).sum())?;
            let all = pids.iter().map(|pid| cpu_ms(*pid)).sum::<Result<f64>>()?;
            let each = u32::try_from(pids.len().max(1)).context("number of guests")?;
            Ok([agent, cpu_ms(self.hypervisor.daemon_pid())?, all / f64::from(each)])
        };
        let (mut minutes, mut memories) = (Vec::new(), Vec::new());
        for _ in 0..samples {
            let (begun, before) = (Instant::now(), spent()?);
            wait::until(SAMPLE * 2, "the end of a sample", || begun.elapsed() >= SAMPLE)?;
            let per_minute = 60.0 / begun.elapsed().as_secs_f64();
            let after = spent()?;
            minutes.push([0, 1, 2].map(|n| {
                let at = |values: &[f64; 3]| values.get(n).copied().unwrap_or_default();
                (at(&after) - at(&before)) * per_minute
            }));
            memories.extend(agent.map(|agent| whole(&agent.pids())).transpose()?);
        }
        let turns = turns.as_mut().map(Turns::fresh).transpose()?.unwrap_or_default();
        let [agent, libvirtd, qemu] =
            [0, 1, 2].map(|n| Spread::of(minutes.iter().filter_map(|m| m.get(n).copied())));
        let turns = Spread::of(turns.iter().map(|turn| turn.took.as_secs_f64() * 1000.0));
        Ok(Cost { guests: pids.len(), state, agent, libvirtd, qemu, memory: memories, turns })
    }
}

/// Makes memory short for the agent, and waits until it has taken what was missing.
pub(crate) fn squeeze(host: &HostMemory, agent: &Agent) -> Result<()> {
    let count = agent.guests()?;
    host.set(agent.promised_mib(count)?.saturating_sub(SHORT * count))?;
    wait::until(SQUEEZED_BY, "all guests to be squeezed", || {
        let missing = agent.ledger("shortfall")?;
        let taken = agent.ledger("reclaimed")? >> 20;
        anyhow::ensure!(missing == 0 && taken >= SHORT * count / 2, "{missing} missing, {taken} MiB taken");
        Ok::<_, anyhow::Error>(())
    })
}

/// What the agent itself costs.
pub(crate) fn agent_section(costs: &[Cost]) -> Result<String> {
    let table = agent_table(costs)?;
    Ok(format!(
        "## The agent\n\n`Enforce`, `interval: 5s`, guests of {SIZE} MiB; squeezed guests lack {SHORT} MiB each and \
         send statistics each second, on which the agent looks at them each second. {SAMPLES} samples of {} s. A turn \
         is the loop's own time, by the clock, from the first thing it reads to the last command that it hands over: what it waits \
         for the host's processor is in it, and no call to a guest's hypervisor is, for those are others' threads'.\n\n{table}",
        SAMPLE.as_secs()
    ))
}

/// What it costs libvirt and QEMU.
pub(crate) fn host_section(costs: &[Cost]) -> Result<String> {
    Ok(format!("## What the agent costs libvirt and QEMU\n\n{}", host_table(costs)?))
}

/// Both, on a full node.
pub(crate) fn full_node_section(cost: &[Cost]) -> Result<String> {
    let (agent, host) = (agent_table(cost)?, host_table(cost)?);
    Ok(format!(
        "## The agent beside as many guests as a node has\n\n{FULL_NODE} guests, paused as soon as they were started: as many as a node \
         has pods by default. {FULL_NODE_SAMPLES} samples of {} s; the rest as above.\n\n{agent}\n{host}",
        SAMPLE.as_secs()
    ))
}

fn agent_table(costs: &[Cost]) -> Result<String> {
    let mut text = String::from(
        "| guests | state | anonymous, MiB | file, MiB | CPU, ms per minute | % of a core | turn p50, ms | p99 | max | turns |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for cost in costs.iter().rev().filter(|cost| !cost.memory.is_empty()) {
        let memory = |of: fn(&Memory) -> f64| Spread::of(cost.memory.iter().map(of));
        let [p50, p99, max] = [50, 99, 100].map(|percent| cost.turns.percentile(percent));
        writeln!(
            text,
            "| {} | {} | {} | {} | {:.0} | {:.2} | {p50:.2} | {p99:.2} | {max:.2} | {} |",
            cost.guests,
            cost.state,
            memory(|m| m.anonymous),
            memory(|m| m.file),
            cost.agent,
            cost.agent.percentile(50) / 600.0,
            cost.turns.count()
        )?;
    }
    Ok(text)
}

fn host_table(costs: &[Cost]) -> Result<String> {
    let mut text = String::from(
        "| guests | state | libvirtd, CPU ms per minute | one QEMU, CPU ms per minute |\n\
         | --- | --- | --- | --- |\n",
    );
    for cost in costs.iter().rev().filter(|cost| cost.guests > 0) {
        writeln!(text, "| {} | {} | {:.0} | {:.0} |", cost.guests, cost.state, cost.libvirtd, cost.qemu)?;
    }
    Ok(text)
}
