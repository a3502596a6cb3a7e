//! How fast the loop is between two ticks: from the host's loss of memory to the command, from a guest's pain that shows on the host
//! to the command, and from a guest's fresh statistics to their being judged; with nothing in the way, with a guest
//! that hangs, with a full disk, and on a machine that thrashes.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use jiff::Timestamp;
use overcommit_core::eligibility::BOOT_GRACE;
use overcommit_core::sample::Incarnation;
use overcommit_host::{Glimpses, Root};
use overcommit_tests::agent::{Action, Agent, HostMemory, Turn};
use overcommit_tests::disk::SmallDisk;
use overcommit_tests::guests::{Guest, GuestSpec, Load};
use overcommit_tests::machine;
use overcommit_tests::parts::say;
use overcommit_tests::session::Session;
use overcommit_tests::thrash::Thrash;
use overcommit_tests::wait;
use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{Pid, Signal, kill_process};
use virt::connect::Connect;
use virt::sys::VIR_DOMAIN_MEMORY_STAT_LAST_UPDATE;

use crate::guests::{Bench, SIZE};
use crate::spread::Spread;

/// Guests with swap, whose pain shows on the host, and how often each is hurt.
const SWAPPING: usize = 4;
const ROUNDS: usize = 2;
/// How long the machine thrashes at most.
const VALVE: Duration = Duration::from_mins(12);
/// Losses of the host in one condition.
const LOSSES: usize = 16;
/// One loss: above what the lane takes for noise, 1 % of the host (`overcommit-core`, lane.rs, `LOSS`).
const LOSS: u64 = 96;
/// A guest with so many MiB or more is not squeezed.
const SQUEEZED: u64 = SIZE - 60;
/// Whoever was hurt twice by takes backs off for a minute, and for two after the third time.
const SQUEEZED_AGAIN: Duration = Duration::from_mins(5);
/// When nothing is taken for so long, nothing is short.
const NO_MORE: Duration = Duration::from_secs(12);
/// How long statistics are watched.
const WATCHED: Duration = Duration::from_secs(40);
/// How often the measurement itself looks: the error of what it calls the beginning.
const LOOK: Duration = Duration::from_millis(10);
/// What counts as not helped.
const PATIENCE: Duration = Duration::from_secs(20);
/// What `overcommit-core`'s lane takes for pain: 4 MiB/s over one of its polls.
const BURST: u64 = 4 << 20;
const POLL: Duration = Duration::from_millis(200);

/// What is in the way.
#[derive(Clone, Copy)]
enum Hindrance<'a> {
    Nothing,
    Hung(&'a Guest),
    FullDisk(&'a SmallDisk),
    Thrashing,
}

/// What was seen in one condition; seconds.
pub(crate) struct Seen {
    pub(crate) condition: &'static str,
    pub(crate) statistics: Spread,
    /// Absent where nothing can be taken, as the next.
    pub(crate) losses: Option<Spread>,
    pub(crate) pains: Option<Pains>,
}

/// From pain that shows on the host; seconds.
pub(crate) struct Pains {
    /// To the first command for it: it is given memory, or another guest is told to make room for it.
    answered: Spread,
    /// To memory that it was given.
    helped: Spread,
}

/// All conditions.
pub(crate) fn measure(bench: &Bench) -> Result<String> {
    let swapping =
        (0..SWAPPING).map(|n| bench.add(&GuestSpec::new(format!("swaps-{n}"), SIZE).swap_mib(256)));
    let swapping = swapping.collect::<Result<Vec<_>>>()?;
    let begun = Instant::now();
    swapping.iter().try_for_each(Guest::wait_booted)?;
    // As long as they may still be booting, others would give all that is short.
    pause(BOOT_GRACE.saturating_sub(begun.elapsed()))?;
    let swapping: Vec<&Guest> = swapping.iter().collect();
    let (hung, disk) = (bench.guests.last().context("no guest")?, SmallDisk::mount()?);
    let conditions =
        [Hindrance::Nothing, Hindrance::Hung(hung), Hindrance::FullDisk(&disk), Hindrance::Thrashing];
    let seen = conditions.into_iter().map(|hindrance| {
        say(&format!("measure: the fast lane: {}", hindrance.name()));
        let seen = condition(bench, &swapping, hindrance).context(hindrance.name())?;
        // A later condition may fail: what is known is told at once.
        say(seen.row().trim_end());
        Ok(seen)
    });
    Ok(table(&seen.collect::<Result<Vec<_>>>()?))
}

impl Hindrance<'_> {
    fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing in the way",
            Self::Hung(_) => "a guest that hangs",
            Self::FullDisk(_) => "a full disk under the state directory",
            Self::Thrashing => "the machine thrashes, without swap",
        }
    }

    /// It is in the way until what is returned is dropped.
    fn begin(self) -> Result<InTheWay> {
        match self {
            Self::Nothing => Ok(InTheWay::Nothing),
            Self::Hung(guest) => {
                let pid = i32::try_from(guest.qemu_pid()?).ok().and_then(Pid::from_raw);
                let pid = pid.context("no process id")?;
                kill_process(pid, Signal::STOP)?;
                Ok(InTheWay::Stopped(pid))
            }
            Self::FullDisk(disk) => disk.fill().map(|()| InTheWay::Nothing),
            Self::Thrashing => {
                // Its own pages must not be what the measurement waits for.
                mlockall(MlockAllFlags::CURRENT)?;
                Ok(InTheWay::Thrash(Box::new(Thrash::begin(Session::shared()?, VALVE)?)))
            }
        }
    }
}

enum InTheWay {
    Nothing,
    Stopped(Pid),
    Thrash(Box<Thrash>),
}

impl InTheWay {
    /// Fails when it was not in the way all the time.
    fn end(self) -> Result<()> {
        if let Self::Thrash(thrash) = &self { thrash.check() } else { Ok(()) }
    }
}

impl Drop for InTheWay {
    fn drop(&mut self) {
        if let Self::Stopped(pid) = *self {
            // A process that is gone hangs no more.
            let _ = kill_process(pid, Signal::CONT);
        }
    }
}

fn condition(bench: &Bench, swapping: &[&Guest], hindrance: Hindrance<'_>) -> Result<Seen> {
    let agent = match hindrance {
        Hindrance::FullDisk(disk) => bench.agent_in(disk.dir())?,
        _ => bench.agent()?,
    };
    bench.squeeze(&agent)?;
    let in_the_way = hindrance.begin()?;
    let watched = bench.guests.first().context("no guest")?;
    let statistics = statistics(watched, bench.uri(), &agent).context("statistics")?;
    // On a full disk nothing can be taken, and all that was spare was given long ago.
    let takes = !matches!(hindrance, Hindrance::FullDisk(_));
    let pains = takes.then(|| pains(bench.host(), &agent, swapping).context("pain")).transpose()?;
    let losses = takes.then(|| losses(bench.host(), &agent, LOSSES).context("losses")).transpose()?;
    in_the_way.end()?;
    swapping.iter().try_for_each(|guest| guest.begin(&Load::IDLE))?;
    if let Hindrance::FullDisk(disk) = hindrance {
        disk.make_room()?;
    }
    bench.end(&agent)?;
    Ok(Seen { condition: hindrance.name(), losses, statistics, pains })
}

/// From a loss to the first command that answers it.
pub(crate) fn losses(host: &HostMemory, agent: &Agent, count: usize) -> Result<Spread> {
    let mut turns = agent.turns();
    let mut delays = Vec::new();
    for n in 0..count {
        // Out of step with the control period, and late enough for new statistics of all.
        pause(Duration::from_millis(1500 + 370 * (n as u64 % 7)))?;
        turns.fresh()?;
        let begun = Timestamp::now();
        host.lose(LOSS)?;
        let took = wait::until_paced(PATIENCE, LOOK, "a command that answers a loss", || {
            let taken = |turn: &Turn| turn.actions.iter().find(|a| a.to < a.from).map(|a| a.at);
            turns.fresh()?.iter().find_map(taken).context("none yet")
        });
        match took {
            Ok(at) => delays.push(at.duration_since(begun).as_secs_f64()),
            // Nobody has anything to give any more.
            Err(_) if delays.len() >= count / 2 => break,
            Err(error) => return Err(error),
        }
    }
    Ok(Spread::of(delays))
}

/// From the arrival of statistics, as another client of libvirt sees it, to their being judged.
pub(crate) fn statistics(guest: &Guest, uri: &str, agent: &Agent) -> Result<Spread> {
    let connection = Connect::open(Some(uri))?;
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
pub(crate) fn pains(host: &HostMemory, agent: &Agent, guests: &[&Guest]) -> Result<Pains> {
    let (mut answered, mut helped, total) = (Vec::new(), Vec::new(), host.get()?);
    for _ in 0..ROUNDS {
        for guest in guests {
            squeezed(host, agent, guest)?;
            let [first, given] = pain(agent, guest).with_context(|| explained(agent, guest))?;
            answered.push(first);
            helped.push(given);
            guest.begin(&Load::IDLE)?;
            // What the host lost for this one, the others would lack when it is the next one's turn.
            host.set(total)?;
        }
    }
    Ok(Pains { answered: Spread::of(answered), helped: Spread::of(helped) })
}

/// What the agent says of it: why it was not helped.
fn explained(agent: &Agent, guest: &Guest) -> String {
    match agent.ask(&["explain", guest.name()]) {
        Ok(output) => String::from_utf8_lossy(&output.stdout).into_owned(),
        Err(error) => format!("{error:#}"),
    }
}

/// Waits until it holds little enough to hurt. What is short may be the others' by now: then the host loses more. Not while it backs
/// off: all would be taken from the others, and then nobody has anything to give to the one that hurts.
fn squeezed(host: &HostMemory, agent: &Agent, guest: &Guest) -> Result<()> {
    let mut lost = Instant::now();
    wait::until(SQUEEZED_AGAIN, format!("{} to be squeezed again", guest.name()), || {
        let view = agent.view(guest.name())?;
        let holds = view.actual.get() >> 20;
        if holds >= SQUEEZED && view.back_off.is_none() && lost.elapsed() >= NO_MORE {
            host.lose(LOSS)?;
            lost = Instant::now();
        }
        anyhow::ensure!(holds < SQUEEZED, "{holds} MiB");
        Ok::<_, anyhow::Error>(())
    })
}

/// Until the first command for it, and until it was given memory.
fn pain(agent: &Agent, guest: &Guest) -> Result<[f64; 2]> {
    let pid = guest.qemu_pid()?;
    let start_ticks = machine::start_time(pid).context("no start time")?;
    let (mut glimpses, process) = (Glimpses::new(&Root::default()), Incarnation { pid, start_ticks });
    let mut turns = agent.turns();
    turns.fresh()?;
    let stats = guest.memory_stats()?;
    let usable = stats.usable_kib.context("no statistics")? >> 10;
    guest.begin(&Load::Busy { mib: usable + 60, ramp_mib_per_s: 400 })?;
    let mut reads: Vec<(Instant, u64)> = Vec::new();
    let [mut shows, mut answered, mut helped]: [Option<Timestamp>; 3] = [None; 3];
    wait::until_paced(PATIENCE, LOOK, format!("help for {}", guest.name()), || {
        let read = glimpses.look(process).context("no process")?.read.get();
        reads.push((Instant::now(), read));
        let before = reads.iter().rev().find(|(at, _)| at.elapsed() >= POLL).map_or(read, |(_, read)| *read);
        let burst = u64::try_from(u128::from(BURST) * POLL.as_millis() / 1000)?;
        shows = shows.or_else(|| (read - before >= burst).then(Timestamp::now));
        for turn in turns.fresh()? {
            let given = turn.actions.iter().find(|a| concerns(a, guest) && a.to > a.from).map(|a| a.at);
            let room = turn.actions.iter().filter(|_| turn.is_short_of_nothing());
            let room = room.filter(|a| !concerns(a, guest) && a.to < a.from).map(|a| a.at).next();
            answered = answered.or(given).or(room);
            helped = helped.or(given);
        }
        match (shows, answered, helped) {
            (Some(shows), Some(answered), Some(helped)) => {
                Ok([answered, helped].map(|at| at.duration_since(shows).as_secs_f64().max(0.0)))
            }
            // By its own words, before anything showed.
            (None, _, Some(_)) if reads.first().is_some_and(|(at, _)| at.elapsed() > PATIENCE / 2) => {
                Ok([0.0; 2])
            }
            other => bail!("{other:?}"),
        }
    })
}

/// In a cluster its name has a namespace before it.
fn concerns(action: &Action, guest: &Guest) -> bool {
    action.guest.rsplit('/').next() == Some(guest.name())
}

pub(crate) fn pause(time: Duration) -> Result<()> {
    let begun = Instant::now();
    wait::until_paced(time * 2, LOOK, "the next trial", || begun.elapsed() >= time)
}

impl Seen {
    /// Its line of the table.
    pub(crate) fn row(&self) -> String {
        let told = |s: &Spread| [50, 99, 100].map(|p| format!("{:.0}", s.percentile(p) * 1000.0)).join(" / ");
        let told_if = |s: Option<&Spread>| s.map_or_else(|| "–".to_owned(), told);
        let pains = self.pains.as_ref();
        let (answered, helped) = (pains.map(|p| &p.answered), pains.map(|p| &p.helped));
        let count = |s: Option<&Spread>| s.map_or(0, Spread::count);
        let counts = [count(self.losses.as_ref()), self.statistics.count(), count(helped)];
        format!(
            "| {} | {} | {} | {} | {} | {} |\n",
            self.condition,
            told_if(self.losses.as_ref()),
            told(&self.statistics),
            told_if(answered),
            told_if(helped),
            counts.map(|n| n.to_string()).join(", ")
        )
    }
}

fn table(all: &[Seen]) -> String {
    const HEAD: &str = "## The fast lane\n\nMilliseconds, p50 / p99 / max. *Loss*: the host's memory shrinks, until the command that answers it was carried out \
         (goal 250). *Statistics*: another client of libvirt sees new ones of a squeezed guest, until they are judged (goal 100). *Pain*: a \
         squeezed guest with swap reads 4 MiB/s from its disk, until the first command for it was carried out: it was given memory, or, where \
         nothing is spare, another was told to make room for it (goal 500); 0 where its own words came first. *Given*: until it was given \
         memory, for which another's balloon may have had to move first. The \
         measurement looks each 10 ms; while the machine thrashes, libvirtd and QEMU wait for their own pages too, which is in the figures. On \
         a full disk nothing is taken (write-ahead), and all that was spare has been given: neither loss nor pain can be answered.\n\n| condition | loss | statistics | pain | given | samples |\n| --- | --- | --- | --- | --- | --- |\n";
    all.iter().map(Seen::row).fold(HEAD.to_owned(), |text, row| text + &row)
}
