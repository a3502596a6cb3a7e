//! `make bench`: real guests on a squeezed host, the same demand under every controller that a user could pick instead, in turn.
//! Keeps each window's outcome as it ends, and writes a report of all that there are.

mod commands;
mod controller;
mod csv;
mod density;
mod figures;
mod goals;
mod kept;
mod looks;
mod markdown;
mod origin;
mod outcome;
mod pace;
mod page;
mod plan;
mod publish;
mod recovery;
mod scenario;
mod summary;
mod swap;
mod window;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Parser;
use controller::Controller;
use kept::Kept;
use origin::Origin;
use outcome::{Key, Outcome};
use overcommit_tests::guest_image::GuestImage;
use overcommit_tests::machine::{self, MIB};
use overcommit_tests::parts::{say, told};
use scenario::Scenario;

/// Where results are published, from the sources' root.
const PUBLISHED: &str = "docs/benchmarks";

/// Compares controllers of memory on real guests.
#[derive(Parser)]
struct Arguments {
    /// Which worlds.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Scenario::F])]
    scenario: Vec<Scenario>,
    /// Which controllers; each once in each round.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [
        Controller::None, Controller::Ours, Controller::Mom, Controller::MomScaled, Controller::Ceiling
    ])]
    controller: Vec<Controller>,
    /// What the first round's demand follows from; the next round's from the next number.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How often each controller is run.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Where outcomes are kept and the report is written. What is kept there is not run again.
    #[arg(long, default_value = "target/bench")]
    into: PathBuf,
    /// Runs nothing: only writes the report of what is kept.
    #[arg(long)]
    report: bool,
    /// Writes the table to docs/benchmarks/NAME.md too.
    #[arg(long, value_name = "NAME", value_parser = name)]
    publish: Option<String>,
}

/// A file's name without a folder.
fn name(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if !text.is_empty() && text.chars().all(plain) {
        Ok(text.to_owned())
    } else {
        Err("small letters, digits and hyphens only".to_owned())
    }
}

fn main() -> ExitCode {
    match bench(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn bench(arguments: &Arguments) -> Result<()> {
    let mut kept = Kept::in_folder(&arguments.into)?;
    let origin = if arguments.report {
        kept.last().context("nothing is kept there yet")?.clone()
    } else {
        let origin = Origin::here()?;
        run_all(arguments, &mut kept, &origin)?;
        origin
    };
    println!("{}", write_report(&arguments.into, &kept, &origin)?);
    match &arguments.publish {
        Some(name) => {
            let folder = machine::sources().join("..").join(PUBLISHED);
            publish::publish(&folder, name, &described(&kept, &origin), &kept.of(&origin).0)
        }
        None => Ok(()),
    }
}

fn run_all(arguments: &Arguments, kept: &mut Kept, origin: &Origin) -> Result<()> {
    let (searched, compared): (Vec<_>, Vec<_>) =
        arguments.scenario.iter().partition(|scenario| **scenario == Scenario::Density);
    let all = plan::plan(&compared, &arguments.controller, arguments.seed, arguments.rounds);
    let left: Vec<Key> = all.iter().filter(|key| !kept.has(key, origin)).copied().collect();
    if !all.is_empty() {
        say(&format!(
            "bench: {} windows, {} of them kept in {} from before, of this build on this machine",
            all.len(),
            all.len() - left.len(),
            arguments.into.display()
        ));
    }
    arguments.scenario.iter().try_for_each(|scenario| enough(*scenario))?;
    arguments.controller.iter().try_for_each(|controller| controller.prepare())?;
    GuestImage::ensure()?;
    for (number, key) in left.iter().enumerate() {
        let rest = plan::left(left.get(number..).unwrap_or_default(), kept.of(origin).0.iter());
        say(&format!(
            "bench: window {} of {}: {} under {}, round {}; about {} left",
            number + 1,
            left.len(),
            key.scenario,
            key.controller,
            key.round,
            told(rest)
        ));
        measure(*key, kept, origin, &arguments.into)?;
    }
    for (round, seed) in (1..=arguments.rounds).zip(arguments.seed..).filter(|_| !searched.is_empty()) {
        density::search(&arguments.controller, (seed, round), |key| {
            if let Some(known) = kept.find(&key, origin) {
                return Ok(known.clone());
            }
            say(&format!("bench: {} guests under {}, round {round}", key.guests(), key.controller));
            measure(key, kept, origin, &arguments.into)
        })?;
    }
    Ok(())
}

/// Runs a window, keeps what comes of it, and writes the report.
fn measure(key: Key, kept: &mut Kept, origin: &Origin, into: &Path) -> Result<Outcome> {
    let outcome = window::run(key, origin);
    say(&format!("bench: {} ({})", words(&outcome), told(Duration::from_secs_f64(outcome.took_s))));
    kept.add(outcome.clone())?;
    write_report(into, kept, origin)?;
    Ok(outcome)
}

/// What a window came to, in a line.
fn words(outcome: &Outcome) -> String {
    if let Some(why) = outcome.void() {
        return format!("no result: {why}");
    }
    let stood = outcome.livelock().map_or(String::new(), |at| format!(", livelock after {at:.0} s"));
    let died = outcome.controller_died.as_ref().map_or("", |_| ", its controller died");
    let waited = outcome.waited_ms(990).map_or(String::new(), |ms| format!(", p99 {ms:.0} ms"));
    format!(
        "{:.1} {}{waited}, {} of {} guests unhurt, {} kills{stood}{died}",
        outcome.work(),
        outcome.key.scenario.unit(),
        outcome.unhurt(),
        outcome.guests.len(),
        outcome.kills()
    )
}

/// The machine has the memory that a scenario needs without a squeeze, and its tools need.
fn enough(scenario: Scenario) -> Result<()> {
    let need = scenario.needs_mib();
    let have = machine::meminfo("MemTotal")? / MIB;
    anyhow::ensure!(
        need <= have,
        "scenario {scenario} needs a machine of {need} MiB, and this one has {have}: {}",
        scenario::fitting(have)
    );
    Ok(())
}

/// The machine and the build, and what of others is left out.
fn described(kept: &Kept, origin: &Origin) -> String {
    let beside = match kept.of(origin).1 {
        0 => String::new(),
        others => format!(" Not shown: {others} of other builds or machines."),
    };
    format!("{} Build {}.{beside}", origin.machine, origin.build)
}

/// Writes what there is of this origin, and returns the table.
fn write_report(folder: &Path, kept: &Kept, origin: &Origin) -> Result<String> {
    let (of, outcomes) = (described(kept, origin), kept.of(origin).0);
    let table = markdown::markdown(&of, &outcomes, None);
    let page = page::page(&of, &outcomes);
    for (name, text) in [("report.md", &table), ("report.html", &page), ("report.csv", &csv::csv(&outcomes))]
    {
        let path = folder.join(name);
        fs::write(&path, text).with_context(|| path.display().to_string())?;
    }
    say(&format!("bench: the report is {}", folder.join("report.html").display()));
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::tests::outcome;

    #[test]
    fn a_report_is_of_one_build_and_machine_and_says_of_which() {
        let dir = tempfile::tempdir().unwrap();
        let mut kept = Kept::in_folder(dir.path()).unwrap();
        let here = outcome(Controller::None, 1, &[1, 2, 3]);
        let mut elsewhere = outcome(Controller::None, 1, &[1]);
        elsewhere.origin.machine = "Another machine.".into();
        kept.add(elsewhere).unwrap();
        kept.add(here.clone()).unwrap();
        let table = write_report(dir.path(), &kept, &here.origin).unwrap();
        let says = "A machine. Build b. Not shown: 1 of other builds or machines.";
        assert!(table.starts_with(says) && table.contains("| 3 of 3 |"), "{table}");
        assert_eq!(fs::read_to_string(dir.path().join("report.csv")).unwrap().lines().count(), 2);
        assert!(fs::read_to_string(dir.path().join("report.html")).unwrap().contains(says));
    }

    #[test]
    fn what_is_published_stays_in_its_folder() {
        assert_eq!(name("2026-scenario-f"), Ok("2026-scenario-f".to_owned()));
        for word in ["", "../x", "a/b", "A", "a.md"] {
            assert!(name(word).is_err(), "{word}");
        }
    }
}
