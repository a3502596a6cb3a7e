//! The command line.

use std::path::PathBuf;

use clap::Parser;
use overcommit_sim::files::Outlets;

/// Runs a scenario of a node and its guests under a policy, by the very decisions of the agent.
#[derive(Debug, Parser)]
#[command(name = "simulate", version)]
pub(crate) struct Args {
    /// The scenario, a YAML file (docs/simulator.md).
    #[arg(long, value_name = "FILE")]
    pub(crate) scenario: PathBuf,
    /// The policy, an OvercommitPolicy as for kubectl apply. One with mode: Observe shows what happens without control.
    #[arg(long, value_name = "FILE")]
    pub(crate) policy: PathBuf,
    /// Another seed than the scenario's.
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    #[command(flatten)]
    pub(crate) outlets: Outlets,
    /// Records every decision as an agent does with --record, for `replay`.
    #[arg(long, value_name = "FILE")]
    pub(crate) record: Option<PathBuf>,
}
