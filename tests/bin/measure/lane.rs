//! How fast the loop is between two ticks: from the host's loss of memory to the command, from a guest's pain that shows on the host
//! to the command, and from a guest's fresh statistics to their being judged; with nothing in the way, and with a guest that hangs.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use jiff::Timestamp;
use overcommit_core::sample::Incarnation;
use overcommit_host::{Glimpses, Root};
use overcommit_tests::agent::{Agent, Turn};
use overcommit_tests::guests::{Guest, GuestSpec, Load};
use overcommit_tests::machine;
use overcommit_tests::wait;
use rustix::process::{Pid, Signal, kill_process};
use virt::connect::Connect;
use virt::sys::VIR_DOMAIN_MEMORY_STAT_LAST_UPDATE;

use crate::guests::{Bench, SIZE};
use crate::spread::Spread;

/// Losses of the host in one condition.
const LOSSES: usize = 16;
/// One loss: above what the lane takes for noise, 1 % of the host (`overcommit-core`, lane.rs, `LOSS`).
const LOSS: u64 = 96;
/// How long statistics are watched.
const WATCHED: Duration = Duration::from_secs(40);
/// How often the measurement itself looks: the error of what it calls the beginning.
const LOOK: Duration = Duration::from_millis(10);
/// What counts as not helped.
const PATIENCE: Duration = Duration::from_secs(20);
/// What `overcommit-core`'s lane takes for pain: 4 MiB/s over one of its polls.
const BURST: u64 = 4 << 20;
const POLL: Duration = Duration::from_millis(200);

/// What was seen in one condition; seconds.
struct Seen {
    condition: &'static str,
    losses: Spread,
    statistics: Spread,
    pains: Spread,
}

/// All conditions.
pub(crate) fn measure(bench: &Bench) -> Result<String> {
    let swapping = (0..2).map(|n| bench.add(&GuestSpec::new(format!("swaps-{n}"), SIZE).swap_mib(256)));
    let swapping = swapping.collect::<Result<Vec<_>>>()?;
    swapping.iter().try_for_each(Guest::wait_booted)?;
    let mut seen = vec![condition(bench, &swapping, "nothing in the way")?];
    let hung = bench.guests.last().context("no guest")?;
    signal(hung, Signal::STOP)?;
    let hindered = condition(bench, &swapping, "a guest that hangs");
    signal(hung, Signal::CONT)?;
    seen.push(hindered?);
    table(&seen)
}

fn signal(guest: &Guest, what: Signal) -> Result<()> {
    let pid = i32::try_from(guest.qemu_pid()?).ok().and_then(Pid::from_raw).context("no process id")?;
    Ok(kill_process(pid, what)?)
}

fn condition(bench: &Bench, swapping: &[Guest], condition: &'static str) -> Result<Seen> {
    let agent = bench.agent()?;
    bench.squeeze(&agent)?;
    let statistics = statistics(bench, &agent).context("statistics")?;
    let pains = pains(&agent, swapping).context("pain")?;
    let losses = losses(bench, &agent).context("losses")?;
    swapping.iter().try_for_each(|guest| guest.begin(&Load::IDLE))?;
    // A guest that hangs gives nothing back while it does.
    bench.host_has_plenty()?;
    agent.terminate()?;
    Ok(Seen { condition, losses, statistics, pains })
}

/// From a loss to the first command that answers it.
fn losses(bench: &Bench, agent: &Agent) -> Result<Spread> {
    let mut turns = agent.turns();
    let mut delays = Vec::new();
    for n in 0..LOSSES {
        // Out of step with the control period, and late enough for new statistics of all.
        pause(Duration::from_millis(1500 + 370 * (n as u64 % 7)))?;
        turns.fresh()?;
        let begun = Timestamp::now();
        bench.host_loses(LOSS)?;
        let took = wait::until_paced(PATIENCE, LOOK, "a command that answers a loss", || {
            let taken = |turn: &Turn| turn.actions.iter().find(|a| a.to < a.from).map(|a| a.at);
            turns.fresh()?.iter().find_map(taken).context("none yet")
        });
        match took {
            Ok(at) => delays.push(at.duration_since(begun).as_secs_f64()),
            // Nobody has anything to give any more.
            Err(_) if delays.len() >= LOSSES / 2 => break,
            Err(error) => return Err(error),
        }
    }
    Ok(Spread::of(delays))
}

/// From the arrival of statistics, as another client of libvirt sees it, to their being judged.
fn statistics(bench: &Bench, agent: &Agent) -> Result<Spread> {
    let guest = bench.guests.first().context("no guest")?;
    let connection = Connect::open(Some(bench.uri()))?;
    let domain = connection.lookup_domain_by_name(guest.name())?;
    let mut turns = agent.turns();
    turns.fresh()?;
    let (begun, mut arrivals, mut last) = (Instant::now(), Vec::new(), None);
    wait::until_paced(WATCHED * 2, LOOK, "the end of the watch", || {
        let stamp = domain.memory_stats(0)?.into_iter().find(|s| s.tag == VIR_DOMAIN_MEMORY_STAT_LAST_UPDATE);
        let stamp = stamp.map(|s| s.val);
        if stamp != last && last.replace(stamp.unwrap_or_default()).is_some() {
            arrivals.push(Timestamp::now());
        }
        anyhow::ensure!(begun.elapsed() >= WATCHED, "watching");
        Ok::<_, anyhow::Error>(())
    })?;
    let judged: Vec<Timestamp> =
        turns.fresh()?.iter().filter_map(|turn| turn.statistics_came(guest.name())).collect();
    let early = jiff::SignedDuration::from_millis(50);
    let delay = |arrival: &Timestamp| {
        let at = judged.iter().find(|at| **at >= *arrival - early)?;
        Some(at.duration_since(*arrival).as_secs_f64().max(0.0))
    };
    Ok(Spread::of(arrivals.iter().filter_map(delay)))
}

/// From pain that shows on the host to the command that helps.
fn pains(agent: &Agent, guests: &[Guest]) -> Result<Spread> {
    let mut delays = Vec::new();
    for _ in 0..4 {
        for guest in guests {
            delays.push(pain(agent, guest)?);
            guest.begin(&Load::IDLE)?;
        }
    }
    Ok(Spread::of(delays))
}

fn pain(agent: &Agent, guest: &Guest) -> Result<f64> {
    let squeezed = |g: &overcommit_tests::agent::GuestReport| g.actual < (SIZE - 60) << 20;
    agent.wait_guest(Duration::from_mins(3), guest.name(), "to be squeezed again", squeezed)?;
    let pid = guest.qemu_pid()?;
    let start_ticks = machine::start_time(pid).context("no start time")?;
    let (mut glimpses, process) = (Glimpses::new(&Root::default()), Incarnation { pid, start_ticks });
    let mut turns = agent.turns();
    turns.fresh()?;
    let stats = guest.memory_stats()?;
    let usable = stats.usable_kib.context("no statistics")? >> 10;
    guest.begin(&Load::Busy { mib: usable + 60, ramp_mib_per_s: 400 })?;
    let (mut reads, mut shows, mut helped): (Vec<(Instant, u64)>, Option<Timestamp>, Option<Timestamp>) =
        (Vec::new(), None, None);
    wait::until_paced(PATIENCE, LOOK, format!("help for {}", guest.name()), || {
        let read = glimpses.look(process).context("no process")?.read.get();
        reads.push((Instant::now(), read));
        let before = reads.iter().rev().find(|(at, _)| at.elapsed() >= POLL).map_or(read, |(_, read)| *read);
        let burst = u64::try_from(u128::from(BURST) * POLL.as_millis() / 1000)?;
        shows = shows.or_else(|| (read - before >= burst).then(Timestamp::now));
        let given = |turn: &Turn| {
            turn.actions.iter().find(|a| a.guest == guest.name() && a.to > a.from).map(|a| a.at)
        };
        helped = helped.or_else(|| turns.fresh().ok()?.iter().find_map(given));
        match (shows, helped) {
            (Some(shows), Some(helped)) => Ok(helped.duration_since(shows).as_secs_f64().max(0.0)),
            // By its own words, before anything showed.
            (None, Some(_)) if reads.first().is_some_and(|(at, _)| at.elapsed() > PATIENCE / 2) => Ok(0.0),
            other => bail!("{other:?}"),
        }
    })
}

fn pause(time: Duration) -> Result<()> {
    let begun = Instant::now();
    wait::until_paced(time * 2, LOOK, "the next trial", || begun.elapsed() >= time)
}

fn table(all: &[Seen]) -> Result<String> {
    let mut text = String::from(
        "## The fast lane\n\nMilliseconds, p50 / p99 / max. *Loss*: the host's memory shrinks, until the command that answers it was carried out \
         (goal 250). *Statistics*: another client of libvirt sees new ones of a squeezed guest, until they are judged (goal 100). *Pain*: a \
         squeezed guest with swap reads 4 MiB/s from its disk, until it was given memory (goal 500); 0 where its own words came first. The \
         measurement looks each 10 ms.\n\n| condition | loss | statistics | pain | samples |\n| --- | --- | --- | --- | --- |\n",
    );
    for seen in all {
        let told = |s: &Spread| [50, 99, 100].map(|p| format!("{:.0}", s.percentile(p) * 1000.0)).join(" / ");
        let counts = [&seen.losses, &seen.statistics, &seen.pains].map(|s| s.count().to_string()).join(", ");
        writeln!(
            text,
            "| {} | {} | {} | {} | {counts} |",
            seen.condition,
            told(&seen.losses),
            told(&seen.statistics),
            told(&seen.pains)
        )?;
    }
    Ok(text)
}
