//! What the operator needs, and what it and the agents write to the API server, in steady state.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use overcommit_crds::policy::PROGRAM_MAX;
use overcommit_tests::api::{Access, Api, Identity, free_port};
use overcommit_tests::chart;
use overcommit_tests::machine::resident_bytes;
use overcommit_tests::parts::say;
use overcommit_tests::process::{Launch, Process};
use overcommit_tests::session::Session;
use overcommit_tests::wait;
use serde_json::json;

use crate::spread::Spread;
use overcommit_tests::cost::{memory, released};

const NAMESPACE: &str = "overcommit";
const SOON: Duration = Duration::from_mins(2);
/// After the last node has its object: caches have settled, first statuses are written.
const SETTLED: Duration = Duration::from_secs(20);
const WINDOW: Duration = Duration::from_mins(2);
const SAMPLE: Duration = Duration::from_secs(10);
const MANY: usize = 200;

/// Nodes whose policy carries a program of the size that is allowed, which is in each node's object.
const NODES_WITH_PROGRAM: usize = 5000;
/// Until each of so many nodes has its object.
const LATER: Duration = Duration::from_mins(20);

/// A cluster.
#[derive(Clone, Copy)]
struct Trial {
    nodes: usize,
    /// The first node runs an agent.
    agent: bool,
    /// The policy carries a program.
    program: bool,
}

/// What one window showed.
struct Figures {
    nodes: usize,
    resident: Spread,
    anonymous: Spread,
    /// MiB resident at most since it started: while it lists, and writes all objects.
    most: f64,
    /// Writes per minute by verb and resource.
    writes: BTreeMap<String, f64>,
}

/// One node with its agent, and many without, side by side.
pub(crate) fn measure() -> Result<String> {
    let many = Trial { nodes: MANY, agent: false, program: false };
    let many = std::thread::spawn(move || window(many));
    let one = window(Trial { nodes: 1, agent: true, program: false })?;
    let many = many.join().map_err(|_| anyhow!("measuring many nodes panicked"))??;
    let mut text = String::from(
        "## The operator, and what is written to the API server\n\nSteady state, two minutes. One node runs a real agent without guests; of the 200 only \
         their Node objects exist.\n\n",
    );
    table(&mut text, &[one, many])?;
    Ok(text)
}

/// Thousands of nodes, without agents, and a policy with the longest program that one may have.
pub(crate) fn programs() -> Result<String> {
    say("measure: an operator of thousands of nodes whose policy carries a program");
    let figures = window(Trial { nodes: NODES_WITH_PROGRAM, agent: false, program: true })?;
    let mut text = format!(
        "## The operator of nodes with a program\n\nAs above, where the policy carries a program of {} KiB, which each node's object has too.\n\n",
        PROGRAM_MAX / 1024
    );
    table(&mut text, &[figures])?;
    Ok(text)
}

fn table(text: &mut String, all: &[Figures]) -> Result<()> {
    text.push_str("| nodes | operator resident, MiB | anonymous, MiB | most resident since its start, MiB | writes per minute |\n| --- | --- | --- | --- | --- |\n");
    for figures in all {
        let Figures { nodes, resident, anonymous, most, writes } = figures;
        let writes: Vec<String> =
            writes.iter().map(|(what, per_minute)| format!("{what} {per_minute:.1}")).collect();
        let writes = if writes.is_empty() { "none".to_owned() } else { writes.join(", ") };
        writeln!(text, "| {nodes} | {resident} | {anonymous} | {most:.1} | {writes} |")?;
    }
    text.truncate(text.trim_end().len());
    Ok(())
}

fn window(Trial { nodes, agent, program }: Trial) -> Result<Figures> {
    let api = Api::start()?;
    api.install_vmi_crd()?;
    let chart = chart::folder();
    let chart = chart.to_str().context("the path of the chart is not UTF-8")?;
    api.helm(&["install", "overcommit", chart, "--namespace", NAMESPACE, "--create-namespace"])?;
    api.apply(&node_list(nodes).to_string())?;
    let operator = operator(&api)?;
    let engine = if program {
        json!({"mom": {"slots": [{"name": "main", "program": longest()}]}})
    } else {
        json!({"adaptive": {}})
    };
    let policy = json!({"apiVersion": "overcommit.dev/v1alpha1", "kind": "OvercommitPolicy",
        "metadata": {"name": "pool"}, "spec": {"mode": "Enforce", "engine": engine}});
    wait::until(SOON, "the policy", || api.apply(&policy.to_string()))?;
    wait::until(LATER, "an object for each node", || {
        let listed = api.kubectl(&["get", "noc", "--output=name"])?;
        ensure!(listed.lines().count() == nodes, "{} of {nodes}", listed.lines().count());
        Ok::<_, anyhow::Error>(())
    })?;
    let _agent = if agent { Some(node_agent(&api)?) } else { None };
    pass(SETTLED)?;
    let before = writes(&api)?;
    let (begun, mut residents, mut anonymous) = (Instant::now(), Vec::new(), Vec::new());
    while begun.elapsed() < WINDOW {
        pass(SAMPLE)?;
        residents.push(f64::from(u32::try_from(resident_bytes(operator.pid())? >> 10)?) / 1024.0);
        anonymous.push(memory(operator.pid())?.anonymous);
    }
    let minutes = begun.elapsed().as_secs_f64() / 60.0;
    let mut after = writes(&api)?;
    for (what, count) in &mut after {
        *count = (*count - before.get(what).copied().unwrap_or_default()) / minutes;
    }
    after.retain(|_, per_minute| *per_minute > 0.0);
    let most = peak_mib(operator.pid())?;
    let (resident, anonymous) = (Spread::of(residents), Spread::of(anonymous));
    Ok(Figures { nodes, resident, anonymous, most, writes: after })
}

/// A program as long as a policy's may be: a stock rule, and words about it.
fn longest() -> String {
    let rule = include_str!("../../../deploy/samples/mom/balloon.rules");
    let words = "# balloon".repeat(PROGRAM_MAX / 8);
    let mut text = format!("{rule}\n{words}");
    text.truncate(PROGRAM_MAX);
    text
}

fn peak_mib(pid: u32) -> Result<f64> {
    let status = procfs::process::Process::new(i32::try_from(pid)?)?.status()?;
    let kib = status.vmhwm.context("no VmHWM")?;
    Ok(f64::from(u32::try_from(kib)?) / 1024.0)
}

/// Lets a span of the window pass.
fn pass(span: Duration) -> Result<()> {
    let begun = Instant::now();
    wait::until(span * 2, "the end of a sample", || begun.elapsed() >= span)
}

fn node_list(count: usize) -> serde_json::Value {
    let node = |number: usize| {
        json!({"apiVersion": "v1", "kind": "Node",
            "metadata": {"name": format!("node-{number:03}"), "labels": {"kubevirt.io/schedulable": "true"}}})
    };
    json!({"apiVersion": "v1", "kind": "List", "items": (0..count).map(node).collect::<Vec<_>>()})
}

fn operator(api: &Access) -> Result<Process> {
    let account = Identity { namespace: NAMESPACE, name: "overcommit-operator", node: None };
    let access = api.as_service_account(account)?;
    let port = free_port()?;
    let launch = Launch::new("operator", released("overcommit-operator")?)
        .arg("run")
        .arg(format!("--http=127.0.0.1:{port}"))
        .env("KUBECONFIG", access.kubeconfig_path());
    let process = Session::shared()?.spawn(launch)?;
    process.ready(SOON, "its port", || TcpStream::connect(("127.0.0.1", port)).map(drop))?;
    Ok(process)
}

/// The agent of the first node. This machine has no launchers, so it has no guests.
fn node_agent(api: &Access) -> Result<Process> {
    let account = Identity { namespace: NAMESPACE, name: "overcommit-agent", node: Some("node-000") };
    let access = api.as_service_account(account)?;
    let launch = Launch::new("agent", released("overcommit-agent")?)
        .args(["run", "--node", "node-000", "--state-dir"])
        .arg(Session::shared()?.fresh_dir("agent-state")?)
        .env("KUBECONFIG", access.kubeconfig_path());
    let process = Session::shared()?.spawn(launch)?;
    let said = "{.status.conditions[?(@.type==\"Ready\")].status}";
    api.wait_field("", "noc/node-000", said, SOON, |seen| seen == "True")
        .with_context(|| process.log_tail())?;
    Ok(process)
}

/// Writes so far of our objects and of events, which nobody else writes here.
fn writes(api: &Access) -> Result<BTreeMap<String, f64>> {
    let mut counts = BTreeMap::new();
    for line in api.kubectl(&["get", "--raw=/metrics"])?.lines() {
        let Some(labels) = line.strip_prefix("apiserver_request_total{") else { continue };
        let label = |name: &str| {
            let rest = labels.split_once(&format!("{name}=\"")).map_or("", |(_, rest)| rest);
            rest.split('"').next().unwrap_or_default()
        };
        let (verb, resource) = (label("verb"), label(",resource"));
        let ours = label("group") == "overcommit.dev" || resource == "events";
        let writes = ["POST", "PUT", "PATCH", "APPLY", "DELETE"].contains(&verb);
        if ours && writes {
            let count: f64 = line.rsplit(' ').next().unwrap_or_default().parse().context("a count")?;
            let status = if label("subresource") == "status" { "/status" } else { "" };
            *counts.entry(format!("{verb} {resource}{status}")).or_insert(0.0) += count;
        }
    }
    Ok(counts)
}
