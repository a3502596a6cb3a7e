//! Guests that do not do what a take expects of them, on real ones: whose driver goes, whose balloon deflates by itself,
//! who freeze, and, the opposite, who are suspended.
//!
//! Memory is made short by what the agents are shown as their host's, not by squeezing the machine.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use overcommit_core::conduct::Trust;
use overcommit_core::reason::{Failure, Hold, Reason};
use overcommit_core::units::Bytes;
use overcommit_core::view::GuestView;
use overcommit_tests::agent::{Action, Agent, HostMemory};
use overcommit_tests::api::free_port;
use overcommit_tests::guests::{Guest, GuestSpec, Hypervisor, Load};
use overcommit_tests::http;
use overcommit_tests::session::Session;
use overcommit_tests::wait;

const SIZE: u64 = 384;
/// A host on which everything fits.
const PLENTY: u64 = 16 * 1024;
/// What the host lacks for its guest.
const SHORT: u64 = 100;
/// What the policy keeps of it, so that the host is larger than its guest.
const KEPT: u64 = 1024;
const SLACK: u64 = 8;
const MIB: u64 = 1 << 20;
/// Boot grace, then a take per statistics and at most 10 % each.
const SQUEEZED_BY: Duration = Duration::from_secs(150);
/// Ten seconds of patience, and some for a busy machine.
const SOON: Duration = Duration::from_mins(1);

/// One guest on a host that is too small for it, and an agent that enforces. Dropped in this order.
struct Bench {
    agent: Agent,
    port: u16,
    host: HostMemory,
    guest: Guest,
    _hypervisor: Hypervisor,
}

impl Bench {
    fn start(spec: &GuestSpec) -> Result<Self> {
        let hypervisor = Hypervisor::start()?;
        let guest = hypervisor.define_and_start(spec)?;
        guest.wait_booted()?;
        let host = HostMemory::new(PLENTY)?;
        let dir = Session::shared()?.fresh_dir("state")?;
        let policy = Agent::policy_keeping(KEPT, "Enforce", "");
        let port = free_port()?;
        let serving = format!("--http=127.0.0.1:{port}");
        let agent = Agent::start_with(hypervisor.uri(), &policy, &dir, &host, &[&serving])?;
        let bench = Self { agent, port, host, guest, _hypervisor: hypervisor };
        // What QEMU needs while its guest boots says nothing of later.
        bench.wait(SOON, "to have booted in the agent's eyes", |g| g.reason == Reason::FullSize)?;
        bench.host.set(bench.agent.promised_mib(1)? + KEPT - SHORT)?;
        Ok(bench)
    }

    fn view(&self) -> Result<GuestView> {
        self.agent.view(self.guest.name())
    }

    fn wait(&self, limit: Duration, what: &str, so: impl Fn(&GuestView) -> bool) -> Result<GuestView> {
        let seen = wait::until(limit, format!("{} {what}", self.guest.name()), || {
            let guest = self.view()?;
            ensure!(so(&guest), "{guest:?}");
            Ok(guest)
        });
        seen.with_context(|| {
            let done: String = self.actions().into_iter().flatten().map(|a| format!("{a:?}\n")).collect();
            format!("its console ends with:\n{}\nthe agent did:\n{done}", tail(&self.guest.console()))
        })
    }

    /// A take is under way.
    fn wait_take(&self) -> Result<GuestView> {
        self.wait(SQUEEZED_BY, "to be taken from", |g| g.target < g.full && g.underway.is_some())
    }

    /// All that is short was taken, the guest has done what was expected of it, and nothing more will be taken: overheads
    /// are measured again and wander a little, so the host is made a little larger, by less than is worth giving.
    fn wait_at_peace(&self) -> Result<GuestView> {
        self.wait_settled()?;
        let ledger = self.agent.told()?.ledger.context("no ledger")?;
        self.host.set(ledger.total.get() / MIB + SLACK)?;
        self.wait_settled()
    }

    /// All that is short was taken, and the guest has done what was expected of it.
    fn wait_settled(&self) -> Result<GuestView> {
        let settled = |g: &GuestView| {
            g.target < g.full && g.underway.is_none() && g.failure.is_none() && g.trust == Trust::Trusted
        };
        self.wait(SQUEEZED_BY, "to be squeezed and at peace", |g| {
            settled(g) && self.agent.ledger("shortfall").is_ok_and(|short| short == 0)
        })
    }

    /// What was taken from it counts for nothing.
    fn expect_charged_in_full(&self) -> Result<()> {
        let told = self.agent.told()?;
        let (guest, ledger) = (self.view()?, told.ledger.context("no ledger")?);
        let overhead = guest.facts.overhead.context("no overhead")?;
        ensure!(guest.charge >= guest.full.plus(overhead), "{guest:?}");
        // Overheads are measured again and wander a little.
        ensure!(ledger.shortfall >= Bytes::from_mib(SHORT / 2), "{ledger:?}");
        Ok(())
    }

    /// What the guest really holds, by its device.
    fn holds_mib(&self) -> Result<u64> {
        Ok(self.guest.memory_stats()?.actual_kib / 1024)
    }

    fn explained(&self) -> Result<String> {
        Ok(String::from_utf8(self.agent.ask(&["explain", self.guest.name()])?.stdout)?)
    }

    fn metrics(&self) -> Result<String> {
        Ok(http::get(self.port, "/metrics")?.1)
    }

    fn actions(&self) -> Result<Vec<Action>> {
        Ok(self.agent.turns().fresh()?.into_iter().flat_map(|turn| turn.actions).collect())
    }

    fn expect_unhurt(&self) -> Result<()> {
        let console = self.guest.console();
        let hurt =
            ["LOAD killed", "Out of memory", "Kernel panic"].iter().any(|words| console.contains(words));
        ensure!(!hurt, "the guest was hurt:\n{}", tail(&console));
        Ok(())
    }
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(12)..).unwrap_or_default().join("\n")
}

#[test]
fn a_guest_whose_driver_goes_while_it_is_taken_from_is_charged_in_full_and_left_alone_twice_as_long_each_time()
-> Result<()> {
    let bench = Bench::start(&GuestSpec::new("driverless", SIZE))?;
    for wait in [30, 60] {
        bench.wait_take()?;
        bench.guest.order("driver off")?;
        let told = bench.wait(SOON, "to be accused", |g| g.back_off.is_some())?;
        // An unloaded driver first gives everything back to its guest: either way to put it is true.
        let failure = told.failure.context("no failure")?;
        ensure!(matches!(failure, Failure::NotFollowed { .. } | Failure::Deflated { .. }), "{told:?}");
        ensure!(told.trust == Trust::Unresponsive, "{told:?}");
        let left = told.back_off.unwrap_or_default().as_secs();
        ensure!(left <= wait && left + 5 >= wait, "{left} s of {wait}");

        let told = bench.wait(SOON, "to say why", |g| {
            matches!(g.reason, Reason::Held(Hold::StaleStatistics { .. })) && g.target == g.full
        })?;
        ensure!(bench.holds_mib()? == SIZE, "{told:?}");
        bench.expect_charged_in_full()?;
        let text = bench.explained()?;
        for words in
            ["its statistics are", "was undone: its balloon", "does not do what it is told", "for another"]
        {
            ensure!(text.contains(words), "no {words:?} in {text}");
        }
        let metrics = bench.metrics()?;
        let undone = format!("direction=\"give\",reason=\"{}\",result=\"done\"", failure.code());
        let held = "name=\"driverless\",reason=\"StaleStatistics\"} 1";
        ensure!(metrics.contains(&undone) && metrics.contains(held), "{metrics}");

        bench.guest.order("driver on")?;
    }
    bench.wait_settled()?;
    bench.expect_unhurt()
}

#[test]
fn a_balloon_that_deflates_by_itself_is_noticed_and_nothing_is_lost() -> Result<()> {
    let bench = Bench::start(&GuestSpec::new("deflates", SIZE).deflates_on_oom())?;
    bench.wait_at_peace()?;
    let usable = bench.guest.memory_stats()?.usable_kib.context("no usable memory told")? / 1024;
    // There is nothing to give, so its kernel takes it from the balloon before it would kill.
    bench.guest.begin(&Load::Busy { mib: usable + SHORT / 2, ramp_mib_per_s: 40 })?;
    let told = bench.wait(SOON, "to be accused", |g| g.failure.is_some())?;
    ensure!(matches!(told.failure, Some(Failure::Deflated { .. })), "{told:?}");
    ensure!(told.trust == Trust::Unresponsive && told.back_off.is_some(), "{told:?}");
    bench.expect_charged_in_full()?;
    bench.wait(SOON, "to have a target that it holds", |g| g.target >= g.actual)?;
    let text = bench.explained()?;
    ensure!(text.contains("back by itself") && text.contains("charged at full size"), "{text}");
    ensure!(bench.metrics()?.contains("reason=\"UndoDeflated\",result=\"done\""), "no such metric");

    bench.guest.begin(&Load::IDLE)?;
    bench.wait_settled()?;
    bench.expect_unhurt()
}

#[test]
fn a_guest_that_freezes_while_squeezed_is_given_its_memory_back_and_charged_in_full() -> Result<()> {
    let bench = Bench::start(&GuestSpec::new("freezes", SIZE))?;
    let squeezed = bench.wait_at_peace()?;
    // Longer than a balloon is waited for.
    bench.guest.order("freeze 45")?;
    let told = bench.wait(SOON, "to be given back", |g| g.target == g.full)?;
    ensure!(told.blind && bench.holds_mib()? <= squeezed.actual.get() >> 20, "it is not frozen: {told:?}");
    bench.expect_charged_in_full()?;
    let why: Vec<Action> = bench.actions()?.into_iter().filter(|a| a.to > a.from).collect();
    ensure!(why.last().is_some_and(|a| a.reason == "GiveBlind"), "{why:?}");
    bench.wait(SOON, "to say why", |g| matches!(g.reason, Reason::Held(Hold::StaleStatistics { .. })))?;

    bench.guest.wait_console(SOON, "LOAD was frozen")?;
    let told = bench
        .wait(SOON, "to have its memory", |g| !g.blind && g.actual.plus(Bytes::from_mib(4)) >= g.full)?;
    ensure!(
        told.failure.is_none() && told.trust == Trust::Trusted,
        "nothing that was taken froze it: {told:?}"
    );
    bench.wait_settled()?;
    bench.expect_unhurt()
}

#[test]
fn a_suspended_guest_is_neither_taken_from_nor_accused() -> Result<()> {
    let bench = Bench::start(&GuestSpec::new("suspended", SIZE))?;
    bench.wait_take()?;
    bench.guest.suspend()?;
    let paused = |g: &GuestView| matches!(g.reason, Reason::Held(Hold::Paused));
    let told = bench.wait(SOON, "to be seen suspended", paused)?;
    let before = bench.actions()?.len();
    // Longer than a balloon is waited for.
    let long = |g: &GuestView| g.statistics_age.is_some_and(|age| age > Duration::from_secs(35));
    bench.wait(SOON, "to be silent for long", long)?;
    let since = bench.actions()?.split_off(before);
    ensure!(since.iter().all(|action| action.to > action.from), "{told:?} {since:?}");
    let told = bench.view()?;
    ensure!(paused(&told) && told.failure.is_none() && told.trust == Trust::Trusted, "{told:?}");

    bench.guest.resume()?;
    let told = bench.wait_settled()?;
    let undone = bench.actions()?.into_iter().any(|action| action.reason.starts_with("Undo"));
    ensure!(!undone, "{told:?}");
    bench.expect_unhurt()
}
