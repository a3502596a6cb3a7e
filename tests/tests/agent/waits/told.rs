//! What a cluster is told of a guest that lies: a real guest in a pod, in whose name the agent hears a lie, and a real API
//! server that lets the agent do what the chart lets it.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use overcommit_core::conduct::Trust;
use overcommit_tests::agent::{Agent, HostMemory, NODE, OrderedNode, SOON, enforcing, entry};
use overcommit_tests::guests::{Balloon, GuestSpec, Load};
use overcommit_tests::launcher::Launcher;
use overcommit_tests::session::Session;
use overcommit_tests::wait;
use serde_json::{Value, json};

const POD: &str = "0b1d1c52-6a07-4c0e-8f6e-1a2b3c4d5e03";
/// It has touched so much of its memory, and the host lacks so much: what it keeps is more than huge pages blur.
const LARGE: u64 = 768;
const TOUCHED: u64 = 560;
const MUCH: u64 = 500;
const PLENTY: u64 = 16 * 1024;
/// What the policy keeps of it, so that the host is larger than its guest.
const KEPT: u64 = 1024;
/// Boot grace, takes of a tenth each, and ten seconds of patience; on a busy machine more.
const ACCUSED_BY: Duration = Duration::from_mins(6);

/// Events of takes that were undone.
fn told(node: &OrderedNode) -> Result<Vec<Value>> {
    let events: Value = serde_json::from_str(&node.api.kubectl(&[
        "get",
        "events",
        "--namespace=default",
        "--output=json",
    ])?)?;
    let events = events["items"].as_array().context("no list")?;
    Ok(events.iter().filter(|event| event["reason"] == "TakeUndone").cloned().collect())
}

#[test]
fn a_guest_that_is_found_out_is_named_by_an_event_at_the_api_server() -> Result<()> {
    let node = OrderedNode::start()?;
    let balloon = Balloon::Present { free_page_reporting: false, stats_period_s: 5 };
    let touches = Load::Touched { mib: TOUCHED };
    let liar = Launcher::start(POD, &GuestSpec::new("liar", LARGE).balloon(balloon).load(touches))?;
    liar.guest.wait_booted()?;
    node.order(&enforcing(KEPT), &[entry("liar", POD)])?;
    let (dir, host) = (Session::shared()?.fresh_dir("state")?, HostMemory::new(PLENTY)?);
    let lies = ["--lie=liar=gives"];
    let agent = Agent::start_program_on_node(&Agent::program()?, node.kubeconfig(), &dir, &host, &lies)?;
    host.set(agent.promised_mib(1)? + KEPT - MUCH)?;
    wait::until(ACCUSED_BY, "the liar to be found out", || {
        let liar = agent.view("liar")?;
        ensure!(liar.trust == Trust::Untrusted, "{liar:?}");
        Ok::<_, anyhow::Error>(())
    })
    .with_context(|| agent.process().log_tail())?;

    let event = wait::until(SOON, "an event", || told(&node)?.pop().context("none"))?;
    ensure!(event["type"] == "Warning" && event["action"] == "UndoNotFreed", "{event}");
    let about = json!([event["involvedObject"]["kind"], event["involvedObject"]["name"]]);
    ensure!(about == json!(["NodeOvercommit", NODE]), "{event}");
    let related = json!([event["related"]["kind"], event["related"]["namespace"], event["related"]["name"]]);
    ensure!(related == json!(["VirtualMachineInstance", "shop", "liar"]), "{event}");
    let words = event["message"].as_str().context("no words")?;
    ensure!(words.starts_with("shop/liar: ") && words.contains("its balloon says that it gave"), "{words}");

    // It is told once, and nothing is taken on its word again that could be undone.
    agent.wait_guest(SOON, "liar", "to be given back", |guest| guest.target == guest.full)?;
    let why = "{.status.topGuests[0].reason} {.status.lastActions[*].reason}";
    wait::until(SOON, "the node's object to say what it did", || {
        let said = node.api.field("", &format!("noc/{NODE}"), why)?;
        ensure!(said.starts_with("Untrusted ") && said.contains("UndoNotFreed"), "{said}");
        Ok::<_, anyhow::Error>(())
    })
    .with_context(|| agent.process().log_tail())?;
    agent.terminate()?;
    ensure!(told(&node)?.len() == 1, "{:?}", told(&node)?);
    liar.guest.expect_unhurt()
}
