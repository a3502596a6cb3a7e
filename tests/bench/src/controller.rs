//! Who decides about memory during a window: nobody, somebody once and for all, this project's agent, MOM, ksmtuned, or nobody and no
//! squeeze either.

use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum;
use jiff::Timestamp;
use overcommit_tests::agent::Agent;
use overcommit_tests::cost::{cpu_ms, released, whole};
use overcommit_tests::guests::{Guest, Hypervisor};
use overcommit_tests::kernel_counts::QemuMemory;
use overcommit_tests::machine::{self, MIB};
use overcommit_tests::parts::{ksmtuned_program, mom_modules, mom_program, mom_rules, say};
use overcommit_tests::process::{Launch, Process};
use overcommit_tests::session::Session;
use serde::{Deserialize, Serialize};

use crate::commands::{self, Told};
use crate::scenario::Scenario;

/// Debian's, whatever else `PATH` has.
const PYTHON: &str = "/usr/bin/python3";
/// From its start to MOM's first look at the guests.
const MOM_BEGINS: Duration = Duration::from_mins(2);
/// From its start to ksmtuned's loop, which decides a minute later for the first time.
const KSMTUNED_BEGINS: Duration = Duration::from_secs(30);
/// From SIGTERM to the end of MOM or ksmtuned.
const ENDS: Duration = Duration::from_mins(1);
/// What the agent keeps for the node, of what is left of it. A policy's default is 5 % of the whole node, of which the squeeze has
/// taken most away; what the tools and the emulators need beside the guests has not become less by that: with 5 % of what is
/// left the machine stood still after 26 s (scenario f).
const KEPT_PERCENT: u64 = 12;
/// The same where the host swaps, which is slow and no standstill: the policy's default.
const KEPT_PERCENT_WITH_SWAP: u64 = 5;

/// A controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Controller {
    /// Nobody decides, and nothing is squeezed: what the guests could do.
    Ceiling,
    /// Nobody decides.
    None,
    /// Each guest has the same part of what the agent would divide, from the beginning to the end.
    Split,
    /// The agent, with the defaults of a policy that enforces; where guests have equal pages it merges them.
    Ours,
    /// The agent, which only observes: what that costs.
    Observe,
    /// MOM with its stock balloon and KSM rules.
    Mom,
    /// The same, with thresholds that are parts of what the squeeze leaves.
    MomScaled,
    /// ksmtuned, which merges equal pages and leaves balloons alone.
    Ksmtuned,
}

impl fmt::Display for Controller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.to_possible_value().as_ref().map_or("", |value| value.get_name()))
    }
}

impl Controller {
    /// What it needs is there.
    pub(crate) fn prepare(self) -> Result<()> {
        match self {
            Self::Ceiling | Self::None | Self::Split => Ok(()),
            Self::Ours | Self::Observe => released("overcommit-agent").map(drop),
            Self::Mom | Self::MomScaled => mom_modules().map(drop),
            Self::Ksmtuned => ksmtuned_program().map(drop),
        }
    }

    /// Starts it on a machine of which `room_mib` are left for these idle guests.
    pub(crate) fn start(
        self,
        scenario: Scenario,
        hypervisor: &Hypervisor,
        guests: &[Guest],
        room_mib: u64,
    ) -> Result<Running> {
        let kept_mib = kept_mib(scenario, room_mib);
        let agent = |mode| agent(mode, scenario.has_equal_pages(), hypervisor, kept_mib);
        match self {
            Self::Ceiling | Self::None => Ok(Running::Nobody),
            Self::Split => split(guests, room_mib, kept_mib),
            Self::Ours => agent("Enforce"),
            Self::Observe => agent("Observe"),
            Self::Mom => mom(&stock()?, hypervisor),
            Self::MomScaled => {
                let total_mib = machine::meminfo("MemTotal")? / MIB;
                mom(&scaled(&stock()?, room_mib, total_mib)?, hypervisor)
            }
            Self::Ksmtuned => ksmtuned(),
        }
    }
}

/// A controller at work. Dropping it ends it.
#[derive(Debug)]
pub(crate) enum Running {
    Nobody,
    Agent(Agent),
    Mom(Process),
    Ksmtuned(Process),
}

/// What a controller used.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Cost {
    /// CPU time, in ms.
    pub(crate) cpu_ms: f64,
    /// Resident memory, in MiB.
    pub(crate) resident_mib: f64,
}

impl Running {
    /// What it has used since it was started; absent where nobody decides.
    pub(crate) fn cost(&self) -> Result<Option<Cost>> {
        let pids = match self {
            Self::Nobody => return Ok(None),
            Self::Agent(agent) => agent.pids(),
            Self::Mom(process) | Self::Ksmtuned(process) => process.members(),
        };
        // What a dead one used is gone with it.
        if pids.is_empty() {
            return Ok(None);
        }
        let memory = whole(&pids)?;
        let cpu_ms = pids.into_iter().map(cpu_ms).sum::<Result<f64>>()?;
        Ok(Some(Cost { cpu_ms, resident_mib: memory.anonymous + memory.file }))
    }

    /// What it told the guests' balloons, from its start on.
    pub(crate) fn told(&self, began: Timestamp) -> Result<Vec<Told>> {
        match self {
            Self::Nobody | Self::Ksmtuned(_) => Ok(Vec::new()),
            Self::Agent(agent) => commands::of_agent(agent, began),
            Self::Mom(process) => Ok(commands::of_mom(&process.output(), began)),
        }
    }

    /// Fails when it died: that is its result, and no fault of the bench.
    pub(crate) fn check(&self) -> Result<()> {
        let process = match self {
            Self::Nobody => return Ok(()),
            Self::Agent(agent) => agent.process(),
            Self::Mom(process) | Self::Ksmtuned(process) => process,
        };
        match process.ended()? {
            Some(status) => anyhow::bail!("ended with {status}; {}", process.log_tail()),
            None => Ok(()),
        }
    }

    /// Ends it as its users would, without what was taken being given back: the guests go too. Whatever does not end so, or has
    /// ended by itself, ends now: how a controller ends is no reason to lose what its window came to.
    pub(crate) fn stop(self) {
        if self.check().is_err() {
            return;
        }
        let asked = match &self {
            Self::Nobody => Ok(()),
            Self::Agent(agent) => agent.kill(),
            Self::Mom(process) | Self::Ksmtuned(process) => process.terminate(ENDS).map(drop),
        };
        if let Err(error) = asked {
            say(&format!("bench: a controller did not end as told: {error:#}"));
        }
    }
}

/// What the agent keeps for the node.
fn kept_mib(scenario: Scenario, room_mib: u64) -> u64 {
    let swaps = scenario.host_swap_mib().is_some();
    room_mib * if swaps { KEPT_PERCENT_WITH_SWAP } else { KEPT_PERCENT } / 100
}

/// The same for all, of what is left of the machine without what the agent keeps for the node and what the emulators need.
fn split(guests: &[Guest], room_mib: u64, kept_mib: u64) -> Result<Running> {
    let beside = guests.iter().map(beside_mib).sum::<Result<u64>>()?;
    let share = share_mib(room_mib - kept_mib, beside, guests.len() as u64);
    let share = share.with_context(|| format!("emulators need {beside} MiB, of {room_mib}"))?;
    for guest in guests {
        let had = guest.memory_stats()?.actual_kib / 1024;
        guest.set_balloon_mib(share.min(had))?;
    }
    Ok(Running::Nobody)
}

/// What each of so many guests may hold of what is divided; absent where nothing is left for them.
fn share_mib(divided_mib: u64, beside_mib: u64, guests: u64) -> Option<u64> {
    divided_mib.checked_sub(beside_mib)?.checked_div(guests).filter(|share| *share > 0)
}

/// What its emulator holds beside the guest's memory, of which it may fill all that its share is.
fn beside_mib(guest: &Guest) -> Result<u64> {
    let full = guest.memory_stats()?.actual_kib << 10;
    Ok(QemuMemory::read(guest.qemu_pid()?, full)?.beside.div_ceil(MIB))
}

fn agent(mode: &str, merges: bool, hypervisor: &Hypervisor, kept_mib: u64) -> Result<Running> {
    let ksm = if merges { "Auto" } else { "\"Off\"" };
    let policy = format!(
        "apiVersion: overcommit.dev/v1alpha1\nkind: OvercommitPolicy\nmetadata: {{name: bench}}\nspec:\n  mode: {mode}\n  \
         reserve: {{minimum: {kept_mib}Mi}}\n  ksm: {{mode: {ksm}}}\n"
    );
    let state = Session::shared()?.fresh_dir("state")?;
    let program = released("overcommit-agent")?;
    Ok(Running::Agent(Agent::start_program_on_this_machine(&program, hypervisor.uri(), &policy, &state)?))
}

/// MOM's own rules for balloons and for merging.
fn stock() -> Result<String> {
    Ok(format!("{}\n{}", mom_rules("balloon.rules")?, mom_rules("ksm.rules")?))
}

fn mom(rules: &str, hypervisor: &Hypervisor) -> Result<Running> {
    let session = Session::shared()?;
    let dir = session.fresh_dir("mom")?;
    let write = |name: &str, text: &str| -> Result<PathBuf> {
        let path = dir.join(name);
        fs::write(&path, text).with_context(|| path.display().to_string())?;
        Ok(path)
    };
    let rules = write("rules", rules)?;
    let configuration = write("mom.conf", &configuration(hypervisor.uri(), &rules.display().to_string()))?;
    let launch = Launch::new("momd", PYTHON)
        .arg("-B")
        .arg(mom_program()?)
        .arg("-c")
        .arg(configuration)
        .env("PYTHONPATH", mom_modules()?);
    let process = session.spawn(launch)?;
    let looks = || process.output().contains("Policy Engine starting");
    process.ready(MOM_BEGINS, "MOM's policy engine", looks)?;
    Ok(Running::Mom(process))
}

/// The script puts its loop behind itself and ends; who runs it so waits for the loop.
fn ksmtuned() -> Result<Running> {
    let session = Session::shared()?;
    let pid = session.fresh_dir("ksmtuned")?.join("pid");
    let launch = Launch::new("ksmtuned", "bash")
        .args(["-c", "source \"$0\"; wait"])
        .arg(ksmtuned_program()?)
        .env("PIDFILE", &pid)
        .env("DEBUG", "1");
    let process = session.spawn(launch)?;
    process.ready(KSMTUNED_BEGINS, "ksmtuned's loop", || pid.is_file())?;
    Ok(Running::Ksmtuned(process))
}

/// As MOM's example for balloon and KSM, with what that leaves open.
fn configuration(uri: &str, rules: &str) -> String {
    format!(
        "[main]\nmain-loop-interval: 5\nhost-monitor-interval: 5\nguest-monitor-interval: 5\nguest-manager-interval: 5\n\
         hypervisor-interface: libvirt\npolicy-engine-interval: 10\ncontrollers: Balloon, KSM\nsample-history-length: 10\n\
         libvirt-hypervisor-uri: {uri}\nplot-dir:\nrpc-port: -1\npolicy: {rules}\npolicy-dir:\n\
         guest-manager-multi-thread: true\n[logging]\nlog: stdio\nverbosity: info\n[host]\ncollectors: HostMemory, HostKSM\n\
         [guest]\ncollectors: GuestQemuProc, GuestMemory, GuestBalloon\n"
    )
}

/// MOM's thresholds are parts of all memory, of which the squeeze has taken most: the same parts of what is left. What guests could
/// have merged is compared with what is left too, or a lower threshold would begin to merge later than the stock rules do; how long
/// ksmd sleeps stays that of the whole machine, for it is as fast as before.
fn scaled(rules: &str, room_mib: u64, total_mib: u64) -> Result<String> {
    let part = |(name, percent): (&str, u64)| {
        let millionths = percent * 10_000 * room_mib / total_mib.max(1);
        (format!("(defvar {name} 0.{percent:02})"), format!("(defvar {name} 0.{millionths:06})"))
    };
    let thresholds =
        [("pressure_threshold", 20), ("pressure_critical", 5), ("ksm_free_percent", 20)].map(part);
    let committed = "(< (+ ksm_pressure_threshold ksm_committed) ";
    // In KiB, as MOM counts.
    let all = (format!("{committed}Host.mem_available)"), format!("{committed}{})", room_mib * 1024));
    let mut text = rules.to_owned();
    for (stock, scaled) in thresholds.into_iter().chain([all]) {
        ensure!(text.contains(&stock), "MOM's rules have no {stock}");
        text = text.replace(&stock, &scaled);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_become_parts_of_what_is_left() {
        let rules = "(defvar pressure_threshold 0.20)\n(defvar pressure_critical 0.05)\n(defvar ksm_free_percent 0.20)\n\
                     (if (and (< (+ ksm_pressure_threshold ksm_committed) Host.mem_available)";
        assert_eq!(
            scaled(rules, 3072, 24576).unwrap(),
            "(defvar pressure_threshold 0.025000)\n(defvar pressure_critical 0.006250)\n(defvar ksm_free_percent 0.025000)\n\
             (if (and (< (+ ksm_pressure_threshold ksm_committed) 3145728)"
        );
    }

    #[test]
    fn what_is_divided_is_what_neither_the_node_nor_an_emulator_needs() {
        assert_eq!([Scenario::F, Scenario::A].map(|scenario| kept_mib(scenario, 3000)), [360, 150]);
        assert_eq!(share_mib(2640, 480, 8), Some((2640 - 480) / 8));
        assert_eq!(share_mib(2640, 2700, 8), None);
        assert_eq!(share_mib(2640, 2639, 8), None, "less than a MiB each");
    }

    #[test]
    fn rules_of_another_mom_are_refused_rather_than_run_unscaled() {
        assert!(scaled("(defvar pressure_threshold 0.30)", 3072, 24576).is_err());
        let without_ksm = "(defvar pressure_threshold 0.20)(defvar pressure_critical 0.05)";
        assert!(scaled(without_ksm, 3072, 24576).is_err());
    }

    #[test]
    fn one_that_died_is_told_of_and_ends_without_a_fault() {
        let process = Session::shared().unwrap().spawn(Launch::new("momd", "false")).unwrap();
        process.wait(ENDS).unwrap();
        let died = Running::Mom(process);
        assert!(died.check().unwrap_err().to_string().contains("ended with"));
        assert_eq!(died.cost().unwrap(), None);
        died.stop();
    }
}
