//! What becomes of guests when the agent's loop dies, hangs, panics or loses the process that looks after it: real guests
//! under libvirt, and the agent as people start it.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use overcommit_tests::agent::{Agent, HostMemory};
use overcommit_tests::guests::{Guest, GuestSpec, Hypervisor, Load};
use overcommit_tests::session::Session;
use overcommit_tests::wait;
use rustix::process::Signal;
use serde_json::Value;

const MIB: u64 = 1 << 20;
const SIZE: u64 = 384;
/// A host on which everything fits.
const PLENTY: u64 = 16 * 1024;
/// What the host lacks when guests are to be squeezed.
const SHORT: u64 = 150;
/// Boot grace, then a take per statistics; on a busy machine a take is undone and tried again later.
const SQUEEZED_BY: Duration = Duration::from_mins(6);
/// A loop that hangs is ended after 10 s; its successor adopts within seconds.
const SOON: Duration = Duration::from_mins(3);
/// A load that the guest has no room for once it is squeezed, and outgrows what it holds only after most of a minute: a successor
/// must have come by then, also on a busy machine.
const GROWS: Load = Load::Busy { mib: 230, ramp_mib_per_s: 4 };

/// A squeezed guest and its agent.
struct Bench {
    agent: Agent,
    host: HostMemory,
    guest: Guest,
    dir: std::path::PathBuf,
    hypervisor: Hypervisor,
    short: u64,
}

impl Bench {
    /// Boots a guest and has it squeezed by an agent with these further arguments.
    fn squeezed(further: &[&str]) -> Result<Self> {
        let hypervisor = Hypervisor::start()?;
        let guest = hypervisor.define_and_start(&GuestSpec::new("kept", SIZE).stats_period_s(10))?;
        guest.wait_booted()?;
        let dir = Session::shared()?.fresh_dir("state")?;
        let host = HostMemory::new(PLENTY)?;
        let policy = Agent::policy("Enforce", "");
        let agent = Agent::start_with(hypervisor.uri(), &policy, &dir, &host, further)?;
        let short = agent.promised_mib(1)? - SHORT;
        let bench = Self { agent, host, guest, dir, hypervisor, short };
        bench.squeeze()?;
        Ok(bench)
    }

    fn squeeze(&self) -> Result<()> {
        self.host.set(self.short)?;
        self.agent.wait_guest(SQUEEZED_BY, "kept", "to be squeezed", |g| g.actual < (SIZE - 100) * MIB)?;
        Ok(())
    }

    fn troubles(&self) -> Result<String> {
        Ok(self.agent.report()?.get("troubles").map(Value::to_string).unwrap_or_default())
    }

    fn wait_trouble(&self, words: &str) -> Result<()> {
        wait::until(SOON, format!("the trouble {words:?}"), || {
            let told = self.troubles()?;
            if told.contains(words) { Ok(()) } else { Err(anyhow::anyhow!("{told}")) }
        })
        .with_context(|| self.agent.process().log_tail())
    }

    /// The guest uses all that it wanted, which is more than it held, and was not hurt.
    fn expect_outgrown(&self) -> Result<()> {
        self.guest.wait_console(SOON, "held=230MiB")?;
        self.guest.expect_unhurt()
    }

    /// Memory is there again: everything comes back, with the period that the guest had.
    fn expect_all_back(&self) -> Result<()> {
        self.host.set(PLENTY)?;
        self.agent.interrupt()?;
        self.expect_full()
    }

    fn expect_full(&self) -> Result<()> {
        wait::until(SOON, "the guest to have what it had, and its period", || {
            let (holds, period) = (self.guest.memory_stats()?.actual_kib, self.guest.stats_period_s()?);
            ensure!(holds == SIZE * 1024 && period == Some(10), "{holds} KiB, {period:?} s");
            Ok(())
        })
        .with_context(|| self.agent.process().log_tail())
        .with_context(|| std::fs::read_to_string(self.dir.join("journal")).unwrap_or_default())
    }
}

#[test]
fn a_loop_that_hangs_is_ended_and_its_successor_helps_the_guest_that_grows() -> Result<()> {
    let bench = Bench::squeezed(&[])?;
    let first = bench.agent.loop_pid()?;
    bench.agent.signal_loop(Signal::STOP)?;
    bench.host.set(PLENTY)?;
    bench.guest.begin(&GROWS)?;
    bench.agent.wait_guest(SOON, "kept", "to be helped", |g| g.actual > (SIZE - 20) * MIB)?;
    ensure!(bench.agent.loop_pid()? != first, "another loop");
    bench.wait_trouble("the loop was started anew")?;
    bench.expect_outgrown()?;
    bench.expect_all_back()
}

#[test]
fn a_loop_that_is_killed_while_its_guest_grows_leaves_nobody_hurt() -> Result<()> {
    let bench = Bench::squeezed(&[])?;
    bench.host.set(PLENTY)?;
    bench.guest.begin(&GROWS)?;
    for _ in 0..2 {
        let before = bench.agent.loop_pid()?;
        bench.agent.signal_loop(Signal::KILL)?;
        wait::until(SOON, "another loop", || bench.agent.loop_pid().is_ok_and(|now| now != before))?;
    }
    bench.agent.wait_guest(SOON, "kept", "to be helped", |g| g.actual > (SIZE - 20) * MIB)?;
    bench.expect_outgrown()?;
    bench.expect_all_back()
}

#[test]
fn a_loop_that_keeps_dying_hands_its_guests_over_and_rests() -> Result<()> {
    let bench = Bench::squeezed(&[])?;
    for _ in 0..2 {
        let before = bench.agent.loop_pid()?;
        bench.agent.signal_loop(Signal::KILL)?;
        wait::until(SOON, "another loop", || bench.agent.loop_pid().is_ok_and(|now| now != before))?;
    }
    // The third is one too many: what hands over sees a host that has memory again.
    bench.host.set(PLENTY)?;
    bench.agent.signal_loop(Signal::KILL)?;
    wait::until(SOON, "its rest", || bench.agent.process().output().contains("it handed over and rests"))
        .with_context(|| bench.agent.process().log_tail())?;
    ensure!(bench.agent.loop_pid().is_err(), "it rests");
    // Nobody turns, and the guest has what there was to spare.
    wait::until(SOON, "the guest to hold what was spare", || {
        let holds = bench.guest.memory_stats()?.actual_kib / 1024;
        ensure!(holds > SIZE - 20, "{holds} MiB");
        Ok(())
    })?;
    bench.agent.terminate()
}

#[test]
fn a_loop_whose_keeper_is_gone_hands_over_and_ends() -> Result<()> {
    let bench = Bench::squeezed(&[])?;
    bench.agent.process().signal(Signal::KILL)?;
    wait::until(SOON, "the end of the loop", || bench.agent.pids().is_empty())?;
    let said = bench.agent.process().output();
    ensure!(said.contains("is gone") && said.contains("handed over"), "{said}");
    let policy = Agent::policy("Enforce", "");
    let Bench { host, guest, dir, hypervisor, short, .. } = bench;
    let agent = Agent::start(hypervisor.uri(), &policy, &dir, &host)?;
    Bench { agent, host, guest, dir, hypervisor, short }.expect_all_back()
}

#[test]
fn no_panic_stops_the_loop_whatever_step_it_is_in() -> Result<()> {
    let points = "asked=panic*9,sampled=panic*14,adopted=panic*20,decided=panic*26,acted=panic*32,heard=panic*2,\
                  published=panic*40,gives-sent=panic*1,journal-asked=panic*1,before-takes=panic*2,takes-sent=panic*1";
    let bench = Bench::squeezed(&[&format!("--fail-at={points},file-half-written=panic*3")])?;
    let first = bench.agent.loop_pid()?;
    let mut met = Vec::new();
    wait::until(SQUEEZED_BY, "each point to be met", || {
        let said = bench.agent.process().output();
        let names = points.split(',').filter_map(|order| order.split('=').next());
        met = names.filter(|name| !said.contains(&format!("ordered at {name}"))).map(str::to_owned).collect();
        // Takes and gives have to come for some.
        bench.host.set(if bench.agent.guest("kept")?.target < (SIZE - 60) * MIB {
            PLENTY
        } else {
            bench.short
        })?;
        ensure!(met.is_empty(), "not met: {met:?}");
        Ok(())
    })
    .with_context(|| bench.agent.process().log_tail())?;
    bench.wait_trouble("failed inside")?;
    ensure!(bench.agent.loop_pid()? == first, "the same process");
    bench.squeeze()?;
    bench.expect_all_back()
}

#[test]
fn where_every_decision_panics_what_was_taken_is_given_back_without_one() -> Result<()> {
    let bench = Bench::squeezed(&[])?;
    bench.agent.kill()?;
    let Bench { host, guest, dir, hypervisor, short, .. } = bench;
    host.set(PLENTY)?;
    let policy = Agent::policy("Enforce", "");
    // The first report is that of a turn that went well.
    let always = ["--unattended", "--fail-at=decided=panic*2+"];
    let agent = Agent::start_with(hypervisor.uri(), &policy, &dir, &host, &always)?;
    let bench = Bench { agent, host, guest, dir, hypervisor, short };
    wait::until(SOON, "the guest to have its memory back", || {
        let holds = bench.guest.memory_stats()?.actual_kib / 1024;
        ensure!(holds == SIZE, "{holds} MiB");
        Ok(())
    })
    .with_context(|| bench.agent.process().log_tail())?;
    bench.wait_trouble("decisions fail inside")
}

/// Points at which the agent is killed, and at which passage: what each turn passes only after the first report was seen.
const POINTS: [&str; 9] = [
    "asked=kill*6",
    "sampled=kill*6",
    "adopted=kill*6",
    "decided=kill*6",
    "journal-asked=kill*1",
    "file-half-written=kill*2",
    "file-replaced=kill*2",
    "before-takes=kill*1",
    "takes-sent=kill*1",
];

#[test]
fn killed_at_any_step_of_the_cycle_nothing_is_forgotten() -> Result<()> {
    let mut bench = Bench::squeezed(&[])?;
    for point in POINTS {
        bench.host.set(PLENTY)?;
        bench.agent.interrupt()?;
        bench.expect_full()?;
        let policy = Agent::policy("Enforce", "");
        let kill = format!("--fail-at={point}");
        let further = ["--unattended", &kill];
        bench.agent = Agent::start_with(bench.hypervisor.uri(), &policy, &bench.dir, &bench.host, &further)?;
        bench.host.set(bench.short)?;
        wait::until(SQUEEZED_BY, format!("its death at {point}"), || bench.agent.pids().is_empty())
            .with_context(|| bench.agent.process().log_tail())?;
        // What it had before is known to the next: it gives all of that back, at the end or for the next point.
        bench.agent = Agent::start(bench.hypervisor.uri(), &policy, &bench.dir, &bench.host)?;
        ensure!(!bench.guest.console().contains("LOAD killed"), "{point}: hurt");
    }
    bench.expect_all_back()
}

#[test]
fn what_somebody_else_set_while_no_agent_ran_is_not_overwritten() -> Result<()> {
    let bench = Bench::squeezed(&[])?;
    bench.agent.wait_settled(SQUEEZED_BY, "kept")?;
    // By less than is handed out: so that nothing more is under way when the agent dies, whatever wanders.
    bench.host.set(bench.short + 3)?;
    bench.agent.wait_settled(SQUEEZED_BY, "kept")?;
    bench.agent.kill()?;
    let left = bench.guest.memory_stats()?.actual_kib / 1024;
    // Less than what is handed out as slack.
    let other = left - 10;
    bench.guest.set_balloon_mib(other)?;
    wait::until(SOON, "the other's size", || {
        bench.guest.memory_stats().is_ok_and(|s| s.actual_kib / 1024 == other)
    })?;
    let Bench { host, guest, dir, hypervisor, short, .. } = bench;
    // Nothing is to be taken, whatever wandered since.
    host.set(short + 4)?;
    let agent = Agent::start(hypervisor.uri(), &Agent::policy("Enforce", ""), &dir, &host)?;
    let bench = Bench { agent, host, guest, dir, hypervisor, short };
    wait::until(SOON, "the agent to notice", || bench.agent.process().output().contains("somebody else"))
        .with_context(|| bench.agent.process().log_tail())?;
    // What it does then it has decided on what the guest holds; nothing was set by what the journal said.
    let said = bench.agent.process().output();
    let (noticed, set) = (said.find("somebody else"), said.find(" balloon guest="));
    ensure!(
        set.is_none_or(|set| noticed.is_some_and(|noticed| noticed < set)),
        "set before it noticed: {said}"
    );
    bench.expect_all_back()
}
