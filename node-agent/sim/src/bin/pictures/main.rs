//! `pictures`: what each parameter of a policy trades, drawn and as a table.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, anyhow};
use clap::Parser;
use overcommit_crds::file;
use overcommit_sim::files::{self, BAD_INPUT};
use overcommit_sim::scenario::Scenario;
use overcommit_sim::{sweep, trade};
use serde_json::Value;

/// Draws what each parameter of a policy trades (docs/parameters.md), each on its scenario.
#[derive(Debug, Parser)]
#[command(name = "pictures", version)]
struct Args {
    /// The folder of the scenarios.
    #[arg(long, value_name = "DIR")]
    scenarios: PathBuf,
    /// The policy in which one parameter after the other is changed.
    #[arg(long, value_name = "FILE")]
    policy: PathBuf,
    /// Where the pictures are written.
    #[arg(long, value_name = "DIR")]
    into: PathBuf,
}

fn main() -> ExitCode {
    let failed = |error, code| files::failed("pictures", &error, code);
    let args = Args::parse();
    match prepare(&args) {
        Err(error) => failed(error, BAD_INPUT),
        Ok((policy, scenarios)) => {
            run(&args, &policy, &scenarios).map_or_else(|error| failed(error, 1), |()| ExitCode::SUCCESS)
        }
    }
}

fn prepare(args: &Args) -> anyhow::Result<(Value, Vec<Scenario>)> {
    let shown = args.policy.display();
    let policy = file::value(&files::read("policy", &args.policy)?)
        .map_err(|error| anyhow!("policy file {shown}: {error}"))?;
    let read = |sweep: &sweep::Sweep| {
        let path = args.scenarios.join(sweep.scenario).with_extension("yaml");
        Ok(files::scenario(&path)?.1)
    };
    Ok((policy, sweep::ALL.iter().map(read).collect::<anyhow::Result<_>>()?))
}

fn run(args: &Args, policy: &Value, scenarios: &[Scenario]) -> anyhow::Result<()> {
    for (sweep, scenario) in sweep::ALL.iter().zip(scenarios) {
        let trials = sweep.run(scenario, policy).map_err(|error| anyhow!("{}: {error}", sweep.field()))?;
        let path = args.into.join(sweep.name).with_extension("svg");
        std::fs::write(&path, trade(sweep, &trials))
            .with_context(|| format!("{} cannot be written", path.display()))?;
        let mut text = format!("{} on {}\n", sweep.field(), sweep.scenario);
        for trial in &trials {
            let figures: Vec<String> = trial.figures.iter().map(ToString::to_string).collect();
            let _ = writeln!(text, "  {:<6} {}", trial.value, figures.join(", "));
        }
        std::io::stdout().write_all(text.as_bytes()).context("standard output cannot be written")?;
    }
    Ok(())
}
