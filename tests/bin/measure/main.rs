//! `make measure`: what the agent and the operator cost, and how fast a guest in distress is helped, with real guests
//! and a real API server on this machine. Prints Markdown; `--write` puts it into `docs/measurements.md`.

mod distress;
mod guests;
mod lane;
mod machine;
mod operator;
mod process;
mod sizes;
mod spread;

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow};
use clap::Parser;
use overcommit_tests::parts::{say, told};

/// Measures the release builds of the product.
#[derive(Parser)]
struct Arguments {
    /// Write docs/measurements.md, too.
    #[arg(long)]
    write: bool,
    /// Leave the fast lane out, half of the time.
    #[arg(long)]
    no_lane: bool,
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
    let (begun, load) = (Instant::now(), machine::load()?);
    let mut text = Text::begin(HEAD);
    text.add(&machine::description(&load)?);
    let sizes = sizes::measure()?;
    // Two API servers idle beside the guests' boot and the trials, never beside a window in which CPU time is counted.
    let operator = std::thread::spawn(operator::measure);
    say("measure: booting the guests (all of it takes about 30 min)");
    let mut bench = guests::Bench::boot(guests::MOST)?;
    say("measure: distress");
    let distress = distress::measure(&bench)?;
    let lane = if arguments.no_lane { None } else { Some(lane::measure(&bench)?) };
    say("measure: waiting for the operator's figures");
    let operator = operator.join().map_err(|_| anyhow!("measuring the operator panicked"))??;
    text.add(&distress);
    text.add(lane.as_deref().unwrap_or(NO_LANE));
    text.add(&operator);
    text.add(&sizes);
    let mut costs = Vec::new();
    for count in [guests::MOST, 4, 0] {
        say(&format!("measure: {count} guests"));
        bench.keep(count);
        costs.extend(bench.costs()?);
    }
    drop(bench);
    say("measure: paused guests");
    costs.splice(..0, guests::Bench::paused()?);
    text.add(&guests::agent_table(&costs)?);
    text.add(&guests::host_table(&costs)?);
    text.add(&format!("All of it took {}.", told(begun.elapsed())));
    if arguments.write {
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
        std::fs::create_dir_all(&docs)?;
        let path = docs.join("measurements.md");
        std::fs::write(&path, text.whole).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

/// Sections, each printed as soon as it is known.
struct Text {
    whole: String,
}

impl Text {
    fn begin(head: &str) -> Self {
        println!("{}", head.trim_end());
        Self { whole: head.trim_end().to_owned() + "\n" }
    }

    fn add(&mut self, section: &str) {
        let section = section.trim_end();
        println!("\n{section}");
        self.whole.extend(["\n", section, "\n"]);
    }
}

const NO_LANE: &str = "The fast lane was left out (`--no-lane`).";

const HEAD: &str = "# Measurements

Written by `make measure ARGS=--write`: release builds, real QEMU guests under libvirt, a real API server. Three values
are minimum / median / maximum over the samples. How long it takes from `kubectl apply` to the first balloon command is
among the numbers that end `make demo`.

";
