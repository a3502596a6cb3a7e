//! Merging of equal pages: the agent's rule against that of ksmtuned, on the same machine, of guests that boot anew each time.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use overcommit_tests::agent::{Agent, HostMemory};
use overcommit_tests::guests::{Guest, GuestSpec, Hypervisor, Load};
use overcommit_tests::machine::MIB;
use overcommit_tests::merging::{Merging, daemon};
use overcommit_tests::parts::say;
use overcommit_tests::session::Session;
use overcommit_tests::wait;

use crate::spread::Spread;
use overcommit_tests::cost::{cpu_ms, released};

const RUNS: usize = 3;
const GUESTS: u64 = 6;
/// Of each, in MiB, and what of it is the same in all of them.
const SIZE: u64 = 256;
const EQUAL: u64 = 64;
const SEED: u64 = 1;
/// After the start of the rule.
const MOMENTS: [u64; 4] = [30, 60, 90, 120];
const PATIENCE: Duration = Duration::from_mins(10);

/// Who has the knobs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rule {
    Agent,
    Ksmtuned,
}

/// What was merged, in MiB, and ksmd's CPU time, in s, at each moment.
struct Run {
    rule: Rule,
    merged: Vec<f64>,
    cpu: Vec<f64>,
}

/// Both rules in turn.
pub(crate) fn measure() -> Result<String> {
    let ksm = Merging::take_over(Session::shared()?, PATIENCE)?;
    let mut runs = Vec::new();
    for number in 1..=RUNS {
        for rule in [Rule::Agent, Rule::Ksmtuned] {
            say(&format!("measure: merging, run {number} of {RUNS}"));
            let run = run(rule, &ksm)?;
            say(&format!("measure: merged {:?} MiB for {:?} s of ksmd's CPU", run.merged, run.cpu));
            runs.push(run);
        }
    }
    let mut text = format!(
        "## Merging of equal pages\n\n{GUESTS} guests of {SIZE} MiB, {EQUAL} MiB of each filled with the same pages as in all others, on a host that is shown to both rules as a \
         tenth larger than what QEMU holds, with more than a fifth available: both then scan, without haste. *ksmtuned*: its rule with its \
         defaults, 64 pages each {} ms then (10 on 16 GiB, more on less), decided at once and each 60 s. No balloon moves. {RUNS} runs of each in turn.\n\n\
         | seconds | agent: merged, MiB | ksmd's CPU, s | ksmtuned: merged, MiB | ksmd's CPU, s |\n| --- | --- | --- | --- | --- |\n",
        Ksmtuned::sleep_ms(GUESTS * SIZE * 11 / 10),
    );
    for (at, seconds) in MOMENTS.iter().enumerate() {
        let of = |rule: Rule, what: fn(&Run) -> &Vec<f64>| {
            let runs = runs.iter().filter(move |run| run.rule == rule);
            Spread::of(runs.filter_map(move |run| what(run).get(at).copied()))
        };
        let (ours, theirs) = (Rule::Agent, Rule::Ksmtuned);
        writeln!(
            text,
            "| {seconds} | {:.0} | {:.1} | {:.0} | {:.1} |",
            of(ours, |r| &r.merged),
            of(ours, |r| &r.cpu),
            of(theirs, |r| &r.merged),
            of(theirs, |r| &r.cpu)
        )?;
    }
    Ok(text)
}

fn run(rule: Rule, ksm: &Merging) -> Result<Run> {
    let hypervisor = Hypervisor::start()?;
    let spec = |n| GuestSpec::new(format!("twin-{n}"), SIZE).load(Load::Equal { mib: EQUAL, seed: SEED });
    let guests = (0..GUESTS).map(|n| hypervisor.define_and_start(&spec(n))).collect::<Result<Vec<_>>>()?;
    guests.iter().try_for_each(Guest::wait_booted)?;
    let ksmd = daemon()?;
    let (before, began) = (cpu_ms(ksmd)?, Instant::now());
    let host_mib = committed_mib(&guests)? * 11 / 10;
    let host = HostMemory::new(host_mib)?;
    let agent = match rule {
        Rule::Agent => Some(agent(&hypervisor, &host)?),
        Rule::Ksmtuned => None,
    };
    let mut tuned = Ksmtuned::default();
    let mut run = Run { rule, merged: Vec::new(), cpu: Vec::new() };
    for seconds in MOMENTS {
        let moment = began + Duration::from_secs(seconds);
        wait::until(Duration::from_secs(seconds + 60), "the moment", || {
            if rule == Rule::Ksmtuned {
                tuned.turn(ksm, &guests, host_mib)?;
            }
            ensure!(Instant::now() >= moment);
            Ok(())
        })?;
        run.merged.push(f64::from(i32::try_from(ksm.saved_mib()?)?));
        run.cpu.push((cpu_ms(ksmd)? - before) / 1000.0);
    }
    match agent {
        Some(agent) => agent.interrupt()?,
        None => ksm.write("run", "0")?,
    }
    Ok(run)
}

fn agent(hypervisor: &Hypervisor, host: &HostMemory) -> Result<Agent> {
    let alone = "  classes: [{name: all, exclude: true}]\n  ksm: {mode: Auto}\n";
    let policy = Agent::policy("Enforce", alone).replace("interval: 2s", "interval: 5s");
    let state = Session::shared()?.fresh_dir("state")?;
    Agent::start_program(&released("overcommit-agent")?, hypervisor.uri(), &policy, &state, host)
}

/// What QEMU holds, as ksmtuned counts it.
fn committed_mib(guests: &[Guest]) -> Result<u64> {
    Ok(guests.iter().map(Guest::resident_bytes).sum::<Result<u64>>()? / MIB)
}

/// The rule of ksmtuned 0.1.0, written anew from its description: stop if QEMU's resident memory and a fifth of the host together
/// are less than the host has and more than a fifth is free; else 300 pages more where less is free, else 50 less, within 64 to 1250;
/// between them a sleep that is the longer the smaller the host is.
#[derive(Default)]
struct Ksmtuned {
    pages: i64,
    decided: Option<Instant>,
}

impl Ksmtuned {
    const INTERVAL: Duration = Duration::from_mins(1);

    fn turn(&mut self, ksm: &Merging, guests: &[Guest], total: u64) -> Result<()> {
        if self.decided.is_some_and(|at| at.elapsed() < Self::INTERVAL) {
            return Ok(());
        }
        self.decided = Some(Instant::now());
        // As the agent sees it: all of it is free.
        let (committed, free, threshold) = (committed_mib(guests)?, total, total / 5);
        if committed + threshold < total && free > threshold {
            return ksm.write("run", "0");
        }
        self.pages = (self.pages + if free < threshold { 300 } else { -50 }).clamp(64, 1250);
        ksm.write("pages_to_scan", &self.pages.to_string())?;
        ksm.write("sleep_millisecs", &Self::sleep_ms(total).to_string())?;
        ksm.write("run", "1")
    }

    /// `KSM_SLEEP_MSEC` (10) is for 16 GiB, longer where there is less, and never shorter.
    fn sleep_ms(total_mib: u64) -> u64 {
        (10_u64 * (16 << 10)).checked_div(total_mib).unwrap_or_default().max(10)
    }
}
