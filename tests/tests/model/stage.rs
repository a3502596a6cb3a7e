//! Real guests on a host that is short for them, an agent that records, and the same in the words of a scenario.
//!
//! Memory is made short by what the agent is shown as its host's, not by squeezing the machine.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use overcommit_core::units::Bytes;
use overcommit_record::Spool;
use overcommit_sim::{Orders, scenario, simulate_onto};
use overcommit_tests::agent::{Agent, HostMemory};
use overcommit_tests::course::{Course, Seen};
use overcommit_tests::guests::{Guest, GuestSpec, Hypervisor, Load};
use overcommit_tests::session::Session;
use overcommit_tests::wait;

/// Period of the guests' statistics while nothing was taken, in seconds: less than what passes between two of KubeVirt's (10 s),
/// so that chance moves no first command by more than that.
pub(crate) const PERIOD: u32 = 3;
/// Names a folder that keeps recordings.
const KEEP: &str = "OVERCOMMIT_KEEP_RECORDINGS";
/// A host on which everything fits.
const PLENTY: u64 = 16 * 1024;
/// What the policy keeps of it.
const KEPT: u64 = 1024;
/// The model's step, after which its first turn is: the agent's own poll.
pub(crate) const STEP: Duration = Duration::from_millis(200);
const BOOTED_BY: Duration = Duration::from_mins(3);
/// A take per statistics and at most 10 % each; on a busy machine a take is undone and tried again later.
const AT_REST_BY: Duration = Duration::from_mins(5);
/// What is at rest stays so for that long: several statistics of each guest.
const RESTS: Duration = Duration::from_secs(15);

/// All of it. Dropped in this order.
pub(crate) struct Stage {
    agent: Agent,
    guests: Vec<Guest>,
    policy: String,
    recording: PathBuf,
    _host: HostMemory,
    _hypervisor: Hypervisor,
}

impl Stage {
    /// Boots guests, and once they have settled starts an agent for which the host lacks `short_mib`.
    pub(crate) fn set(specs: &[GuestSpec], short_mib: u64, classes: &str) -> Result<Self> {
        let hypervisor = Hypervisor::start()?;
        let guests =
            specs.iter().map(|spec| hypervisor.define_and_start(spec)).collect::<Result<Vec<_>>>()?;
        guests.iter().try_for_each(Guest::wait_booted)?;
        let host = HostMemory::new(PLENTY)?;
        let promised = settled(&hypervisor, &guests, &host)?;
        host.set(promised + KEPT - short_mib)?;
        let dir = Session::shared()?.fresh_dir("state")?;
        let recording = dir.join("recording");
        let policy = Agent::policy_keeping(KEPT, "Enforce", classes);
        let record = format!("--record={}", recording.display());
        let agent = Agent::start_with(hypervisor.uri(), &policy, &dir, &host, &[&record])?;
        Ok(Self { agent, guests, policy, recording, _host: host, _hypervisor: hypervisor })
    }

    /// The wall clock, since 1970.
    #[allow(clippy::unused_self, reason = "the clock of its machine")]
    pub(crate) fn now(&self) -> Duration {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
    }

    /// Nothing is short, every balloon is where it should be, and so it stays for a while.
    pub(crate) fn wait_rest(&self) -> Result<()> {
        let mut since: Option<(Duration, Vec<Bytes>)> = None;
        wait::until(AT_REST_BY, "everything to be at rest", || {
            let told = self.agent.told()?;
            let short = told.ledger.context("no ledger")?.shortfall;
            let near = |g: &overcommit_core::view::GuestView| g.actual == g.target && g.underway.is_none();
            let targets: Vec<Bytes> = told.guests.iter().map(|g| g.target).collect();
            if !short.is_zero() || !told.guests.iter().all(near) {
                since = None;
            } else if since.as_ref().is_none_or(|(_, before)| *before != targets) {
                since = Some((self.now(), targets));
            }
            let rests = since.as_ref().map_or(Duration::ZERO, |(at, _)| self.now().saturating_sub(*at));
            ensure!(rests >= RESTS, "{rests:?}: {:?}", told.lines());
            Ok(())
        })
    }

    /// Waits for so much time.
    pub(crate) fn wait_passed(&self, time: Duration) -> Result<()> {
        let begun = self.now();
        wait::until(time * 2, format!("{time:?} to pass"), || self.now() >= begun + time)
    }

    pub(crate) fn begin(&self, name: &str, load: &Load) -> Result<()> {
        self.guests.iter().find(|guest| guest.name() == name).context("no such guest")?.begin(load)
    }

    /// Ends a guest.
    pub(crate) fn remove(&mut self, name: &str) -> Result<()> {
        let place = self.guests.iter().position(|guest| guest.name() == name).context("no such guest")?;
        self.guests.remove(place).destroy()
    }

    /// Ends all of it; what was recorded, and the policy. `make fixtures` keeps the recording, under this name.
    pub(crate) fn end(self, name: &str) -> Result<(Course, Orders)> {
        self.guests.iter().try_for_each(Guest::expect_unhurt)?;
        self.agent.terminate()?;
        if let Some(folder) = std::env::var_os(KEEP) {
            std::fs::copy(&self.recording, PathBuf::from(folder).join(name))?;
        }
        Ok((Course::read(&self.recording)?, Orders::read(self.policy.as_bytes())?))
    }
}

/// Waits until guests and what their emulators need have settled; what is promised then, in MiB.
fn settled(hypervisor: &Hypervisor, guests: &[Guest], host: &HostMemory) -> Result<u64> {
    let dir = Session::shared()?.fresh_dir("promised")?;
    let agent = Agent::start(hypervisor.uri(), &Agent::policy("Observe", ""), &dir, host)?;
    for guest in guests {
        agent.wait_guest(BOOTED_BY, guest.name(), "to have booted", |g| g.reason.contains("FullSize"))?;
    }
    let promised = agent.promised_mib(u64::try_from(guests.len())?)?;
    agent.terminate()?;
    Ok(promised)
}

/// The scenario that the model is to play: its guests as the agent saw them first, and of each what `of` says besides.
/// `NEED` in that is what the guest's programs hold, `NEED+n` that and n MiB, `HELD` what they would if they used all that
/// its process holds.
pub(crate) fn simulated(real: &Course, lasts: Duration, of: impl Fn(&str) -> String) -> Result<String> {
    let first = real.points().iter().find(|point| point.guests.values().all(Seen::is_known));
    let first = first.context("no turn at which all guests were known")?;
    let mut text = format!(
        "shows: The course of real guests.\nlasts: {}s\nstep: {}ms\n\
         host: {{memory: {}Ki, kernel: \"0\", eviction: \"0\"}}\nguests:\n",
        lasts.as_secs() + 1,
        STEP.as_millis(),
        first.total.to_kib_floor()
    );
    for (name, seen) in &first.guests {
        let (need, held, files) = used(seen)?;
        let mut fields = of(name).replace("HELD", &kib(held));
        while let Some((before, rest)) = fields.split_once("NEED+") {
            let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            let (more, behind) = rest.split_at(end);
            fields = format!("{before}{}{behind}", kib(need.plus(Bytes::from_mib(more.parse()?))));
        }
        let (fields, overhead) = (fields.replace("NEED", &kib(need)), seen.overhead.unwrap_or_default());
        let [size, overhead, files] = [seen.full, overhead, files].map(kib);
        writeln!(
            text,
            "  - {{name: {name}, labels: {{name: {name}}}, size: {size}, overhead: {overhead}, files: {files}, \
             statistics: {PERIOD}s, {fields}}}"
        )?;
    }
    Ok(text)
}

fn kib(bytes: Bytes) -> String {
    format!("{}Ki", bytes.to_kib_floor())
}

/// What its programs hold, what they would if they used all that its process holds, and what its files fill: by its own words
/// and the kernel's formula for them, as the model has it (`plant/memory.rs`).
fn used(seen: &Seen) -> Result<(Bytes, Bytes, Bytes)> {
    let words = seen.words.context("it has not spoken")?;
    let watermark = Bytes::from_kib(seen.full.to_kib_floor().saturating_mul(16).isqrt());
    let (high, low) = (watermark.scaled(3, 2), watermark.scaled(5, 4));
    let reclaimable = words.usable.plus(high).minus(words.free);
    let files = if reclaimable <= low { reclaimable.scaled(2, 1) } else { reclaimable.plus(low) };
    let kernel = seen.full.minus(words.total);
    let held = seen.resident.minus(seen.overhead.unwrap_or_default()).minus(kernel).minus(files);
    Ok((words.total.minus(words.free).minus(files), held, files))
}

/// Runs a scenario as `simulate --record` does.
pub(crate) fn run(text: &str, orders: &Orders) -> Result<Course> {
    eprintln!("{text}");
    let path = Session::shared()?.fresh_dir("simulated")?.join("recording");
    let spool = Spool::new(&path);
    let scenario = scenario::read(text.as_bytes())?;
    simulate_onto(Some(Box::new(spool.clone())), "model", &scenario, orders);
    spool.close()?;
    Course::read(&path)
}
