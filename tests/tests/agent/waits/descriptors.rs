//! An agent whose loop may open no further file, on a real guest: it can write no journal and connect to no libvirt,
//! and hears one question at a time.

use anyhow::{Context as _, Result, ensure};
use overcommit_tests::agent::{Bench, OpenFiles, SOON, Turn};
use overcommit_tests::guests::GuestSpec;
use overcommit_tests::wait;

const SIZE: u64 = 384;
/// What the host lacks for its guest.
const SHORT: u64 = 80;
/// How much more it lacks then: two takes of a tenth each.
const MORE: u64 = 60;
/// In so many turns one after the other there was no room for a file.
const FULL_TURNS: usize = 3;

/// Reads the turns as they come until `so` is true of all that came, and keeps the room for files shut meanwhile.
fn wait_turns(
    bench: &Bench,
    files: &OpenFiles,
    what: &str,
    so: impl Fn(&[Turn]) -> bool,
) -> Result<Vec<Turn>> {
    let (mut turns, mut seen) = (bench.agent().turns(), Vec::new());
    turns.fresh()?;
    wait::until(SOON, what, || {
        // It may have closed one since.
        if !files.allow_no_more()? {
            seen.clear();
        }
        seen.extend(turns.fresh()?);
        ensure!(so(&seen), "{:?}", seen.last());
        Ok(())
    })
    .with_context(|| bench.agent().process().log_tail())?;
    Ok(seen)
}

/// The last of the turns tells a trouble with these words.
fn tells(turns: &[Turn], words: &[&str]) -> bool {
    let told = |turn: &Turn| turn.troubles.iter().any(|told| words.iter().all(|word| told.contains(word)));
    turns.last().is_some_and(told)
}

#[test]
fn out_of_file_descriptors_nothing_is_taken_giving_goes_on_and_it_recovers() -> Result<()> {
    let bench = Bench::start(&GuestSpec::new("no-more-files", SIZE).stats_period_s(5), SHORT, &[])?;
    bench.wait_at_peace()?;
    let (held, first) = (bench.holds_mib()?, bench.agent().loop_pid()?);
    let files = OpenFiles::of(first)?;
    wait_turns(&bench, &files, "no room for a file", |turns| turns.len() >= FULL_TURNS)?;

    bench.host().lose(MORE)?;
    let journal = ["nothing is taken while", "too many open files", "raise the agent's limit"];
    let turns = wait_turns(&bench, &files, "what is wrong with the journal to be told", |turns| {
        turns.len() >= FULL_TURNS && tells(turns, &journal)
    })?;
    let taken =
        turns.iter().flat_map(|turn| &turn.actions).find(|done| done.to < done.from && done.failed.is_none());
    ensure!(taken.is_none() && bench.holds_mib()? >= held, "taken without a journal: {taken:?}");
    bench.agent().report().context("who asks is not heard")?;

    bench.relieve()?;
    wait_turns(&bench, &files, "what was taken to be given back", |_| {
        bench.holds_mib().is_ok_and(|holds| holds == SIZE)
    })?;
    bench.hypervisor().kill_daemon()?;
    bench.hypervisor().restart_daemon()?;
    wait_turns(&bench, &files, "what is wrong with libvirt to be told", |turns| {
        tells(turns, &["Too many open files"])
    })?;
    ensure!(bench.agent().loop_pid()? == first, "the loop lives");

    files.allow_as_before()?;
    wait::until(SOON, "no more troubles", || {
        let troubles = bench.agent().troubles()?;
        ensure!(troubles == "[]", "{troubles}");
        Ok(())
    })
    .with_context(|| bench.agent().process().log_tail())?;
    bench.squeeze()?;
    bench.wait_settled()?;
    bench.expect_all_back(SIZE)
}
