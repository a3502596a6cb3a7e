//! `make demo`: the main road on a real one-node Kubernetes with real KubeVirt, shown step by step.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use overcommit_tests::node::Cluster;
use overcommit_tests::road::Road;

fn main() -> ExitCode {
    match demo() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn demo() -> Result<()> {
    let began = Instant::now();
    let step = |what: &str| println!("\n▶ {:>4} s  {what}", began.elapsed().as_secs());
    let tell = |what: &str| println!("{what}");
    step("a real Kubernetes with real KubeVirt (the first time, its parts are built: about 20 minutes)");
    let cluster = Cluster::shared()?;
    let road = Road::new(cluster, &tell);
    step("our images and chart");
    road.install()?;
    step("three virtual machines: one idle, one that works in waves, one opted out");
    road.start_guests()?;
    step("a policy that only observes");
    road.apply("Observe", "Observing")?;
    step("memory becomes short; what would the policy do?");
    let squeeze = road.squeeze()?;
    road.wait_settled()?;
    step("the same policy, enforced");
    road.apply("Enforce", "Enforcing")?;
    road.wait_settled()?;
    step("memory moves to whoever works");
    let (worker, idle) = road.wait_moved()?;
    step("why?");
    road.explain("idle")?;
    let opened = squeeze.opened();
    squeeze.release()?;
    step("the policy goes: everything is given back");
    road.delete_policy()?;
    step("the release goes");
    road.uninstall()?;
    println!("\n  while memory was short: worker {worker} MiB, idle {idle} MiB; opted out untouched");
    println!("  valve: {}", opened.as_deref().unwrap_or("never needed"));
    println!("  all guests have their full size again; the whole took {} s", began.elapsed().as_secs());
    Ok(())
}
