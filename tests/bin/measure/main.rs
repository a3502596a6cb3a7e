//! `make measure`: what the agent and the operator cost, and how fast a guest in distress is helped, with real guests
//! and a real API server on this machine. Prints Markdown; `--write` puts its sections into `docs/measurements.md`.

mod distress;
mod guests;
mod ksm;
mod lane;
mod machine;
mod operator;
mod sections;
mod sizes;
mod slow_api;
mod spread;

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow};
use clap::{Parser, ValueEnum};
use overcommit_tests::parts::{say, told};

/// Measures the release builds of the product.
#[derive(Parser)]
struct Arguments {
    /// Write the sections that were measured into docs/measurements.md, too; the others stay as they are.
    #[arg(long)]
    write: bool,
    /// Only these parts, and not all.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,
}

/// What is measured, each for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// From a guest's distress to the command.
    Distress,
    /// The fast lane, half of the time.
    Lane,
    /// The same in a cluster whose API server is slow.
    LaneSlowApi,
    /// The operator, and what is written to the API server.
    Operator,
    /// An operator of thousands of nodes whose policy carries a program, 5 minutes.
    Programs,
    /// Images and rights.
    Sizes,
    /// What the agent costs, itself and its neighbours.
    Costs,
    /// The same beside as many guests as a node has at most, a quarter of an hour.
    FullNode,
    /// Merging of equal pages, a quarter of an hour more.
    Ksm,
}

impl Arguments {
    fn wants(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }
}

fn main() -> ExitCode {
    match measure(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("measure: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure(arguments: &Arguments) -> Result<()> {
    let begun = Instant::now();
    let mut text = Text { machine: machine::description()?, whole: String::new() };
    let sizes = arguments.wants(Part::Sizes).then(sizes::measure).transpose()?;
    // Two API servers idle beside the guests' boot and the trials, never beside a window in which CPU time is counted.
    let operator = arguments.wants(Part::Operator).then(|| std::thread::spawn(operator::measure));
    let needs_guests =
        [Part::Distress, Part::Lane, Part::Costs].into_iter().any(|part| arguments.wants(part));
    let bench = needs_guests.then(|| with_guests(arguments, &mut text)).transpose()?;
    if let Some(operator) = operator {
        say("measure: waiting for the operator's figures");
        text.add(&operator.join().map_err(|_| anyhow!("measuring the operator panicked"))??);
    }
    if let Some(sizes) = sizes {
        text.add(&sizes);
    }
    let costs = costs(bench, arguments)?;
    if !costs.is_empty() {
        text.add(&guests::agent_section(&costs)?);
        text.add(&guests::host_section(&costs)?);
    }
    if arguments.wants(Part::FullNode) {
        say("measure: as many guests as a node has at most");
        text.add(&guests::full_node_section(&[guests::Bench::full_node()?])?);
    }
    if arguments.wants(Part::LaneSlowApi) {
        // Alone: eight libvirts more are no part of what is measured above.
        text.add(&slow_api::measure()?);
    }
    if arguments.wants(Part::Programs) {
        text.add(&operator::programs()?);
    }
    if arguments.wants(Part::Ksm) {
        text.add(&ksm::measure()?);
    }
    say(&format!("measure: all of it took {}", told(begun.elapsed())));
    if arguments.write {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/measurements.md");
        let told = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        std::fs::write(&path, sections::replace(&told, &text.whole))
            .with_context(|| path.display().to_string())?;
    }
    Ok(())
}

fn with_guests(arguments: &Arguments, text: &mut Text) -> Result<guests::Bench> {
    say("measure: booting the guests (all of it takes about an hour)");
    let bench = guests::Bench::boot(guests::MOST)?;
    if arguments.wants(Part::Distress) {
        say("measure: distress");
        text.add(&distress::measure(&bench)?);
    }
    if arguments.wants(Part::Lane) {
        text.add(&lane::measure(&bench)?);
    }
    Ok(bench)
}

/// Each part has the machine for itself: the guests end before the next ones start.
fn costs(bench: Option<guests::Bench>, arguments: &Arguments) -> Result<Vec<guests::Cost>> {
    let mut costs = Vec::new();
    if let Some(mut bench) = bench.filter(|_| arguments.wants(Part::Costs)) {
        for count in [guests::MOST, 4, 0] {
            say(&format!("measure: {count} guests"));
            bench.keep(count);
            costs.extend(bench.costs()?);
        }
        drop(bench);
        say("measure: paused guests");
        costs.splice(..0, guests::Bench::paused()?);
    }
    Ok(costs)
}

/// Sections, each printed as soon as it is known.
struct Text {
    machine: String,
    whole: String,
}

impl Text {
    /// Adds what was measured. Each section says where and when: others of the file may be of other days.
    fn add(&mut self, measured: &str) {
        let signed = sections::signed(measured, &self.machine);
        println!("\n{}", signed.trim_end());
        self.whole.extend(["\n", &signed]);
    }
}
