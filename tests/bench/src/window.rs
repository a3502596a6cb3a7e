//! One window: guests, squeeze, controller, work, and what came of it. The machine is as before when it returns, whatever happened.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use overcommit_tests::cost::cpu_ms;
use overcommit_tests::guests::{Guest, Hypervisor};
use overcommit_tests::kernel_counts::oom_kills;
use overcommit_tests::machine::{self, MIB};
use overcommit_tests::merging::Merging;
use overcommit_tests::session::Session;
use overcommit_tests::squeeze::Squeeze;

use crate::controller::{Controller, Running};
use crate::looks::{Looks, Seen};
use crate::outcome::{Key, Outcome};
use crate::pace;
use crate::scenario::Scenario;
use crate::swap::HostSwap;

/// A controller has so long to get to know the guests before they work, and to make room: guests are left alone for half a minute
/// after their boot, and a tenth of each in every five seconds takes as long again; MOM decides each ten seconds.
const SETTLES: Duration = Duration::from_secs(90);
/// The squeeze ends by itself so long after the window should have.
const AT_LAST: Duration = Duration::from_mins(5);
/// How long another user of the machine's KSM is waited for.
const PATIENCE: Duration = Duration::from_mins(10);

/// Runs it.
///
/// # Errors
/// When guests do not boot or the machine cannot be squeezed: no result of the controller's.
pub(crate) fn run(key: Key) -> Result<Outcome> {
    let session = Session::shared()?;
    let before = pace::index();
    // MOM's KSM rules write knobs and put nothing back.
    let _merging = Merging::take_over(session, PATIENCE)?;
    let _swap = key.scenario.host_swap_mib().map(|mib| HostSwap::on(session, mib)).transpose()?;
    let hypervisor = Hypervisor::start()?;
    let guests = boot(key.scenario, &hypervisor)?;
    let room = key.scenario.room_mib().filter(|_| key.controller != Controller::Ceiling);
    let squeeze = room.map(|room| squeeze(session, key.scenario, &guests, room)).transpose()?;
    let room = room.map_or_else(|| Ok(machine::meminfo("MemTotal")? / MIB), Ok::<_, anyhow::Error>)?;
    let controller = key.controller.start(&hypervisor, room)?;
    let worked = work(key, &hypervisor, &guests, &controller, squeeze.as_ref());
    // First of all: whatever comes next needs a machine that answers.
    squeeze.map(Squeeze::release).transpose()?;
    let mut outcome = worked?;
    controller.stop()?;
    drop(guests);
    outcome.index = (before, pace::index());
    Ok(outcome)
}

fn boot(scenario: Scenario, hypervisor: &Hypervisor) -> Result<Vec<Guest>> {
    let start = |number| hypervisor.define_and_start(&scenario.guest(number));
    let guests = (0..scenario.guests()).map(start).collect::<Result<Vec<_>>>()?;
    for guest in &guests {
        guest.wait_booted()?;
        // As those of a pod that may use more than it requests: the kernel takes them before the node's own programs.
        let path = format!("/proc/{}/oom_score_adj", guest.qemu_pid()?);
        fs::write(&path, "1000").with_context(|| format!("writing {path}"))?;
    }
    Ok(guests)
}

/// Leaves `room` MiB for what the guests hold already and may touch yet.
fn squeeze(session: &'static Session, scenario: Scenario, guests: &[Guest], room: u64) -> Result<Squeeze> {
    let held = guests.iter().map(Guest::resident_bytes).sum::<Result<u64>>()? / MIB;
    ensure!(held < room, "{} idle guests hold {held} MiB already, of {room} MiB", guests.len());
    Squeeze::leaving(session, room - held, SETTLES + scenario.window() + AT_LAST)
}

fn work(
    key: Key,
    hypervisor: &Hypervisor,
    guests: &[Guest],
    controller: &Running,
    squeeze: Option<&Squeeze>,
) -> Result<Outcome> {
    thread::sleep(SETTLES);
    let pids = guests.iter().map(Guest::qemu_pid).collect::<Result<Vec<_>>>()?;
    let cpu = |pids: &[u32]| pids.iter().filter_map(|pid| cpu_ms(*pid).ok()).sum::<f64>();
    let libvirt = [hypervisor.daemon_pid()];
    let (kills, used) = (oom_kills()?, (cpu(&libvirt), cpu(&pids)));
    let mut looks = Looks::begin(guests, &pids)?;
    let began = Instant::now();
    for (number, guest) in (0..).zip(guests) {
        guest.begin(&key.scenario.load(number, key.seed))?;
    }
    let mut livelock = None;
    while began.elapsed() < key.scenario.window() {
        looks.look(began)?;
        livelock = squeeze.and_then(Squeeze::opened).map(|why| (began.elapsed().as_secs_f64(), why));
        if livelock.is_some() {
            break;
        }
    }
    let window_s = key.scenario.window().as_secs_f64();
    let Seen { guests, host } = looks.end();
    Ok(Outcome {
        key,
        window_s,
        guests,
        host,
        host_kills: oom_kills()?.saturating_sub(kills),
        livelock,
        controller_died: controller.check().err().map(|error| format!("{error:#}")),
        cost: controller.cost().unwrap_or_default(),
        libvirt_cpu_ms: cpu(&libvirt) - used.0,
        qemu_cpu_ms: cpu(&pids) - used.1,
        index: (0.0, 0.0),
    })
}
