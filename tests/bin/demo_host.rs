//! `make demo-host`: the agent on a host without Kubernetes, on three real guests, from Observe to release.
//!
//! The agent is shown a host with little memory (a file bound over `/proc/meminfo` in its own mount namespace), so
//! the demonstration squeezes nobody's machine.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use overcommit_core::units::Bytes;
use overcommit_tests::agent::{Agent, HostMemory};
use overcommit_tests::guests::{Guest, GuestSpec, Hypervisor, Load};
use overcommit_tests::parts::told;
use overcommit_tests::screen::Screen;
use overcommit_tests::session::Session;
use overcommit_tests::table::Report;
use overcommit_tests::wait;

const SIZE: u64 = 384;
const PLENTY: u64 = 16 * 1024;
/// How much the host lacks for all guests at full size.
const SHORT: u64 = 350;
/// What the worker's load needs, and what of it is more than what its balloon left it by chance.
const GROWTH_MIB: u64 = 180;
const SEEN_MIB: u64 = 32;
const PATIENCE: Duration = Duration::from_mins(3);
/// How often the agent is asked while something is awaited.
const LOOKED: Duration = Duration::from_millis(500);
const GUESTS: [&str; 3] = ["idle", "worker", "opted-out"];
const CLASSES: &str = "  classes:
  - {name: left-alone, selector: {matchLabels: {name: opted-out}}, exclude: true}
  - {name: everybody}
";

/// The agent on a host without Kubernetes: three real guests of 384 MiB, from Observe to release.
#[derive(Parser)]
struct Arguments {}

fn main() -> ExitCode {
    let Arguments {} = Arguments::parse();
    match demo() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo-host: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Who shows what, since when.
struct Show {
    screen: Screen,
    begun: Instant,
}

fn demo() -> Result<()> {
    let show = Show { screen: Screen::stdout(), begun: Instant::now() };
    show.step("three guests of 384 MiB under libvirt: one idle, one that will work, one opted out");
    let hypervisor = Hypervisor::start()?;
    let guests = GUESTS
        .iter()
        .map(|name| hypervisor.define_and_start(&GuestSpec::new(*name, SIZE)))
        .collect::<Result<Vec<Guest>>>()?;
    guests.iter().try_for_each(Guest::wait_booted)?;
    let dir = Session::shared()?.fresh_dir("state")?;
    let host = HostMemory::new(PLENTY)?;

    show.step("a policy that only observes; the host has 400 MiB less than the guests may touch");
    show.command("overcommit-agent run --policy observe.yaml --connect URI    # mode: Observe");
    let agent = Agent::start(hypervisor.uri(), &Agent::policy("Observe", CLASSES), &dir, &host)?;
    host.set(agent.promised_mib(3)? - SHORT)?;
    show.settled(&agent)?;
    show.saw("what the policy would do, tried on shadow balloons. Nobody was touched.");
    agent.terminate()?;

    show.step("the same policy, enforced");
    show.command("overcommit-agent run --policy enforce.yaml --connect URI    # mode: Enforce");
    let enforced = Instant::now();
    let agent = Agent::start(hypervisor.uri(), &Agent::policy("Enforce", CLASSES), &dir, &host)?;
    show.settled(&agent)?;
    let within = enforced.elapsed();
    show.saw("every guest may touch all that it is still allowed to, and the host survives it.");

    show.step(&format!("now the worker works: it grows by {GROWTH_MIB} MiB"));
    let (before, after, took) = show.distress(&agent, &guests)?;

    show.step("why?");
    for name in GUESTS {
        show.command(&format!("overcommit-agent explain {name}"));
        show.screen.say(&String::from_utf8_lossy(&agent.ask(&["explain", name])?.stdout));
    }

    show.step("the host has memory again; Ctrl-C gives everything back");
    host.set(PLENTY)?;
    let interrupted = Instant::now();
    agent.interrupt()?;
    for guest in &guests {
        wait::until(PATIENCE, "the full size", || full(guest))?;
    }
    show.step("the numbers");
    show.screen.say(&format!(
        "  start of the enforcing agent to promises within budget  {:.1} s\n  \
         worker {before} → {after} MiB                               {:.1} s after it began to grow\n  \
         everything given back                                   {:.1} s\n  \
         opted-out: never touched. The whole took {}.",
        within.as_secs_f64(),
        took.as_secs_f64(),
        interrupted.elapsed().as_secs_f64(),
        told(show.begun.elapsed())
    ));
    Ok(())
}

fn full(guest: &Guest) -> bool {
    guest.memory_stats().is_ok_and(|s| s.actual_kib == SIZE * 1024)
}

impl Show {
    fn step(&self, what: &str) {
        self.screen.heading(&format!("{:>4} s  {what}", self.begun.elapsed().as_secs()));
    }

    fn command(&self, command: &str) {
        self.screen.say(&format!("  $ {command}"));
    }

    fn saw(&self, what: &str) {
        self.screen.say(&format!("  → {what}"));
    }

    /// Waits for a report that satisfies `so`, and shows the table.
    fn watch(&self, agent: &Agent, what: &str, so: impl Fn(&Report) -> bool) -> Result<Report> {
        let begun = Instant::now();
        let seen = wait::until_paced(PATIENCE, LOOKED, what, || {
            let told_by = agent.ask(&["status", "--output", "json"])?.stdout;
            let report = Report::read(&String::from_utf8_lossy(&told_by))?;
            let lines = report.lines();
            self.screen.show(lines.clone(), &format!("  … {}, waiting for {what}", told(begun.elapsed())));
            ensure!(so(&report), "{}", lines.join("\n"));
            Ok::<_, anyhow::Error>(report)
        });
        self.screen.settle();
        seen
    }

    fn settled(&self, agent: &Agent) -> Result<Report> {
        self.watch(agent, "promises within the budget", |report| {
            report.ledger.is_some_and(|l| l.shortfall.is_zero() && !l.reclaimed.is_zero())
        })
    }

    /// Lets the worker grow; returns what it held before and after, in MiB, and how long that took.
    fn distress(&self, agent: &Agent, guests: &[Guest]) -> Result<(u64, u64, Duration)> {
        let before = agent.guest("worker")?.actual >> 20;
        let began = Instant::now();
        let worker = guests.iter().find(|guest| guest.name() == "worker").context("no worker")?;
        worker.begin(&Load::Busy { mib: GROWTH_MIB, ramp_mib_per_s: 5 })?;
        let enough = Bytes::from_mib(before + SEEN_MIB);
        let after = self.watch(agent, "memory to move to the worker", |report| {
            report.guest("worker").is_some_and(|g| g.actual > enough)
        })?;
        let after = after.guest("worker").context("no worker")?.actual.get() >> 20;
        Ok((before, after, began.elapsed()))
    }
}
