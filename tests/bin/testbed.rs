//! The test bed by hand: builds its parts, starts a cluster that stays, ends it.

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use overcommit_tests::node::{ClusterSpec, Detached, PARTS};
use overcommit_tests::parts;
use overcommit_tests::product_images::PRODUCT_IMAGES;
use serde_json::Value;
use std::path::PathBuf;

/// The test bed: real Kubernetes with real `KubeVirt` on this machine.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Builds every part that is missing.
    Build,
    /// Says which parts would be built, and what they cost.
    Plan,
    /// Gets MOM, and says where its modules are.
    Mom,
    /// Starts a cluster that stays, and says how to use it.
    Up {
        /// How many nodes.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=2))]
        nodes: u8,
        /// Without `KubeVirt`.
        #[arg(long)]
        bare: bool,
        /// JSON to merge into `spec.configuration` of the `KubeVirt` resource.
        #[arg(long, default_value = "{}")]
        kubevirt: String,
    },
    /// Says whether a cluster stays here, and how to use it.
    Status,
    /// Ends the cluster.
    Down,
    /// What `up` starts: holds a cluster until SIGTERM.
    #[command(hide = true)]
    Hold { state: PathBuf, spec: String },
}

fn main() -> Result<()> {
    match Arguments::parse().command {
        Action::Build => parts::ensure_all(&everything()),
        Action::Plan => plan(),
        Action::Mom => {
            println!("{}", parts::mom_modules()?.display());
            Ok(())
        }
        Action::Up { nodes, bare, kubevirt } => {
            let configuration: Value = serde_json::from_str(&kubevirt).context("--kubevirt is not JSON")?;
            let spec = ClusterSpec { nodes, kubevirt: (!bare).then_some(configuration) };
            tell(&Detached::up(&spec)?)
        }
        Action::Status => match Detached::find()? {
            Some(cluster) => tell(&cluster),
            None => bail!("no cluster stays here; `testbed up` starts one"),
        },
        Action::Down => match Detached::find()? {
            Some(cluster) => cluster.down(),
            None => Ok(()),
        },
        Action::Hold { state, spec } => Detached::hold(&state, &serde_json::from_str::<ClusterSpec>(&spec)?),
    }
}

/// What tests and demonstrations run: a cluster's parts, the product's own images, and MOM and ksmtuned to compare with.
fn everything() -> Vec<&'static parts::Part> {
    PARTS.iter().copied().chain([&PRODUCT_IMAGES, &parts::MOM, &parts::KSMTUNED]).collect()
}

fn plan() -> Result<()> {
    for part in parts::missing(&everything())? {
        println!("{}: about {} s", part.name, part.cost.as_secs());
    }
    Ok(())
}

fn tell(cluster: &Detached) -> Result<()> {
    println!("{}\n# the cluster ends with: testbed down", cluster.how_to_use()?);
    Ok(())
}
