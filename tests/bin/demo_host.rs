//! `make demo-host`: the agent on a host without Kubernetes, on three real guests, from Observe to release.
//!
//! The agent is shown a host with little memory (a file bound over `/proc/meminfo` in its own mount namespace), so
//! the demonstration squeezes nobody's machine.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use overcommit_tests::agent::{Agent, HostMemory};
use overcommit_tests::guests::{Guest, GuestSpec, Hypervisor, Load};
use overcommit_tests::session::Session;
use overcommit_tests::wait;

const MIB: u64 = 1 << 20;
const SIZE: u64 = 384;
const PLENTY: u64 = 16 * 1024;
/// How much the host lacks for all guests at full size.
const SHORT: u64 = 400;
const PATIENCE: Duration = Duration::from_mins(3);
const CLASSES: &str = "  classes:
  - {name: left-alone, selector: {matchLabels: {name: opted-out}}, exclude: true}
  - {name: everybody}
";

fn main() -> ExitCode {
    match demo() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo-host: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn demo() -> Result<()> {
    let began = Instant::now();
    say("three guests of 384 MiB under libvirt: one idle, one that will work, one opted out");
    let hypervisor = Hypervisor::start()?;
    let guests = ["idle", "worker", "opted-out"]
        .iter()
        .map(|name| hypervisor.define_and_start(&GuestSpec::new(*name, SIZE)))
        .collect::<Result<Vec<Guest>>>()?;
    for guest in &guests {
        guest.wait_booted()?;
    }
    let dir = Session::shared()?.fresh_dir("state")?;
    let host = HostMemory::new(PLENTY)?;

    say("overcommit-agent run --policy observe.yaml --connect URI    (mode: Observe)");
    let agent = Agent::start(hypervisor.uri(), &Agent::policy("Observe", CLASSES), &dir, &host)?;
    let promised = agent.promised_mib(3)?;
    host.set(promised - SHORT)?;
    say(&format!("the host has {SHORT} MiB less than the guests may touch; what would the policy do?"));
    settle(&agent)?;
    show(&agent, &["status"])?;
    agent.terminate()?;

    say("overcommit-agent run --policy enforce.yaml --connect URI    (mode: Enforce)");
    let agent = Agent::start(hypervisor.uri(), &Agent::policy("Enforce", CLASSES), &dir, &host)?;
    settle(&agent)?;
    show(&agent, &["status"])?;

    say("now the worker works: it grows by 150 MiB");
    let before = agent.guest("worker")?.actual;
    let asked = Instant::now();
    guests
        .iter()
        .filter(|g| g.name() == "worker")
        .try_for_each(|g| g.begin(&Load::Busy { mib: 150, ramp_mib_per_s: 5 }))?;
    let after =
        agent.wait_guest(PATIENCE, "worker", "to be given memory", |g| g.actual > before.max(215 * MIB))?;
    let took = asked.elapsed();
    show(&agent, &["status"])?;
    say("why does the idle guest have the memory it has?");
    show(&agent, &["explain", "idle"])?;

    say("the host has memory again; Ctrl-C gives everything back");
    host.set(PLENTY)?;
    agent.interrupt()?;
    for guest in &guests {
        wait::until(PATIENCE, "the full size", || full(guest))?;
    }
    println!("\n  guests of {SIZE} MiB on a host short of {SHORT} MiB");
    println!(
        "  worker: {} MiB → {} MiB, {:.1} s after it began to grow",
        before / MIB,
        after.actual / MIB,
        took.as_secs_f64()
    );
    println!("  opted-out: never touched; all three have their full size again");
    println!("  the whole took {:.0} s", began.elapsed().as_secs_f64());
    Ok(())
}

fn full(guest: &Guest) -> bool {
    guest.memory_stats().is_ok_and(|s| s.actual_kib == SIZE * 1024)
}

/// Waits until nothing is short, with a live line.
fn settle(agent: &Agent) -> Result<()> {
    let mut shown = String::new();
    wait::until(PATIENCE, "promises within the budget", || {
        let (short, reclaimed) = (agent.ledger("shortfall")? / MIB, agent.ledger("reclaimed")? / MIB);
        let line = format!("    short of {short:>4} MiB, reclaimed {reclaimed:>4} MiB");
        if line != shown {
            println!("{line}");
            shown = line;
        }
        if short == 0 && reclaimed > 0 { Ok(()) } else { anyhow::bail!("{shown}") }
    })
}

fn say(what: &str) {
    println!("\n▶ {what}");
}

fn show(agent: &Agent, words: &[&str]) -> Result<()> {
    println!("  $ overcommit-agent {}", words.join(" "));
    print!("{}", String::from_utf8_lossy(&agent.ask(words)?.stdout));
    Ok(())
}
