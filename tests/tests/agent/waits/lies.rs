//! Guests whose driver or whose statistics lie. No real one can be brought to, so the agent hears the lies in the name of a
//! real guest (`node-agent/src/liar.rs`); what the host's kernel says of its process is true.

use anyhow::{Result, ensure};
use overcommit_core::conduct::Trust;
use overcommit_core::reason::{Failure, Hold, Pain, Reason};
use overcommit_core::view::GuestView;
use overcommit_tests::agent::{Bench, SOON};
use overcommit_tests::guests::{Balloon, GuestSpec, Load};
use overcommit_tests::machine::MIB;

const SIZE: u64 = 384;
/// What the host lacks for its guest.
const SHORT: u64 = 100;
/// A guest that has touched so much of its memory is so large, and lacks so much: a lie is more than what huge pages blur.
const LARGE: u64 = 768;
/// What huge pages blur of it.
const BLUR: u64 = 64;
const TOUCHED: u64 = 560;
const MUCH: u64 = 500;

/// An agent that hears this lie of its guest.
fn start(spec: &GuestSpec, short_mib: u64, lie: &str) -> Result<Bench> {
    Bench::start(spec, short_mib, &[&format!("--lie=liar={lie}")])
}

fn expect_told(bench: &Bench, code: &str, words: &[&str]) -> Result<()> {
    let text = bench.explained()?;
    for words in words {
        ensure!(text.contains(words), "no {words:?} in {text}");
    }
    let metrics = bench.metrics()?;
    // Each of them is there from the start, at 0.
    let series = format!("overcommit_takes_undone_total{{failure=\"{code}\"}} ");
    let counted = metrics.lines().find_map(|line| line.strip_prefix(&series)?.parse::<u64>().ok());
    ensure!(counted.is_some_and(|count| count > 0), "{metrics}");
    // What the event tells.
    bench.wait_done("what undid it", |action| action.reason == code && action.undoes)
}

#[test]
fn a_driver_that_says_it_gave_and_keeps_every_page_is_found_out_by_what_its_process_holds() -> Result<()> {
    let balloon = Balloon::Present { free_page_reporting: false, stats_period_s: 5 };
    let touches = Load::Touched { mib: TOUCHED };
    let bench = start(&GuestSpec::new("liar", LARGE).balloon(balloon).load(touches), MUCH, "gives")?;
    bench.wait_take()?;
    // Less than it is accused for: one take is a tenth.
    let told = bench.wait(SOON, "to be believed so far", |g| g.actual.plus(g.full.scaled(1, 8)) < g.full)?;
    ensure!(bench.guest().memory_stats()?.actual_kib == LARGE * 1024, "it is no lie: {told:?}");
    let said = told.full.minus(told.actual).get();
    let told = bench.wait(SOON, "to be accused", |g| g.failure.is_some())?;
    let Some(Failure::NotFreed { excess }) = told.failure else { anyhow::bail!("{told:?}") };
    let resident = bench.guest().resident_bytes()?;
    // All that it had said by then, and what it said since.
    ensure!(excess.get() + BLUR * MIB > said && resident > TOUCHED * MIB, "{resident} {said} {told:?}");
    ensure!(told.trust == Trust::Untrusted && told.back_off.is_some(), "{told:?}");
    bench.wait(SOON, "to be given back", |g| g.target == g.full)?;
    bench.expect_charged_in_full()?;
    let words = ["was undone: its balloon says that it gave", "says what its process denies", "for another"];
    expect_told(&bench, "UndoNotFreed", &words)?;

    let told = bench.wait(SOON, "to be left alone for good", |g| {
        g.back_off.is_none() && g.reason == Reason::Held(Hold::Untrusted)
    })?;
    ensure!(told.reclaimable.is_zero() && told.trust == Trust::Untrusted, "{told:?}");
    let done = bench.decisions(5)?;
    ensure!(done.is_empty(), "nothing is taken on the word of a liar: {done:?}");
    bench.expect_charged_in_full()
}

#[test]
fn statistics_that_cry_whenever_something_is_taken_get_it_back_and_are_left_alone_twice_as_long() -> Result<()>
{
    let bench = start(&GuestSpec::new("liar", SIZE).stats_period_s(5), SHORT, "hurts")?;
    for wait in [30, 60] {
        let told = bench.wait(SOON, "to cry", |g| {
            let left = g.back_off.map_or(0, |left| left.as_secs());
            // More than half of it is left, which is more than all of the time before.
            matches!(g.failure, Some(Failure::Hurt(Pain::LowUsable { .. }))) && left > wait / 2
        })?;
        ensure!(told.trust == Trust::Trusted, "{told:?}");
        // What it gives back to one that is believed, a short host must have.
        bench.relieve()?;
        bench.wait(SOON, "to have it back", |g| g.target == g.full && g.actual == g.full)?;
        // First of all: it is left alone for no more than half a minute.
        bench.squeeze()?;
        bench.wait(SOON, "to wait", |g| {
            matches!(g.reason, Reason::Held(Hold::BackingOff { failure: Failure::Hurt(_), .. }))
        })?;
        expect_told(
            &bench,
            "UndoHurt",
            &["was undone: it began to hurt (only 1.0 MiB usable)", "for another"],
        )?;
    }
    bench.guest().expect_unhurt()
}

#[test]
fn statistics_that_contradict_themselves_once_something_is_taken_are_no_statistics() -> Result<()> {
    let bench = start(&GuestSpec::new("liar", SIZE).stats_period_s(5), SHORT, "contradicts")?;
    let told = bench.wait(SOON, "to be accused", |g| g.failure.is_some())?;
    ensure!(told.failure == Some(Failure::Silent) && told.back_off.is_some(), "{told:?}");
    bench.wait(SOON, "to have it back", |g| g.target == g.full && g.actual == g.full)?;
    expect_told(
        &bench,
        "UndoSilent",
        &["was undone: it sent no statistics that can be used", "for another"],
    )?;
    let waits = |g: &GuestView| matches!(g.reason, Reason::Held(Hold::BackingOff { .. }));
    bench.wait(SOON, "to wait", waits)?;
    bench.guest().expect_unhurt()
}
