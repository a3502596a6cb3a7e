//! `simulate`: what a policy makes of a scenario, without a node.

mod args;

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, anyhow, ensure};
use clap::Parser as _;
use overcommit_sim::{Orders, Outcome, picture, scenario, simulate, table};

use args::Args;

/// Bad usage or bad input, as clap has it.
const BAD_INPUT: u8 = 2;

fn main() -> ExitCode {
    let args = Args::parse();
    let told = |error: anyhow::Error, code: u8| {
        // Where nobody can read it, the exit code says it.
        drop(writeln!(std::io::stderr(), "simulate: {error:#}"));
        ExitCode::from(code)
    };
    match Work::prepare(&args) {
        Err(error) => told(error, BAD_INPUT),
        Ok(work) => work.run().map_or_else(|error| told(error, 1), |()| ExitCode::SUCCESS),
    }
}

/// Everything that can be refused before a week is simulated.
struct Work {
    name: String,
    scenario: scenario::Scenario,
    orders: Orders,
    json: Option<File>,
    svg: Option<File>,
}

impl Work {
    fn prepare(args: &Args) -> anyhow::Result<Self> {
        let shown = |path: &Path| path.display().to_string();
        let (course, policy) = (shown(&args.scenario), shown(&args.policy));
        let mut scenario = scenario::read(&read("scenario", &args.scenario)?)
            .map_err(|error| anyhow!("scenario file {course}: {error}"))?;
        let orders = Orders::read(&read("policy", &args.policy)?)
            .map_err(|error| anyhow!("policy file {policy}: {error}"))?;
        scenario.seed = args.seed.unwrap_or(scenario.seed);
        let name = args.scenario.file_stem().map_or(course, |stem| stem.to_string_lossy().into_owned());
        let create =
            |path: &Path| File::create(path).with_context(|| format!("{} cannot be written", path.display()));
        let json = args.json.as_deref().map(create).transpose()?;
        let svg = args.svg.as_deref().map(create).transpose()?;
        Ok(Self { name, scenario, orders, json, svg })
    }

    fn run(self) -> anyhow::Result<()> {
        let began = Instant::now();
        let outcome = simulate(&self.name, &self.scenario, &self.orders);
        tell_speed(&outcome, began);
        if let Some(mut file) = self.json {
            let json = serde_json::to_vec_pretty(&outcome).context("the outcome is no JSON")?;
            file.write_all(&json).context("the JSON file cannot be written")?;
        }
        if let Some(mut file) = self.svg {
            file.write_all(picture(&outcome).as_bytes()).context("the SVG file cannot be written")?;
        }
        std::io::stdout().write_all(table(&outcome).as_bytes()).context("standard output cannot be written")
    }
}

/// Apart from the outcome, which is the same each time.
fn tell_speed(outcome: &Outcome, began: Instant) {
    let took = began.elapsed();
    let times = outcome.lasted.as_millis().checked_div(took.as_millis().max(1)).unwrap_or_default();
    let seconds = took.as_secs_f64();
    drop(writeln!(std::io::stderr(), "took {seconds:.1} s, {times} times faster than life"));
}

fn read(what: &str, path: &Path) -> anyhow::Result<Vec<u8>> {
    let shown = path.display();
    let about = fs::metadata(path).with_context(|| format!("{what} file {shown} cannot be read"))?;
    // A pipe would be waited for without end.
    ensure!(about.is_file(), "{what} file {shown} is no regular file: write the {what} to one and name that");
    let limit = u64::try_from(scenario::MAX_BYTES).unwrap_or(u64::MAX).saturating_add(1);
    let mut content = Vec::new();
    let taken = File::open(path).and_then(|file| file.take(limit).read_to_end(&mut content));
    taken.with_context(|| format!("{what} file {shown} cannot be read"))?;
    Ok(content)
}
