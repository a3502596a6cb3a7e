//! `replay`: every recorded decision once more, and what another policy would have decided.

mod args;

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;
use overcommit_record::{Faults, Reader};
use overcommit_sim::files::{self, BAD_INPUT, Outlets};
use overcommit_sim::replay::{Replayed, replay};
use overcommit_sim::{Orders, harmless, table};

use args::Args;

fn main() -> ExitCode {
    let failed = |error, code| files::failed("replay", &error, code);
    let work = Work::prepare(Args::parse()).and_then(|work| Ok((work.replay()?, work)));
    match work {
        Err(error) => failed(error, BAD_INPUT),
        // A decision that differs is what a script asks for.
        Ok((replayed, work)) => {
            work.tell(&replayed).map_or_else(|error| failed(error, 1), |same| ExitCode::from(u8::from(!same)))
        }
    }
}

/// Everything that can be refused before anything is decided.
struct Work {
    name: String,
    orders: Option<Orders>,
    readers: Vec<Reader>,
    outlets: Outlets,
}

impl Work {
    fn prepare(args: Args) -> anyhow::Result<Self> {
        files::check_recordings(&args.recordings)?;
        let orders = args.policy.as_deref().map(files::orders).transpose()?;
        let readers = args.recordings.iter().map(|path| {
            let named = || format!("recording {}", path.display());
            overcommit_record::read(path).with_context(named)
        });
        let readers = readers.collect::<anyhow::Result<_>>()?;
        args.outlets.check(args.recordings.iter().chain(&args.policy))?;
        let names = args.recordings.iter().map(|path| path.display().to_string());
        Ok(Self { name: names.collect::<Vec<_>>().join(", "), orders, readers, outlets: args.outlets })
    }

    fn replay(&self) -> anyhow::Result<Replayed> {
        let replayed = replay(&self.name, self.orders.as_ref(), |each| {
            for reader in &self.readers {
                reader.lines(&mut *each);
            }
        });
        replayed.context(self.faults().iter().fold(self.name.clone(), |text, fault| text + ": " + fault))
    }

    /// True if every decision came out as it was recorded, another policy's need not, and nothing is damaged.
    fn tell(&self, replayed: &Replayed) -> anyhow::Result<bool> {
        self.outlets.write(&replayed.outcome)?;
        let mut told = table(&replayed.outcome);
        told.push('\n');
        told.push_str(&verdict(replayed, self.orders.as_ref()));
        for fault in self.faults() {
            let _ = writeln!(told, "{fault}");
        }
        let mut stdout = std::io::stdout();
        stdout.write_all(harmless(&told).as_bytes()).context("standard output cannot be written")?;
        let damaged = self.readers.iter().any(|reader| reader.faults().damaged > 0);
        Ok(!damaged && (self.orders.is_some() || replayed.differing == 0))
    }

    /// What could not be read, for people.
    fn faults(&self) -> Vec<String> {
        let sum = |of: fn(&Faults) -> u64| {
            self.readers.iter().map(|reader| of(&reader.faults())).fold(0, u64::saturating_add)
        };
        [
            (sum(|f| f.damaged), "parts are damaged: what stood in them behind the damage is missing"),
            (
                sum(|f| f.torn),
                "times it ends in the middle: its agent was killed, or still runs, or the disk was full; up to a second before \
                 that is missing",
            ),
            (sum(|f| f.unknown), "lines are of another build: use that build's replay"),
        ]
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect()
    }
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
