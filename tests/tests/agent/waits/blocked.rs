//! A release that the node cannot pay: a real guest in a pod, and what a real API server is told until it can.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use overcommit_tests::agent::{Agent, HostMemory, NODE, OrderedNode, SOON, enforcing, entry};
use overcommit_tests::guests::GuestSpec;
use overcommit_tests::launcher::Launcher;
use overcommit_tests::machine::MIB;
use overcommit_tests::session::Session;
use overcommit_tests::wait;

const POD: &str = "0b1d1c52-6a07-4c0e-8f6e-1a2b3c4d5e04";
const SIZE: u64 = 384;
/// What the host lacks for its guest.
const SHORT: u64 = 100;
const PLENTY: u64 = 16 * 1024;
/// What the policy keeps of the host, which a release may spend.
const KEPT: u64 = 1024;
const SQUEEZED_BY: Duration = Duration::from_mins(6);
/// A report of the node is written within 32 s of a change.
const TOLD_BY: Duration = Duration::from_mins(2);

fn wait_told(node: &OrderedNode, agent: &Agent, reason: &str, words: &str) -> Result<()> {
    let field = |name: &str| {
        let path = format!("{{.status.conditions[?(@.type==\"Released\")].{name}}}");
        node.api.field("", &format!("noc/{NODE}"), &path)
    };
    wait::until(TOLD_BY, format!("the condition Released to say {reason}"), || {
        let (seen, said) = (field("reason")?, field("message")?);
        ensure!(seen == reason && said.contains(words), "{seen}: {said}");
        Ok(())
    })
    .with_context(|| agent.process().log_tail())
}

#[test]
fn a_release_that_the_node_cannot_pay_says_so_at_the_api_server_and_is_done_once_it_can() -> Result<()> {
    let node = OrderedNode::start()?;
    let owed = Launcher::start(POD, &GuestSpec::new("owed", SIZE).stats_period_s(5))?;
    owed.guest.wait_booted()?;
    node.order(&enforcing(KEPT), &[entry("owed", POD)])?;
    let (dir, host) = (Session::shared()?.fresh_dir("state")?, HostMemory::new(PLENTY)?);
    let agent = Agent::start_program_on_node(&Agent::program()?, node.kubeconfig(), &dir, &host, &[])?;
    let promised = agent.promised_mib(1)?;
    host.set(promised + KEPT - SHORT)?;
    agent.wait_guest(SQUEEZED_BY, "owed", "to be squeezed", |guest| {
        // Its balloon too: what a slow guest has not given yet costs nothing to give back.
        guest.actual + (SHORT / 2 * MIB) < guest.full
    })?;

    // All that the policy kept is gone, and then all is asked back.
    host.set(promised - SHORT)?;
    let release = ["patch", "noc", NODE, "--type=merge", "--patch", r#"{"spec":{"release":true}}"#];
    node.api.kubectl(&release)?;
    wait_told(&node, &agent, "ReleaseBlocked", "stop or move guests")?;
    ensure!(owed.guest.memory_stats()?.actual_kib < (SIZE - SHORT / 2) * 1024, "who gave that?");
    host.set(PLENTY)?;
    wait_told(&node, &agent, "Released", "everything was given back")?;
    wait::until(SOON, "its full size", || {
        owed.guest.memory_stats().is_ok_and(|stats| stats.actual_kib == SIZE * 1024)
    })?;
    agent.terminate()?;
    owed.guest.expect_unhurt()
}
