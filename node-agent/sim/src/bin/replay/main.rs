//! `replay`: every recorded decision once more, and what another policy would have decided.

mod args;

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, anyhow};
use clap::Parser as _;
use overcommit_record::Reader;
use overcommit_sim::files::{self, Outlets};
use overcommit_sim::replay::{Replayed, replay};
use overcommit_sim::{Orders, table};

use args::Args;

/// Bad usage or bad input, as clap has it.
const BAD_INPUT: u8 = 2;

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        // A decision that differs is what a script asks for.
        Ok(same) => ExitCode::from(u8::from(!same)),
        Err(error) => {
            // Where nobody can read it, the exit code says it.
            drop(writeln!(std::io::stderr(), "replay: {error:#}"));
            ExitCode::from(BAD_INPUT)
        }
    }
}

/// True if every decision came out as it was recorded; another policy's need not.
fn run(args: &Args) -> anyhow::Result<bool> {
    let orders = args.policy.as_deref().map(|path| {
        Orders::read(&files::read("policy", path)?)
            .map_err(|error| anyhow!("policy file {}: {error}", path.display()))
    });
    let orders = orders.transpose()?;
    let readers = args.recordings.iter().map(|path| {
        let named = || format!("recording {}", path.display());
        overcommit_record::read(path).with_context(named)
    });
    let readers = readers.collect::<anyhow::Result<Vec<Reader>>>()?;
    let inputs = args.recordings.iter().chain(&args.policy).map(PathBuf::as_path).collect::<Vec<_>>();
    let outlets = Outlets::check(args.json.as_deref(), args.svg.as_deref(), &inputs)?;
    let names = args.recordings.iter().map(|path| path.display().to_string());
    let name = names.collect::<Vec<_>>().join(", ");
    let replayed = replay(&name, orders.as_ref(), |each| {
        for reader in &readers {
            reader.lines(&mut *each);
        }
    })?;
    outlets.write(&replayed.outcome)?;
    let (torn, unread) = readers.iter().map(Reader::faults).fold((0, 0), |(torn, unread), faults| {
        (faults.0.saturating_add(torn), faults.1.saturating_add(unread))
    });
    let mut told = table(&replayed.outcome);
    told.push('\n');
    told.push_str(&verdict(&replayed, orders.as_ref()));
    if torn > 0 {
        let _ = writeln!(
            told,
            "{torn} times the agent was killed while it wrote: the last second before is missing"
        );
    }
    if unread > 0 {
        let _ = writeln!(told, "{unread} lines are of another build: use that build's replay");
    }
    std::io::stdout().write_all(told.as_bytes()).context("standard output cannot be written")?;
    Ok(orders.is_some() || replayed.differing == 0)
}

fn verdict(replayed: &Replayed, orders: Option<&Orders>) -> String {
    let Replayed { decisions, differing, differences, remarks, .. } = replayed;
    let mut text = match (orders, differing) {
        (None, 0) => format!("{decisions} decisions, each made again bit by bit\n"),
        (None, _) => format!("{differing} of {decisions} decisions come out differently, first:\n"),
        (Some(orders), 0) => {
            format!("{decisions} decisions, and policy {} would have made the same\n", orders.name)
        }
        (Some(orders), _) => {
            format!(
                "policy {} would have decided {differing} of {decisions} situations differently, first:\n",
                orders.name
            )
        }
    };
    for line in differences.iter().chain(remarks) {
        text.push_str(line);
        text.push('\n');
    }
    text
}
