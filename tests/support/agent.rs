//! The agent as a process of its own on a host without Kubernetes, as its users run it.

mod bench;
mod cluster;
mod failures;
mod files;
mod knobs;
mod ordered;
mod replayed;
mod turns;

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use overcommit_core::view::GuestView;
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::machine;
use crate::process::{Launch, Process};
use crate::session::Session;
use crate::table;
use crate::wait;

pub use bench::{Bench, SOON};
pub use cluster::{NODE, nobodys_kubeconfig, seal};
pub use files::OpenFiles;
pub use ordered::{OrderedNode, SYSTEM, enforcing, entry};
pub use replayed::{expect_replayed, statistics_between};
pub use turns::{Account, Action, Turn, Turns};

/// From start to the first report: connecting and one turn.
const FIRST_REPORT: Duration = Duration::from_mins(2);
/// From SIGKILL to its end.
const ENDED_BY: Duration = Duration::from_mins(1);
/// From a signal that asks it to end to its end: a release has a minute, and its keeper some patience beyond that.
const LEFT_BY: Duration = Duration::from_secs(150);
/// Binds `$0` over what tells of the host's memory, and knobs beside it, where there are any, over the kernel's for merging;
/// becomes the rest of the arguments.
const WITH_HOST: &str = "knobs=${0%/*}/ksm; { [ ! -d \"$knobs\" ] || mount --bind \"$knobs\" /sys/kernel/mm/ksm; } && \
                         mount --bind \"$0\" /proc/meminfo && exec \"$@\"";
/// A balloon that is so near to its target is there.
const FOLLOWED: u64 = 4 * machine::MIB;

/// A running agent.
#[derive(Debug)]
pub struct Agent {
    process: Process,
    state_dir: PathBuf,
}

/// What the agent sees as `/proc/meminfo`, bound over the real one in its own mount namespace: memory can be made
/// short for the agent without squeezing the machine, whatever else runs on it.
#[derive(Debug)]
pub struct HostMemory {
    file: PathBuf,
}

impl HostMemory {
    /// A host with this much memory, none of it used by anything but guests.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn new(total_mib: u64) -> Result<Self> {
        let host = Self { file: Session::shared()?.fresh_dir("host")?.join("meminfo") };
        host.set(total_mib)?;
        Ok(host)
    }

    /// The size now, in MiB.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn get(&self) -> Result<u64> {
        let text = std::fs::read_to_string(&self.file)?;
        let kib = text.split_whitespace().nth(1).and_then(|word| word.parse::<u64>().ok());
        Ok(kib.context("no MemTotal")? / 1024)
    }

    /// So many MiB are gone.
    ///
    /// # Errors
    /// As [`HostMemory::set`].
    pub fn lose(&self, mib: u64) -> Result<()> {
        self.set(self.get()?.saturating_sub(mib))
    }

    /// Changes the size while agents run: the file is written in place, for they hold it open.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn set(&self, total_mib: u64) -> Result<()> {
        self.set_holding(total_mib, 0)
    }

    /// The same, and so many bytes there are anonymous memory (`AnonPages`): without guests' none is by default.
    ///
    /// # Errors
    /// As [`HostMemory::set`].
    pub fn set_holding(&self, total_mib: u64, anon: u64) -> Result<()> {
        let (kib, anon) = (total_mib * 1024, anon / 1024);
        // Padded to one length and never truncated: a reader sees the old or the new size, not half a file.
        let text = format!(
            "MemTotal: {kib:>12} kB\nMemFree: {kib:>12} kB\nMemAvailable: {kib:>12} kB\nAnonPages: {:>12} kB\n\
             Shmem: {:>12} kB\nHugetlb: {:>12} kB\nSwapTotal: {:>12} kB\nSwapFree: {:>12} kB\n",
            anon, 0, 0, 0, 0
        );
        let open = File::options().create(true).truncate(false).write(true).open(&self.file);
        open.and_then(|mut file| file.write_all(text.as_bytes()))
            .with_context(|| format!("writing {}", self.file.display()))
    }
}

/// One guest as the agent's report shows it; sizes in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestReport {
    /// Full size.
    pub full: u64,
    /// Balloon target.
    pub target: u64,
    /// What it holds.
    pub actual: u64,
    /// Below this nothing is taken.
    pub floor: u64,
    /// The reason, as the report writes it.
    pub reason: String,
}

impl GuestReport {
    fn of(report: &Value, name: &str) -> Result<Self> {
        let guests = report.get("guests").and_then(Value::as_array).context("no guests in the report")?;
        let named = |g: &&Value| g.pointer("/name/name").and_then(Value::as_str) == Some(name);
        let guest = guests.iter().find(named).with_context(|| format!("no guest {name} in {report}"))?;
        let bytes = |key: &str| guest.get(key).and_then(Value::as_u64).with_context(|| format!("no {key}"));
        Ok(Self {
            full: bytes("full")?,
            target: bytes("target")?,
            actual: bytes("actual")?,
            floor: bytes("floor")?,
            reason: guest.get("reason").map(ToString::to_string).unwrap_or_default(),
        })
    }
}

/// What a policy's program saw in its last cycle.
#[derive(Clone, Debug, Deserialize)]
pub struct ProgramSaw {
    /// As `overcommit-agent policy eval --input` takes it.
    pub input: Box<RawValue>,
    /// As that prints it: controls.
    pub said: Box<RawValue>,
}

impl Agent {
    /// The agent's program, built by `make`.
    ///
    /// # Errors
    /// When it was not built.
    pub fn program() -> Result<PathBuf> {
        machine::sibling("overcommit-agent")
    }

    /// Starts an agent with a policy, its originals and lock in `state_dir`, on a host that has as much memory as
    /// `host` says, and waits for its first report.
    ///
    /// # Errors
    /// When it ends or does not report; with the last lines of its log.
    pub fn start(uri: &str, policy: &str, state_dir: &Path, host: &HostMemory) -> Result<Self> {
        Self::start_program(&Self::program()?, uri, policy, state_dir, host)
    }

    /// As [`Agent::start`], of another build.
    ///
    /// # Errors
    /// As [`Agent::start`].
    pub fn start_program(
        program: &Path,
        uri: &str,
        policy: &str,
        state_dir: &Path,
        host: &HostMemory,
    ) -> Result<Self> {
        Self::launch(program, (uri, policy), state_dir, Some(host), &[])
    }

    /// As [`Agent::start`], with further arguments of `run`.
    ///
    /// # Errors
    /// As [`Agent::start`].
    pub fn start_with(
        uri: &str,
        policy: &str,
        state_dir: &Path,
        host: &HostMemory,
        further: &[&str],
    ) -> Result<Self> {
        Self::launch(&Self::program()?, (uri, policy), state_dir, Some(host), further)
    }

    /// As [`Agent::start`], on the machine as it is.
    ///
    /// # Errors
    /// As [`Agent::start`].
    pub fn start_on_this_machine(
        uri: &str,
        policy: &str,
        state_dir: &Path,
        further: &[&str],
    ) -> Result<Self> {
        Self::launch(&Self::program()?, (uri, policy), state_dir, None, further)
    }

    /// As [`Agent::start_on_this_machine`], of another build.
    ///
    /// # Errors
    /// As [`Agent::start`].
    pub fn start_program_on_this_machine(
        program: &Path,
        uri: &str,
        policy: &str,
        state_dir: &Path,
    ) -> Result<Self> {
        Self::launch(program, (uri, policy), state_dir, None, &[])
    }

    fn launch(
        program: &Path,
        standalone: (&str, &str),
        state_dir: &Path,
        host: Option<&HostMemory>,
        further: &[&str],
    ) -> Result<Self> {
        let agent = Self::spawn(program, standalone, state_dir, host, further)?;
        agent.process.ready(FIRST_REPORT, "its first report", || agent.report().map(|_| ()))?;
        Ok(agent)
    }

    fn spawn(
        program: &Path,
        (uri, policy): (&str, &str),
        state_dir: &Path,
        host: Option<&HostMemory>,
        further: &[&str],
    ) -> Result<Self> {
        let session = Session::shared()?;
        let file = session.fresh_dir("policy")?.join("policy.yaml");
        std::fs::write(&file, policy).with_context(|| format!("writing {}", file.display()))?;
        let launch = Launch::new("agent", "sh")
            .args(["-c", WITH_HOST])
            .arg(host.map_or(Path::new("/proc/meminfo"), |host| &host.file))
            .arg(program)
            .args(["run", "--connect", uri, "--output", "json", "--policy"])
            .arg(&file)
            .arg("--state-dir")
            .arg(state_dir)
            .args(further)
            .own_mounts();
        Ok(Self { process: session.spawn(launch)?, state_dir: state_dir.to_owned() })
    }

    /// A policy that reserves nothing and decides every 2 s, with further lines of the spec (indented by two).
    pub fn policy(mode: &str, further: &str) -> String {
        Self::policy_keeping(0, mode, further)
    }

    /// The same that keeps so many MiB for the node.
    pub fn policy_keeping(mib: u64, mode: &str, further: &str) -> String {
        Self::policy_reserving(&format!("{{minimum: {mib}Mi, growthPercentile: 50}}"), mode, further)
    }

    /// The same with this reserve.
    pub fn policy_reserving(reserve: &str, mode: &str, further: &str) -> String {
        format!(
            "apiVersion: overcommit.dev/v1alpha1\nkind: OvercommitPolicy\nmetadata: {{name: trial}}\nspec:\n  \
             mode: {mode}\n  interval: 2s\n  reserve: {reserve}\n{further}"
        )
    }

    /// Its turns from the first on, as it prints them.
    pub fn turns(&self) -> Turns {
        Turns::of(self.process.log())
    }

    /// What the agent answers to `status`.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn report(&self) -> Result<Value> {
        Ok(serde_json::from_slice(&self.ask(&["status", "--output", "json"])?.stdout)?)
    }

    /// What it says does not work, as it is written in its report: `[]` if all works.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn troubles(&self) -> Result<String> {
        Ok(self.report()?.get("troubles").map(ToString::to_string).unwrap_or_default())
    }

    /// The report with its types.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn told(&self) -> Result<table::Report> {
        table::Report::read(&String::from_utf8_lossy(&self.ask(&["status", "--output", "json"])?.stdout))
    }

    /// What its policy's program saw in its last cycle, and what it said.
    ///
    /// # Errors
    /// When it does not answer, or no program was evaluated yet.
    pub fn program_saw(&self) -> Result<ProgramSaw> {
        let answer = self.ask(&["policy", "input", "--output", "json"])?.stdout;
        serde_json::from_slice(&answer).with_context(|| String::from_utf8_lossy(&answer).into_owned())
    }

    /// All that it tells of one guest.
    ///
    /// # Errors
    /// When it does not answer or does not know the guest.
    pub fn view(&self, name: &str) -> Result<GuestView> {
        self.told()?.guest(name).cloned().with_context(|| format!("no guest {name}"))
    }

    /// One entry of its account, in bytes.
    ///
    /// # Errors
    /// When it does not answer or has no such entry.
    pub fn ledger(&self, entry: &str) -> Result<u64> {
        let report = self.report()?;
        let value = report.get("ledger").and_then(|l| l.get(entry)).and_then(Value::as_u64);
        value.with_context(|| format!("no {entry} in the report {report}"))
    }

    /// What its guests are promised at full size, in MiB, once their overheads are measured rather than assumed. Emulators
    /// differ in what they need, and need more as they run: it is this moment's sum. Until libvirt has answered, the guests of
    /// tests that run beside count too.
    ///
    /// # Errors
    /// When they are not measured in time.
    pub fn promised_mib(&self, guests: u64) -> Result<u64> {
        wait::until(Duration::from_mins(3), "measured overheads", || {
            let told = self.told()?;
            let measured = told.guests.iter().filter(|guest| guest.facts.overhead.is_some()).count();
            let all =
                [measured, told.guests.len()].into_iter().all(|count| u64::try_from(count) == Ok(guests));
            ensure!(all, "{measured} of {guests} are measured: {:?}", told.lines());
            Ok::<_, anyhow::Error>(told.ledger.context("no ledger")?.promised.get() >> 20)
        })
    }

    /// Waits until promises are within the budget and this guest's balloon is where it should be, by one report of the host
    /// as it is now; returns the guest of that report. Before, what it holds is a moment of a movement, and nothing can be said
    /// of what follows.
    ///
    /// # Errors
    /// When it does not come to that in time; with what was seen last and the agent's log.
    pub fn wait_settled(&self, limit: Duration, host: &HostMemory, name: &str) -> Result<GuestReport> {
        wait::until(limit, format!("{name} to hold its target, and no shortfall"), || {
            let report = self.report()?;
            let guest = GuestReport::of(&report, name)?;
            let of = |field: &str| {
                let value = report.pointer("/ledger").and_then(|ledger| ledger.get(field)?.as_u64());
                value.with_context(|| format!("no {field}"))
            };
            let (total, short) = (of("total")?, of("shortfall")?);
            ensure!(total == host.get()? * machine::MIB, "of another host: {total}");
            ensure!(
                short == 0 && guest.actual.abs_diff(guest.target) <= FOLLOWED,
                "{short} short, {guest:?}"
            );
            Ok::<_, anyhow::Error>(guest)
        })
        .with_context(|| format!("the agent's last words:\n{}", self.process.log_tail()))
    }

    /// One guest.
    ///
    /// # Errors
    /// When the agent does not know it.
    pub fn guest(&self, name: &str) -> Result<GuestReport> {
        GuestReport::of(&self.report()?, name)
    }

    /// How many guests it knows.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn guests(&self) -> Result<u64> {
        let report = self.report()?;
        Ok(report.get("guests").and_then(Value::as_array).map_or(0, Vec::len) as u64)
    }

    /// Waits until a guest's report satisfies `so`.
    ///
    /// # Errors
    /// When it does not in time; with what was seen last and the agent's log.
    pub fn wait_guest(
        &self,
        limit: Duration,
        name: &str,
        what: &str,
        so: impl Fn(&GuestReport) -> bool,
    ) -> Result<GuestReport> {
        wait::until(limit, format!("{name} {what}"), || {
            let guest = self.guest(name)?;
            if so(&guest) { Ok(guest) } else { bail!("{guest:?}") }
        })
        .with_context(|| format!("the agent's last words:\n{}", self.process.log_tail()))
    }

    /// Runs the agent's program as a client of this one.
    ///
    /// # Errors
    /// When it fails; with what it printed.
    pub fn ask(&self, words: &[&str]) -> Result<Output> {
        let output =
            Command::new(Self::program()?).args(words).arg("--state-dir").arg(&self.state_dir).output()?;
        if !output.status.success() {
            bail!("{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(output)
    }

    /// SIGTERM: it hands over.
    ///
    /// # Errors
    /// When it does not end.
    pub fn terminate(&self) -> Result<()> {
        self.end(Signal::TERM)
    }

    /// SIGINT: it releases.
    ///
    /// # Errors
    /// When it does not end.
    pub fn interrupt(&self) -> Result<()> {
        self.end(Signal::INT)
    }

    /// SIGKILL to all of it: it dies where it stands.
    ///
    /// # Errors
    /// When it does not end.
    pub fn kill(&self) -> Result<()> {
        // The loop would do something about the end of its keeper, and the keeper about that of its loop.
        self.signal_loop(Signal::STOP)?;
        let members = self.process.members();
        self.process.signal(Signal::KILL)?;
        for pid in members.into_iter().filter(|pid| *pid != self.process.pid()) {
            signal(pid, Signal::KILL)?;
        }
        self.process.wait(ENDED_BY)?;
        wait::until(ENDED_BY, "the end of all of the agent", || self.process.members().is_empty())
    }

    /// Sends a signal to the loop, not to the process that looks after it.
    ///
    /// # Errors
    /// When there is no loop.
    pub fn signal_loop(&self, what: Signal) -> Result<()> {
        signal(self.loop_pid()?, what)
    }

    /// The process that runs the loop.
    ///
    /// # Errors
    /// When there is none.
    pub fn loop_pid(&self) -> Result<u32> {
        let is_kept = |pid: &u32| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.split(|byte| *byte == 0).any(|word| word == b"--kept" || word == b"--unattended")
        };
        self.process.members().into_iter().find(is_kept).context("the agent runs no loop")
    }

    /// The process that was started: it looks after the loop.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// All its processes.
    pub fn pids(&self) -> Vec<u32> {
        self.process.members()
    }

    fn end(&self, signal: Signal) -> Result<()> {
        self.process.signal(signal)?;
        let status = self.process.wait(LEFT_BY)?;
        if status.success() {
            Ok(())
        } else {
            bail!("the agent ended with {status}:\n{}", self.process.log_tail())
        }
    }
}

fn signal(pid: u32, what: Signal) -> Result<()> {
    let raw = i32::try_from(pid).ok().and_then(Pid::from_raw).context("no process id")?;
    kill_process(raw, what).with_context(|| format!("signalling process {pid}"))
}
