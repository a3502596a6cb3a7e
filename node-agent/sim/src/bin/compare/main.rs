//! `compare`: the agent's loop beside others who could drive the balloons.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, anyhow};
use clap::Parser;
use overcommit_sim::compare::{Comparison, compare, page, table};
use overcommit_sim::files::{self, BAD_INPUT};
use overcommit_sim::{Orders, scenario};

/// Runs scenarios by the agent's loop, by nobody, by a fixed split, by a naive loop, by MOM's stock policy, and by one who knows
/// what each guest will need; says how much of the way from nobody to that one each goes.
#[derive(Debug, Parser)]
#[command(name = "compare", version)]
struct Args {
    /// Scenarios, YAML files (docs/simulator.md).
    #[arg(required = true, value_name = "SCENARIO")]
    scenarios: Vec<PathBuf>,
    /// The policy of the agent's loop, an OvercommitPolicy as for kubectl apply.
    #[arg(long, value_name = "FILE")]
    policy: PathBuf,
    /// Writes everything as JSON, too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// A page whose table of scenarios gets the rows of these; the others stay.
    #[arg(long, value_name = "FILE")]
    page: Option<PathBuf>,
}

fn main() -> ExitCode {
    let failed = |error, code| files::failed("compare", &error, code);
    let args = Args::parse();
    match prepare(&args) {
        Err(error) => failed(error, BAD_INPUT),
        Ok((orders, scenarios)) => {
            run(&args, &orders, &scenarios).map_or_else(|error| failed(error, 1), |()| ExitCode::SUCCESS)
        }
    }
}

type Named = (String, scenario::Scenario);

fn prepare(args: &Args) -> anyhow::Result<(Orders, Vec<Named>)> {
    let orders = files::orders(&args.policy)?;
    let scenarios =
        args.scenarios.iter().map(|path| files::scenario(path)).collect::<anyhow::Result<Vec<Named>>>()?;
    files::check_outlets(&args.json, args.scenarios.iter().chain([&args.policy]))?;
    if let Some(path) = &args.page {
        page::replace(&page_at(path)?, &[]).with_context(|| path.display().to_string())?;
    }
    Ok((orders, scenarios))
}

fn run(args: &Args, orders: &Orders, scenarios: &[Named]) -> anyhow::Result<()> {
    let mut all: Vec<Comparison> = Vec::new();
    for (name, scenario) in scenarios {
        // One after the other, so that whoever waits sees how far it is.
        let comparison = compare(name, scenario, orders);
        let text = table(std::slice::from_ref(&comparison));
        std::io::stdout().write_all(text.as_bytes()).context("standard output cannot be written")?;
        all.push(comparison);
    }
    let write = |path: &Path, text: Vec<u8>| {
        std::fs::write(path, text).with_context(|| format!("{} cannot be written", path.display()))
    };
    if let Some(path) = &args.json {
        let text =
            serde_json::to_vec_pretty(&all).map_err(|error| anyhow!("the comparison is no JSON: {error}"))?;
        write(path, text)?;
    }
    if let Some(path) = &args.page {
        let text = page::replace(&page_at(path)?, &all).with_context(|| path.display().to_string())?;
        write(path, text.into_bytes())?;
    }
    Ok(())
}

fn page_at(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))
}
