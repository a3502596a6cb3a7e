//! The agent and its object at a real API server: which version of its orders a status speaks of.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "all of this is test code; the exception in clippy.toml sees only the test functions"
)]

use std::path::Path;
use std::time::Duration;

use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api as Objects, Client};
use overcommit_crds::NodeOvercommit;
use overcommit_crds::condition::{Condition, ConditionStatus};
use overcommit_tests::agent::Agent;
use overcommit_tests::api::{Access, Api, Identity};
use overcommit_tests::process::{Launch, Process};
use overcommit_tests::session::Session;
use overcommit_tests::wait::{until, until_async};
use serde_json::{Value, json};

const NAMESPACE: &str = "overcommit-system";
const SOON: Duration = Duration::from_mins(3);

/// Installs the chart, so that the agent has the rights it has on a node and no more.
fn install(api: &Api) {
    api.install_vmi_crd().unwrap();
    let chart = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("deploy/chart");
    let chart = chart.to_str().unwrap();
    api.helm(&["install", "overcommit", chart, "--namespace", NAMESPACE, "--create-namespace"]).unwrap();
    api.wait_established("nodeovercommits.overcommit.dev").unwrap();
}

/// A service account's access to the API server, with a token as the agent's pod on `node` has it.
fn access(api: &Api, node: &str, name: &str) -> Access {
    api.as_service_account(Identity { namespace: NAMESPACE, name, node: Some(node) }).unwrap()
}

fn start(access: &Access, node: &str, state_dir: &Path) -> Process {
    let launch = Launch::new("agent", Agent::program().unwrap())
        .args(["run", "--node", node, "--state-dir"])
        .arg(state_dir)
        .env("KUBECONFIG", access.kubeconfig_path());
    Session::shared().unwrap().spawn(launch).unwrap()
}

fn object(node: &str, release: bool) -> NodeOvercommit {
    let resolved = overcommit_crds::resolve::resolve(&overcommit_crds::OvercommitPolicySpec::default());
    let object = json!({
        "apiVersion": "overcommit.dev/v1alpha1",
        "kind": "NodeOvercommit",
        "metadata": { "name": node },
        "spec": { "policy": "p", "revision": "r", "resolved": resolved, "release": release },
    });
    serde_json::from_value(object).unwrap()
}

/// The objects, made as the administrator once the installed schema answers.
async fn create(client: &Client, node: &str, release: bool) -> Objects<NodeOvercommit> {
    let objects: Objects<NodeOvercommit> = Objects::all(client.clone());
    let made = || async { objects.create(&PostParams::default(), &object(node, release)).await.map(drop) };
    until_async(SOON, "the object", || async { made().await.map_err(|e| e.to_string()) }).await.unwrap();
    objects
}

async fn change(objects: &Objects<NodeOvercommit>, node: &str, spec: Value) {
    let patch = json!({ "spec": spec });
    objects.patch(node, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
}

/// Waits until every condition speaks of the object as it is now, and `what` holds.
async fn told(
    objects: &Objects<NodeOvercommit>,
    node: &str,
    what: &str,
    so: impl Fn(&[Condition]) -> bool,
) -> NodeOvercommit {
    let look = || async {
        let object = objects.get(node).await.map_err(|e| e.to_string())?;
        let conditions = object.status.as_ref().map_or(&[][..], |s| &s.conditions);
        let current = |c: &Condition| c.observed_generation == object.metadata.generation;
        let good = !conditions.is_empty() && conditions.iter().all(current) && so(conditions);
        if good { Ok(object) } else { Err(format!("{:?} {conditions:?}", object.metadata.generation)) }
    };
    until_async(SOON, what, look).await.unwrap()
}

fn released(conditions: &[Condition]) -> bool {
    conditions.iter().any(|c| c.type_ == "Released" && c.status == ConditionStatus::True)
}

#[tokio::test]
async fn every_condition_speaks_of_the_generation_that_was_obeyed() {
    // One of its own, for it is paused below.
    let (api, node) = (Api::start().unwrap(), "generations");
    install(&api);
    let access = access(&api, node, "overcommit-agent");
    let objects = create(&api.client().await.unwrap(), node, false).await;
    let dir = Session::shared().unwrap().fresh_dir("state").unwrap();
    let agent = start(&access, node, &dir);
    told(&objects, node, "a word about the first generation", |c| !released(c)).await;

    change(&objects, node, json!({ "release": true })).await;
    let done = told(&objects, node, "Released", released).await;
    assert_eq!(done.metadata.generation, Some(2));

    // Away while it is taken back and asked for once more: the old word stands, and says how old it is.
    agent.terminate(SOON).unwrap();
    change(&objects, node, json!({ "release": false })).await;
    change(&objects, node, json!({ "release": true })).await;
    let stale = objects.get(node).await.unwrap();
    let conditions = stale.status.unwrap().conditions;
    assert!(released(&conditions) && stale.metadata.generation == Some(4));
    assert!(conditions.iter().all(|c| c.observed_generation == Some(2)), "{conditions:?}");

    // Cut off from the API server, the successor obeys what it finds on disk, and knows of which version that is.
    api.pause_apiserver().unwrap();
    let agent = start(&access, node, &dir);
    let report = until_async(SOON, "a report on cached orders", || async {
        let report = ask(&dir)?;
        if report["cached"] == true { Ok(report) } else { Err(report.to_string()) }
    })
    .await;
    api.resume_apiserver().unwrap();
    assert_eq!(report.unwrap()["version"]["generation"], 2);
    told(&objects, node, "Released anew", released).await;
    agent.terminate(SOON).unwrap();
}

#[tokio::test]
async fn an_object_made_anew_under_the_same_name_gets_no_word_about_its_predecessor() {
    let (api, node) = (Api::shared().unwrap(), "made-anew");
    install(api);
    let client = api.client().await.unwrap();
    let objects = create(&client, node, true).await;
    let dir = Session::shared().unwrap().fresh_dir("state").unwrap();
    let agent = start(&access(api, node, "overcommit-agent"), node, &dir);
    told(&objects, node, "Released, of the first object", released).await;
    agent.terminate(SOON).unwrap();
    objects.delete(node, &DeleteParams::default()).await.unwrap();
    let objects = create(&client, node, true).await;

    // An agent whose watch is held up: all it knows is on its disk, and that says Released.
    api.apply(BLIND).unwrap();
    let agent = start(&access(api, node, "blind"), node, &dir);
    let refused = || agent.output().contains("made anew").then_some(()).ok_or_else(|| agent.log_tail());
    until(SOON, "the agent to see another object", refused).unwrap();
    assert_eq!(objects.get(node).await.unwrap().status, None);
    agent.terminate(SOON).unwrap();
    assert_eq!(objects.get(node).await.unwrap().status, None, "nor with its last write");
}

#[tokio::test]
async fn orders_whose_object_is_gone_take_nothing_also_after_a_restart() {
    let (api, node) = (Api::start().unwrap(), "withdrawn");
    install(&api);
    let access = access(&api, node, "overcommit-agent");
    let objects = create(&api.client().await.unwrap(), node, false).await;
    let dir = Session::shared().unwrap().fresh_dir("state").unwrap();
    let agent = start(&access, node, &dir);
    told(&objects, node, "a word", |c| !released(c)).await;
    let report = |what: &'static str, so: fn(&Value) -> bool| {
        let look = || ask(&dir).and_then(|r| if so(&r) { Ok(r) } else { Err(r.to_string()) });
        until(SOON, what, look).unwrap()
    };
    report("orders", |r| r["paused"] == false && r["standing"] == "Stands");

    objects.delete(node, &DeleteParams::default()).await.unwrap();
    let without = report("no more takes", |r| r["paused"] == true);
    assert!(
        without["standing"] == "Gone" && without["release"].is_null(),
        "absence is no intent to release: {without}"
    );
    assert!(without["troubles"].to_string().contains("is gone"), "{without}");
    let event = || {
        let events = api.kubectl(&[
            "get",
            "events",
            "--namespace=default",
            "--output=custom-columns=R:.reason,O:.involvedObject.name",
        ]);
        let events = events.unwrap();
        if events.contains("OrdersGone") && events.contains(node) { Ok(()) } else { Err(events) }
    };
    until(SOON, "an event", event).unwrap();
    agent.terminate(SOON).unwrap();

    // Also while the API server is away, for the agent was told before.
    api.pause_apiserver().unwrap();
    let agent = start(&access, node, &dir);
    let cached = until(SOON, "a report on cached orders", || ask(&dir));
    api.resume_apiserver().unwrap();
    let cached = cached.unwrap();
    assert!(cached["cached"] == true && cached["paused"] == true, "{cached}");

    create(&api.client().await.unwrap(), node, false).await;
    report("orders anew", |r| r["paused"] == false && r["standing"] == "Stands");
    agent.terminate(SOON).unwrap();
}

/// May read and report, and not watch.
const BLIND: &str = r"
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: blind}
rules:
- {apiGroups: [overcommit.dev], resources: [nodeovercommits], verbs: [get]}
- {apiGroups: [overcommit.dev], resources: [nodeovercommits/status], verbs: [patch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: blind}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: blind}
subjects: [{kind: ServiceAccount, name: blind, namespace: overcommit-system}]
";

/// The running agent's report, by the socket in its state directory.
fn ask(dir: &Path) -> Result<Value, String> {
    let asked = std::process::Command::new(Agent::program().unwrap())
        .args(["status", "--output", "json", "--state-dir"])
        .arg(dir)
        .output()
        .map_err(|e| e.to_string())?;
    serde_json::from_slice(&asked.stdout).map_err(|_| String::from_utf8_lossy(&asked.stderr).into_owned())
}
