//! Guests that do not do what a take expects of them, on real ones: whose driver goes, whose balloon deflates by itself,
//! who freeze, and, the opposite, who are suspended.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use overcommit_core::conduct::Trust;
use overcommit_core::reason::{Failure, Hold, Reason};
use overcommit_core::units::Bytes;
use overcommit_core::view::GuestView;
use overcommit_tests::agent::{Bench, SOON};
use overcommit_tests::guests::{GuestSpec, Load};
use overcommit_tests::wait;

const SIZE: u64 = 384;
/// What the host lacks for its guest.
const SHORT: u64 = 100;
/// What one take pays, a tenth: no other one follows it.
const LITTLE: u64 = 30;

fn start(spec: GuestSpec) -> Result<Bench> {
    // So that it is soon heard of.
    Bench::start(&spec.stats_period_s(5), SHORT, &[])
}

#[test]
fn a_guest_whose_driver_goes_while_it_is_taken_from_is_charged_in_full_and_left_alone_twice_as_long_each_time()
-> Result<()> {
    let bench = start(GuestSpec::new("driverless", SIZE))?;
    for (wait, before) in [(30, 0), (60, 30)] {
        bench.wait_take()?;
        bench.guest().order("driver off")?;
        let told = bench.wait(SOON, "to be accused", |g| g.back_off.is_some())?;
        // An unloaded driver first gives everything back to its guest: either way to put it is true.
        let failure = told.failure.context("no failure")?;
        ensure!(matches!(failure, Failure::NotFollowed { .. } | Failure::Deflated { .. }), "{told:?}");
        ensure!(told.trust == Trust::Unresponsive, "{told:?}");
        // Seen some time later: no less is left than all of the time before.
        let left = told.back_off.unwrap_or_default().as_secs();
        ensure!(left <= wait && left >= before, "{left} s of {wait}: {told:?} {:?}", bench.actions()?);

        // While that lasts.
        expect_explained(&bench, ["was undone: its balloon", "for another"])?;

        let told = bench.wait(SOON, "to say why", |g| {
            matches!(g.reason, Reason::Held(Hold::StaleStatistics { .. })) && g.target == g.full
        })?;
        wait::until(SOON, format!("its full size after {told:?}"), || {
            bench.holds_mib().is_ok_and(|mib| mib == SIZE)
        })?;
        bench.expect_charged_in_full()?;
        expect_explained(&bench, ["its statistics are", "does not do what it is told"])?;
        expect_counted(&bench, failure, "name=\"driverless\",reason=\"StaleStatistics\"} 1")?;

        bench.guest().order("driver on")?;
    }
    bench.guest().expect_unhurt()
}

fn expect_explained(bench: &Bench, words: [&str; 2]) -> Result<()> {
    wait::until(SOON, format!("the words {words:?}"), || {
        let text = bench.explained()?;
        ensure!(words.iter().all(|words| text.contains(words)), "{text}");
        Ok(())
    })
}

/// A take was undone for that, and these words are among the metrics. The count is there from the start, and rises once the
/// command was answered, a moment after the decision is told.
fn expect_counted(bench: &Bench, failure: Failure, words: &str) -> Result<()> {
    let undone = format!("direction=\"give\",reason=\"{}\",result=\"done\"", failure.code());
    wait::until(SOON, format!("the count of {failure:?}, and {words:?}"), || {
        let metrics = bench.metrics()?;
        let counted = metrics.lines().any(|line| line.contains(&undone) && !line.ends_with(" 0"));
        ensure!(counted && metrics.contains(words), "{metrics}");
        Ok(())
    })
}

#[test]
fn a_balloon_that_deflates_by_itself_is_noticed_and_nothing_is_lost() -> Result<()> {
    let bench = start(GuestSpec::new("deflates", SIZE).deflates_on_oom())?;
    bench.wait_at_peace()?;
    let usable = bench.guest().memory_stats()?.usable_kib.context("no usable memory told")? / 1024;
    // There is nothing to give, so its kernel takes it from the balloon before it would kill.
    bench.guest().begin(&Load::Paced { mib: usable + SHORT / 2, ramp_mib_per_s: 40, pace_mib_per_s: 20 })?;
    let told = bench.wait(SOON, "to be accused", |g| g.failure.is_some())?;
    ensure!(matches!(told.failure, Some(Failure::Deflated { .. })), "{told:?}");
    ensure!(told.trust == Trust::Unresponsive && told.back_off.is_some(), "{told:?}");
    bench.expect_charged_in_full()?;
    bench.wait(SOON, "to have a target that it holds", |g| g.target >= g.actual)?;
    expect_explained(&bench, ["back unasked", "charged at full size"])?;
    expect_counted(&bench, told.failure.context("no failure")?, "name=\"deflates\"")?;

    bench.guest().begin(&Load::IDLE)?;
    bench.wait_settled()?;
    bench.guest().expect_unhurt()
}

#[test]
fn a_guest_that_freezes_while_squeezed_is_given_its_memory_back_and_charged_in_full() -> Result<()> {
    let bench = start(GuestSpec::new("freezes", SIZE))?;
    bench.wait_at_peace()?;
    // Longer than a balloon is waited for.
    bench.guest().order("freeze 45")?;
    let told = bench.wait(SOON, "to be given back", |g| g.target == g.full)?;
    ensure!(told.blind && bench.holds_mib()? <= SIZE - SHORT / 2, "it is not frozen: {told:?}");
    bench.expect_charged_in_full()?;
    bench
        .wait_done("a give to one of whom nothing is known", |a| a.to > a.from && a.reason == "GiveBlind")?;
    bench.wait(SOON, "to say why", |g| matches!(g.reason, Reason::Held(Hold::StaleStatistics { .. })))?;

    // Or it would be taken from again as soon as it is heard of.
    bench.relieve()?;
    bench.guest().wait_console(SOON, "LOAD was frozen")?;
    let told = bench
        .wait(SOON, "to have its memory", |g| !g.blind && g.actual.plus(Bytes::from_mib(4)) >= g.full)?;
    ensure!(
        told.failure.is_none() && told.trust == Trust::Trusted,
        "nothing that was taken froze it: {told:?}"
    );
    bench.guest().expect_unhurt()
}

#[test]
fn a_take_after_which_the_guest_says_nothing_any_more_is_undone_and_told() -> Result<()> {
    // It stops once it has heard that the take was carried out: what it sees next is a balloon that gave, and silence.
    let further = ["--unattended", "--fail-at=heard=stop*1"];
    let bench = Bench::start(&GuestSpec::new("falls-silent", SIZE).stats_period_s(5), LITTLE, &further)?;
    bench.agent().while_stopped(SOON, || {
        wait::until(SOON, "its balloon to have given", || bench.holds_mib().is_ok_and(|mib| mib < SIZE))?;
        bench.guest().order("freeze 45").map(drop)
    })?;
    let told = bench.wait(SOON, "to be accused", |g| g.failure.is_some())?;
    ensure!(told.failure == Some(Failure::Silent) && told.trust == Trust::Trusted, "{told:?}");
    ensure!(told.target == told.full && told.back_off.is_some(), "{told:?}");
    bench.wait_done("what undid it", |action| action.reason == "UndoSilent" && action.undoes)?;
    expect_explained(&bench, ["was undone: it sent no statistics that can be used", "for another"])?;
    expect_counted(&bench, Failure::Silent, "overcommit_takes_undone_total{failure=\"UndoSilent\"} 1")?;

    // It speaks again and has its memory. Meanwhile nothing is short: where it is slow, it is left alone no longer than it is
    // silent, and would be taken from again as soon as it is heard of.
    bench.relieve()?;
    bench.guest().wait_console(SOON, "LOAD was frozen")?;
    bench.wait(SOON, "to have its memory", |g| !g.blind && g.actual == g.full)?;
    bench.guest().expect_unhurt()
}

#[test]
fn a_suspended_guest_is_neither_taken_from_nor_accused() -> Result<()> {
    let bench = start(GuestSpec::new("suspended", SIZE))?;
    bench.wait_take()?;
    bench.guest().suspend()?;
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

    bench.guest().resume()?;
    let told = bench.wait_settled()?;
    let undone = bench.actions()?.into_iter().any(|action| action.reason.starts_with("Undo"));
    ensure!(!undone, "{told:?}");
    bench.guest().expect_unhurt()
}
