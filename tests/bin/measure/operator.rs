//! What the operator needs, and what it and the agents write to the API server, in steady state.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use overcommit_tests::api::{Access, Api, Identity, free_port};
use overcommit_tests::chart;
use overcommit_tests::machine::resident_bytes;
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

/// What one window showed.
struct Figures {
    nodes: usize,
    resident: Spread,
    anonymous: Spread,
    /// Writes per minute by verb and resource.
    writes: BTreeMap<String, f64>,
}

/// One node with its agent, and many without, side by side.
pub(crate) fn measure() -> Result<String> {
    let many = std::thread::spawn(|| window(MANY, false));
    let one = window(1, true)?;
    let many = many.join().map_err(|_| anyhow!("measuring many nodes panicked"))??;
    let mut text = String::from(
        "## The operator, and what is written to the API server\n\nSteady state, two minutes. One node runs a real agent without guests; of the 200 only \
         their Node objects exist.\n\n| nodes | operator resident, MiB | anonymous, MiB | writes per minute |\n| --- | --- | --- | --- |\n",
    );
    for figures in [one, many] {
        let writes: Vec<String> =
            figures.writes.iter().map(|(what, per_minute)| format!("{what} {per_minute:.1}")).collect();
        let writes = if writes.is_empty() { "none".to_owned() } else { writes.join(", ") };
        writeln!(text, "| {} | {} | {} | {writes} |", figures.nodes, figures.resident, figures.anonymous)?;
    }
    Ok(text.trim_end().to_owned())
}

fn window(nodes: usize, agent: bool) -> Result<Figures> {
    let api = Api::start()?;
    api.install_vmi_crd()?;
    let chart = chart::folder();
    let chart = chart.to_str().context("the path of the chart is not UTF-8")?;
    api.helm(&["install", "overcommit", chart, "--namespace", NAMESPACE, "--create-namespace"])?;
    api.apply(&node_list(nodes).to_string())?;
    let operator = operator(&api)?;
    let policy = json!({"apiVersion": "overcommit.dev/v1alpha1", "kind": "OvercommitPolicy",
        "metadata": {"name": "pool"}, "spec": {"mode": "Enforce"}});
    wait::until(SOON, "the policy", || api.apply(&policy.to_string()))?;
    wait::until(SOON, "an object for each node", || {
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
    Ok(Figures { nodes, resident: Spread::of(residents), anonymous: Spread::of(anonymous), writes: after })
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
