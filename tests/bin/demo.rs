//! `make demo`: the main road on a real one-node Kubernetes with real KubeVirt, shown step by step.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, bail};
use clap::Parser;
use clap::builder::FalseyValueParser;
use overcommit_tests::node::{Cluster, ClusterSpec, Detached};
use overcommit_tests::parts::told;
use overcommit_tests::road::Road;
use overcommit_tests::screen::Screen;

/// The main road on a real Kubernetes with real KubeVirt.
#[derive(Parser)]
struct Arguments {
    /// Leave the cluster up, with the release installed and the guests running.
    #[arg(long, env = "KEEP", value_parser = FalseyValueParser::new(), action = clap::ArgAction::SetTrue)]
    keep: bool,
}

fn main() -> ExitCode {
    let keep = Arguments::parse().keep;
    match if keep { demo_that_stays() } else { demo() } {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn demo() -> Result<()> {
    if Detached::find()?.is_some() {
        bail!(
            "an earlier KEEP=1 left a cluster up. `KEEP=1 make demo` walks the road on it once more, `make demo-end` \
             ends it"
        );
    }
    let (begun, screen) = (Instant::now(), Screen::stdout());
    screen.heading("   0 s  a real Kubernetes with real KubeVirt, in namespaces of its own on this machine");
    let cluster = Cluster::start(&ClusterSpec::default())?;
    let road = Road::new(&cluster, &screen, begun);
    let summary = road.walk()?;
    road.uninstall()?;
    screen.heading(&format!("{:>4} s  the numbers", begun.elapsed().as_secs()));
    screen.say(&summary.to_string());
    cluster.stop()?;
    screen.say(&format!("  the whole took {}; the machine is as it was", told(begun.elapsed())));
    Ok(())
}

fn demo_that_stays() -> Result<()> {
    let (begun, screen) = (Instant::now(), Screen::stdout());
    let kept = Detached::find()?;
    let detached = if let Some(kept) = &kept {
        kept.clone()
    } else {
        screen.heading("   0 s  a real Kubernetes with real KubeVirt, which stays until `make demo-end`");
        Detached::up(&ClusterSpec::default())?
    };
    let walked = walk_on(&detached, kept.is_some(), &screen, begun);
    screen.heading("the cluster stays");
    screen.say(&detached.how_to_use()?);
    screen.say(
        "# try:\nkubectl get vmi\nkubectl apply -f deploy/samples/observe.yaml\nkubectl get ocp,noc\n\
         kubectl explain ocp.spec --recursive\n# the demonstration once more: KEEP=1 make demo\n# the end of it all: \
         make demo-end",
    );
    walked
}

fn walk_on(detached: &Detached, used: bool, screen: &Screen, begun: Instant) -> Result<()> {
    let cluster = detached.attach()?;
    let road = Road::new(&cluster, screen, begun);
    if used {
        road.clear()?;
    }
    let summary = road.walk()?;
    screen.heading(&format!("{:>4} s  the numbers", begun.elapsed().as_secs()));
    screen.say(&summary.to_string());
    Ok(())
}
