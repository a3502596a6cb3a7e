//! MOM's stock rule, as MOM ships it, decides for an agent; MOM itself decides on what the agent sampled.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use overcommit_tests::agent::expect_replayed;
use overcommit_tests::guests::Guest;
use overcommit_tests::mom::{Answer, Case, Oracle, Told};
use overcommit_tests::parts::mom_rules;
use overcommit_tests::wait;

use super::stage::Stage;

/// A host is short as soon as less than twice its memory is free: always.
const ALWAYS_SHORT: &str = "(defvar pressure_threshold 2.0)\n";
/// The guard shortens nothing of what a stock rule takes at once, which is 5 %.
const UNLIMITED: &str = "  limits: {takePerGuest: 100%, takePerNode: 100%, deadBand: 0%}\n";
/// So many commands are waited for. A guest has booted half a minute before any is given, and then is 5 % smaller each cycle;
/// before it comes to the guard's floor there are more of them than this.
const COMMANDS: usize = 12;
const SOON: Duration = Duration::from_mins(4);
/// A balloon's page.
const PAGE: u64 = 4096;

#[test]
fn moms_stock_rule_commands_real_guests_what_mom_commands_on_the_same_samples() -> Result<()> {
    let program = ALWAYS_SHORT.to_owned() + &mom_rules("balloon.rules")?;
    let stage = Stage::set("Enforce", &program, UNLIMITED)?;
    let mut turns = stage.agent.turns();
    let (mut cycles, mut taken) = (BTreeMap::new(), Vec::new());
    wait::until(SOON, "cycles in which something is commanded", || {
        let saw = stage.saw()?;
        let said: Told = saw.said.get().parse()?;
        cycles.insert(saw.input.get().to_owned(), said);
        let actions = turns.fresh()?.into_iter().flat_map(|turn| turn.actions);
        taken.extend(actions.filter(|action| action.reason == "TakeProgram"));
        ensure!(taken.len() >= COMMANDS, "{} of {COMMANDS}", taken.len());
        Ok::<_, anyhow::Error>(())
    })?;

    let (mut oracle, mut commanded) = (Oracle::start()?, BTreeSet::new());
    for (input, said) in &cycles {
        let case = Case { files: vec![program.clone().into()], input: serde_json::from_str(input)? };
        let Answer::Whole(mom) = oracle.ask(&case)? else { anyhow::bail!("MOM fails on {input}") };
        let (ours, moms) = (proposals(said)?, proposals(&mom)?);
        ensure!(ours == moms, "we: {ours:?}\nMOM: {moms:?}\non {input}");
        commanded.extend(ours);
    }

    // What was proposed is what libvirt is told, in whole pages.
    for action in &taken {
        let told = commanded
            .iter()
            .any(|(name, kib)| *name == action.guest && kib.parse().is_ok_and(|kib| pages(kib) == action.to));
        ensure!(told, "nobody proposed {action:?}: {commanded:?}");
    }
    eprintln!("{} cycles, {} targets alike, {} commands", cycles.len(), commanded.len(), taken.len());
    stage.agent.interrupt()?;
    expect_replayed(&stage.recording)?;
    stage.guests.iter().try_for_each(Guest::expect_unhurt)
}

/// Whole pages of so many KiB.
fn pages(kib: f64) -> u64 {
    // What is behind the point MOM drops as well.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let bytes = kib as u64 * 1024;
    bytes / PAGE * PAGE
}

/// The balloon targets that an evaluation proposes, by guest, as they are printed.
fn proposals(said: &Told) -> Result<BTreeSet<(String, String)>> {
    let Some(Told::Map(guests)) = said.field("guests") else { anyhow::bail!("no guests: {said}") };
    let mut proposals = BTreeSet::new();
    for (name, guest) in guests {
        let controls = guest.field("controls").context("no controls")?;
        if let Some(target) = controls.field("balloon_target") {
            proposals.insert((name.clone(), target.to_string()));
        }
    }
    Ok(proposals)
}
