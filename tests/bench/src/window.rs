//! One window: guests, squeeze, controller, work, and what came of it. The machine is as before when it returns, whatever happened.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use overcommit_tests::cost::cpu_ms;
use overcommit_tests::guests::{Guest, Hypervisor};
use overcommit_tests::kernel_counts::oom_kills;
use overcommit_tests::machine::{self, MIB};
use overcommit_tests::merging::{Merging, daemon};
use overcommit_tests::session::Session;
use overcommit_tests::squeeze::Squeeze;
use overcommit_tests::valve;

use crate::controller::{Controller, Running};
use crate::looks::{Looks, Seen};
use crate::origin::Origin;
use crate::outcome::{Key, Outcome, Relief};
use crate::pace::Watch;
use crate::scenario::Scenario;
use crate::swap::HostSwap;

/// A controller has so long to get to know the guests before they work, and to make room: guests are left alone for half a minute
/// after their boot, and a tenth of each in every five seconds takes as long again; MOM decides each ten seconds.
const SETTLES: Duration = Duration::from_secs(90);
/// The squeeze ends by itself so long after the window should have.
const AT_LAST: Duration = Duration::from_mins(5);
/// How long another user of the machine's KSM is waited for.
const PATIENCE: Duration = Duration::from_mins(10);
/// Between two looks at the valve while guests are idle.
const LOOK: Duration = Duration::from_millis(500);
/// The last look may come so much after the window's end.
const LATE_S: f64 = 1.0;

/// What works in a window.
struct Stage<'a> {
    key: Key,
    origin: &'a Origin,
    hypervisor: &'a Hypervisor,
    guests: &'a [Guest],
    /// Of their emulators, from when all of them ran.
    pids: &'a [u32],
    controller: &'a Running,
    squeeze: Option<&'a Squeeze>,
    merging: &'a Merging,
    /// What ksmd had used before the controller began, in ms.
    ksmd: f64,
    /// What the kernel had killed before the controller began.
    kills: u64,
}

/// Runs it. What keeps it from having a result is its outcome then, and no reason to end the bench.
pub(crate) fn run(key: Key, origin: &Origin) -> Outcome {
    let began = Instant::now();
    let outcome = try_run(key, origin);
    let mut outcome = outcome.unwrap_or_else(|error| Outcome::failed(key, origin, format!("{error:#}")));
    outcome.took_s = began.elapsed().as_secs_f64();
    outcome
}

/// # Errors
/// When guests do not boot, the machine cannot be squeezed, or the controller does not start.
fn try_run(key: Key, origin: &Origin) -> Result<Outcome> {
    let session = Session::shared()?;
    // MOM's KSM rules write knobs and put nothing back.
    let merging = Merging::take_over(session, PATIENCE)?;
    let _swap = key.scenario.host_swap_mib().map(|mib| HostSwap::on(session, mib)).transpose()?;
    let hypervisor = Hypervisor::start()?;
    let guests = boot(key, &hypervisor)?;
    let pids = guests.iter().map(Guest::qemu_pid).collect::<Result<Vec<_>>>()?;
    let room = key.scenario.room_mib().filter(|_| key.controller != Controller::Ceiling);
    let squeeze = room.map(|room| squeeze(session, key.scenario, &guests, room)).transpose()?;
    let room = room.map_or_else(|| Ok(machine::meminfo("MemTotal")? / MIB), Ok::<_, anyhow::Error>)?;
    let (kills, ksmd) = (oom_kills()?, cpu_ms(daemon()?)?);
    let controller = key.controller.start(key.scenario, &hypervisor, &guests, room);
    let controller = controller.context("starting the controller")?;
    let worked = work(&Stage {
        key,
        origin,
        hypervisor: &hypervisor,
        guests: &guests,
        pids: &pids,
        controller: &controller,
        squeeze: squeeze.as_ref(),
        merging: &merging,
        ksmd,
        kills,
    });
    // First of all: whatever comes next needs a machine that answers.
    squeeze.map(Squeeze::release).transpose()?;
    let outcome = worked?;
    controller.stop();
    Ok(outcome)
}

fn boot(key: Key, hypervisor: &Hypervisor) -> Result<Vec<Guest>> {
    let start = |number| hypervisor.define_and_start(&key.scenario.guest(number));
    let guests = (0..key.guests()).map(start).collect::<Result<Vec<_>>>()?;
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
    let lasts = SETTLES + scenario.warm_up().unwrap_or_default() + scenario.window();
    Squeeze::leaving(session, room - held, lasts + AT_LAST)
}

fn work(stage: &Stage<'_>) -> Result<Outcome> {
    let Stage { key, origin, hypervisor, guests, pids, controller, squeeze, merging, ksmd, kills } = *stage;
    settle(squeeze, SETTLES);
    let load = |number| key.scenario.load(number, key.seed);
    let order = |number, guest: &Guest| guest.begin(&load(number));
    // What was refused while they got warm.
    let warm = key.scenario.warm_up().map(|warm_up| ordered(guests, order, || settle(squeeze, warm_up)).0);
    let libvirt = [hypervisor.daemon_pid()];
    let used = (cpu(&libvirt), cpu(pids));
    let mut looks = Looks::begin(guests, pids, merging, warm.is_some(), load)?;
    let pace = Watch::begin();
    let window = key.scenario.window();
    let (began, clock, wall) = (Instant::now(), valve::now(), Timestamp::now());
    let mut watched = || watch(&mut looks, squeeze, window, began);
    let (refused, relief) = match warm {
        Some(refused) => (refused, watched()),
        None => ordered(guests, order, watched),
    };
    let (pace, relief) = (pace.end(), relief?.map(|opening| Relief::of(opening, clock)));
    let window_s = window.as_secs_f64();
    let until = relief.as_ref().map_or(window_s + LATE_S, |relief| relief.at);
    let Seen { mut guests, host } = looks.end(until, window);
    for (guest, why) in guests.iter_mut().zip(refused) {
        guest.refused = why;
    }
    Ok(Outcome {
        key,
        origin: origin.clone(),
        failed: None,
        took_s: 0.0,
        window_s,
        guests,
        host,
        host_kills: oom_kills()?.saturating_sub(kills),
        relief,
        controller_died: controller.check().err().map(|error| format!("{error:#}")),
        told: controller.told(wall).unwrap_or_default(),
        cost: controller.cost().unwrap_or_default(),
        libvirt_cpu_ms: since(&used.0, &cpu(&libvirt)),
        qemu_cpu_ms: since(&used.1, &cpu(pids)),
        ksmd_cpu_ms: cpu_ms(daemon()?)? - ksmd,
        pace,
    })
}

/// Leaves controller and guests alone, until the machine has to be relieved.
fn settle(squeeze: Option<&Squeeze>, lasts: Duration) {
    let began = Instant::now();
    while began.elapsed() < lasts && squeeze.and_then(Squeeze::opening).is_none() {
        thread::sleep(LOOK);
    }
}

/// Looks until the window ends, or the squeeze before it, which is what comes back.
fn watch(
    looks: &mut Looks<'_>,
    squeeze: Option<&Squeeze>,
    window: Duration,
    began: Instant,
) -> Result<Option<valve::Opening>> {
    loop {
        let opening = squeeze.and_then(Squeeze::opening);
        if opening.is_some() || began.elapsed() >= window {
            return Ok(opening);
        }
        looks.look(began)?;
    }
}

/// Orders something of all at once, for one that is wedged must not keep the others waiting, nor the machine from being looked at.
/// Returns why each could not be told, if it could not.
fn ordered<G: Sync, T>(
    guests: &[G],
    order: impl Fn(u64, &G) -> Result<()> + Sync,
    meanwhile: impl FnOnce() -> T,
) -> (Vec<Option<String>>, T) {
    thread::scope(|scope| {
        let order = &order;
        let told: Vec<_> =
            (0..).zip(guests).map(|(number, guest)| scope.spawn(move || order(number, guest))).collect();
        let result = meanwhile();
        let refused = told.into_iter().map(|told| match told.join() {
            Ok(told) => told.err().map(|error| format!("{error:#}")),
            Err(_) => Some("the order panicked".to_owned()),
        });
        (refused.collect(), result)
    })
}

/// What each has used so far; absent for those that are gone.
fn cpu(pids: &[u32]) -> Vec<Option<f64>> {
    pids.iter().map(|pid| cpu_ms(*pid).ok()).collect()
}

/// What those used that are still there.
fn since(before: &[Option<f64>], after: &[Option<f64>]) -> f64 {
    before.iter().zip(after).filter_map(|(before, after)| Some((*after)? - (*before)?)).sum()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn a_guest_that_answers_nothing_keeps_nobody_waiting_and_is_a_result() {
        let (go, wait) = channel();
        let wait = Mutex::new(wait);
        let order = |number: u64, dead: &bool| {
            ensure!(!dead, "guest {number} is gone");
            // Comes back only once somebody looks at the machine.
            wait.lock().unwrap().recv_timeout(Duration::from_secs(10)).context("nobody looks")
        };
        let (refused, looked) =
            ordered(&[false, true, false], order, || (go.send(()), go.send(())).1.is_ok());
        assert!(looked);
        assert_eq!(refused, [None, Some("guest 1 is gone".to_owned()), None]);
    }

    #[test]
    fn what_a_dead_emulator_used_is_not_taken_off_what_others_did() {
        let spent = since(&[Some(10.0), Some(500.0), None], &[Some(30.0), None, Some(5.0)]);
        assert!((spent - 20.0).abs() < 1e-9);
    }
}
