//! `simulate`: what a policy makes of a scenario, without a node.

mod args;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use clap::Parser as _;
use overcommit_record::{Spool, Tape, Writer};
use overcommit_sim::files::{self, BAD_INPUT, Outlets};
use overcommit_sim::{Orders, Outcome, scenario, simulate_onto, table};

use args::Args;

fn main() -> ExitCode {
    let failed = |error, code| files::failed("simulate", &error, code);
    match Work::prepare(Args::parse()) {
        Err(error) => failed(error, BAD_INPUT),
        Ok(work) => work.run().map_or_else(|error| failed(error, 1), |()| ExitCode::SUCCESS),
    }
}

/// Everything that can be refused before a week is simulated.
struct Work {
    name: String,
    scenario: scenario::Scenario,
    orders: Orders,
    outlets: Outlets,
    record: Option<PathBuf>,
}

impl Work {
    fn prepare(args: Args) -> anyhow::Result<Self> {
        let (name, mut scenario) = files::scenario(&args.scenario)?;
        let course = args.scenario.display();
        let orders = files::orders(&args.policy)?;
        scenario.seed = args.seed.unwrap_or(scenario.seed);
        args.outlets.check([&args.scenario, &args.policy].into_iter().chain(&args.record))?;
        let (step, interval) = (scenario.step.0, orders.policy().interval);
        ensure!(
            step < interval,
            "scenario file {course}: step {step:?} is not shorter than the policy's interval {interval:?}: what the loop does \
             between two ticks would be missing; write a shorter step"
        );
        for doubt in orders.doubts(&scenario) {
            drop(writeln!(std::io::stderr(), "policy file {}: warning: {doubt}", args.policy.display()));
        }
        if let Some(path) = &args.record {
            Writer::check(path).with_context(|| format!("--record {}", path.display()))?;
        }
        Ok(Self { name, scenario, orders, outlets: args.outlets, record: args.record })
    }

    fn run(self) -> anyhow::Result<()> {
        let began = Instant::now();
        let spool = self.record.as_deref().map(Spool::new);
        let tape = spool.clone().map(|spool| Box::new(spool) as Box<dyn Tape + Send>);
        let outcome = simulate_onto(tape, &self.name, &self.scenario, &self.orders);
        spool.map_or(Ok(()), |spool| spool.close()).context("the recording cannot be written")?;
        tell_speed(&outcome, began);
        self.outlets.write(&outcome)?;
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
