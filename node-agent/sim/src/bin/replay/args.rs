//! The command line.

use std::path::PathBuf;

use clap::Parser;
use overcommit_sim::files::Outlets;

/// Makes every decision again that an agent recorded with `--record`, and says whether each is the same, bit by bit.
#[derive(Debug, Parser)]
#[command(name = "replay", version)]
pub(crate) struct Args {
    /// The recording; if there are two files, the older first.
    #[arg(required = true, value_name = "FILE")]
    pub(crate) recordings: Vec<PathBuf>,
    /// What this policy would have decided in each situation, an OvercommitPolicy as for kubectl apply.
    #[arg(long, value_name = "FILE")]
    pub(crate) policy: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) outlets: Outlets,
}
