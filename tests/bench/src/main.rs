//! `make bench`: real guests on a squeezed host, the same demand under every controller that a user could pick instead, in turn.
//! Keeps each window's outcome as it ends, and writes a report of all that there are.

mod controller;
mod figures;
mod kept;
mod looks;
mod markdown;
mod outcome;
mod pace;
mod page;
mod plan;
mod scenario;
mod summary;
mod swap;
mod window;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::Parser;
use controller::Controller;
use kept::Kept;
use outcome::{Key, Outcome};
use overcommit_tests::about;
use overcommit_tests::guest_image::GuestImage;
use overcommit_tests::machine::{self, MIB};
use overcommit_tests::parts::{say, told};
use scenario::Scenario;

/// What a window takes beside its work: boot, squeeze, settling, relief.
const BESIDE: Duration = Duration::from_secs(150);

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
    if !arguments.report {
        run_all(arguments, &mut kept)?;
    }
    write_report(&arguments.into, kept.outcomes())
}

fn run_all(arguments: &Arguments, kept: &mut Kept) -> Result<()> {
    let all = plan::plan(&arguments.scenario, &arguments.controller, arguments.seed, arguments.rounds);
    let left: Vec<Key> = all.iter().filter(|key| !kept.has(key)).copied().collect();
    say(&format!(
        "bench: {} windows, {} of them kept in {} from before",
        all.len(),
        all.len() - left.len(),
        arguments.into.display()
    ));
    arguments.scenario.iter().try_for_each(|scenario| enough(*scenario))?;
    arguments.controller.iter().try_for_each(|controller| controller.prepare())?;
    GuestImage::ensure()?;
    for (number, key) in left.iter().enumerate() {
        let rest: Duration = left.iter().skip(number).map(|key| key.scenario.window() + BESIDE).sum();
        say(&format!(
            "bench: window {} of {}: {} under {}, round {}; about {} left",
            number + 1,
            left.len(),
            key.scenario,
            key.controller,
            key.round,
            told(rest)
        ));
        let began = Instant::now();
        let outcome = window::run(*key)
            .with_context(|| format!("{} under {}, round {}", key.scenario, key.controller, key.round))?;
        say(&format!("bench: {} ({})", words(&outcome), told(began.elapsed())));
        kept.add(outcome)?;
        write_report(&arguments.into, kept.outcomes())?;
    }
    Ok(())
}

/// What a window came to, in a line.
fn words(outcome: &Outcome) -> String {
    let stood =
        outcome.livelock.as_ref().map_or(String::new(), |(at, _)| format!(", livelock after {at:.0} s"));
    let died = outcome.controller_died.as_ref().map_or("", |_| ", its controller died");
    format!(
        "{:.1} MiB/s, {} of {} guests unhurt, {} kills{stood}{died}",
        outcome.work(),
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

fn write_report(folder: &Path, outcomes: &[Outcome]) -> Result<()> {
    let machine = about::description()?;
    let table = markdown::markdown(&machine, outcomes);
    for (name, text) in [("report.md", &table), ("report.html", &page::page(&machine, outcomes))] {
        let path = folder.join(name);
        fs::write(&path, text).with_context(|| path.display().to_string())?;
    }
    println!("{table}");
    say(&format!("bench: the report is {}", folder.join("report.html").display()));
    Ok(())
}
