//! What it does when something is missing, broken, or changed by others.

use std::process::Command;
use std::time::{Duration, Instant};

use overcommit_tests::api::Api;
use overcommit_tests::machine::sibling;
use overcommit_tests::wait::until;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::bench::{Bench, Operator, SOON, guest, install, policy, service_account};

/// A watch that failed for a while is tried again within a minute (kube-runtime, `DefaultBackoff`: 30 s and jitter), and once
/// more if the API server has just started and refuses everything; what follows is written within 32 s. Twice that.
pub(crate) const AFTER_TROUBLE: Duration = Duration::from_secs(320);

#[test]
fn what_somebody_deletes_or_edits_is_restored() {
    let bench = Bench::start(&[]);
    bench.node("a", &[]);
    bench.policy("gold", &json!({}));
    bench.expect("noc/a", "{.spec.policy}", "gold");
    let uid = bench.api.field("", "noc/a", "{.metadata.uid}").unwrap();
    bench.api.kubectl(&["delete", "noc", "a", "--wait=false"]).unwrap();
    // What was taken under it is given back first.
    bench.expect("noc/a", "{.metadata.uid}/{.spec.release}", &format!("{uid}/true"));
    bench.expect_event("ReleaseAsked", "This object is deleted");
    bench.agent_says("a", "Released", true, "");
    bench
        .api
        .wait_field("", "noc/a", "{.metadata.uid}", SOON, |seen| !seen.is_empty() && seen != uid)
        .unwrap();
    let edit = r#"{"spec":{"paused":true,"resolved":{"mode":"Enforce"}}}"#;
    bench.api.kubectl(&["patch", "noc", "a", "--type=merge", "--patch", edit]).unwrap();
    bench.expect("noc/a", "{.spec.paused}/{.spec.resolved.mode}", "false/Observe");
}

#[test]
fn nothing_is_written_when_nothing_changed() {
    let mut bench = Bench::start(&[]);
    bench.node("a", &[]);
    bench.policy("gold", &json!({}));
    bench.expect("noc/a", "{.spec.policy}", "gold");
    bench.agent_says("a", "Ready", true, "");
    bench.expect_condition("gold", "Ready", "reason", |r| r == "Observing");
    bench.restart(&[]);
    let reconciles = || bench.operator().metric("overcommit_operator_reconciles_total");
    let before = reconciles();
    // Neither a label that no selector names, nor a word that says nothing new.
    bench.api.kubectl(&["label", "node", "a", "some=label"]).unwrap();
    bench.api.kubectl(&["annotate", "node", "a", "overcommit.dev/paused=false"]).unwrap();
    until(SOON, "a reconcile", || reconciles() > before).unwrap();
    assert!(bench.operator().metric("overcommit_operator_api_writes_total").abs() < 0.5);
    assert!((bench.operator().metric("overcommit_operator_objects{kind=\"nodes\"}") - 1.0).abs() < 0.5);
}

#[test]
fn it_runs_on_without_kubevirt_and_finds_it_when_it_comes() {
    let api = Api::start().unwrap();
    install(&api);
    api.ensure_node("a", &["kubevirt.io/schedulable=true"]).unwrap();
    policy(&api, "gold", &json!({}));
    let operator = Operator::start(&service_account(&api, "overcommit-operator"), &[]);
    operator.wait_ready();
    api.wait_field("", "noc/a", "{.spec.policy}", SOON, |p| p == "gold").unwrap();
    let (object, path) = Bench::condition("gold", "Degraded", "message");
    api.wait_field("", &object, &path, SOON, |m| m.contains("install KubeVirt")).unwrap();
    let said = || operator.process.output().contains("running on without guests");
    until(SOON, "its log to say so", said).unwrap();
    api.install_vmi_crd().unwrap();
    api.apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}).to_string())
        .unwrap();
    guest(&api, "web", "a", &json!({}), &json!({}));
    api.wait_field("", "noc/a", "{.spec.guests[*].name}", AFTER_TROUBLE, |g| g == "web").unwrap();
    let (object, path) = Bench::condition("gold", "Degraded", "status");
    api.wait_field("", &object, &path, SOON, |s| s == "False").unwrap();
}

#[test]
fn it_survives_an_api_server_that_hangs_or_restarts() {
    let api = Api::start().unwrap();
    install(&api);
    api.install_vmi_crd().unwrap();
    api.ensure_node("a", &["kubevirt.io/schedulable=true"]).unwrap();
    // Far more than it takes from hearing of the deletion to the pause.
    let operator = Operator::start(&service_account(&api, "overcommit-operator"), &["--release-timeout=20s"]);
    operator.wait_ready();
    policy(&api, "first", &json!({}));
    api.wait_field("", "noc/a", "{.spec.policy}", SOON, |p| p == "first").unwrap();

    // Once it knows of the deletion, the timeout makes it write, whatever happens around it.
    api.kubectl(&["delete", "ocp", "first", "--wait=false"]).unwrap();
    api.wait_field("", "noc/a", "{.spec.release}", SOON, |release| release == "true").unwrap();
    api.pause_apiserver().unwrap();
    let late = || {
        operator.metric("overcommit_operator_api_writes_total{verb=\"apply\",kind=\"overcommitpolicies/status\",result=\"timeout\"}") > 0.5
    };
    until(SOON, "a write that gets no answer", late).unwrap();
    assert_eq!(operator.get("/healthz").0, 200);
    api.resume_apiserver().unwrap();
    api.wait_for("", "ocp/first", "delete", 180).unwrap();

    policy(&api, "gold", &json!({}));
    api.wait_field("", "noc/a", "{.spec.policy}", SOON, |p| p == "gold").unwrap();
    api.stop_apiserver();
    let broken = || operator.metric("overcommit_operator_watch_errors_total") > 0.5;
    until(SOON, "broken watches", broken).unwrap();
    assert_eq!(operator.get("/healthz").0, 200);
    api.start_apiserver().unwrap();
    policy(&api, "gold", &json!({"mode": "Enforce"}));
    api.wait_field("", "noc/a", "{.spec.resolved.mode}", AFTER_TROUBLE, |m| m == "Enforce").unwrap();
}

/// An API server of its own with a policy that one node has, for it is stopped or made to refuse.
fn settled() -> (Api, Operator) {
    let api = Api::start().unwrap();
    install(&api);
    api.install_vmi_crd().unwrap();
    api.ensure_node("a", &["kubevirt.io/schedulable=true"]).unwrap();
    let operator = Operator::start(&service_account(&api, "overcommit-operator"), &[]);
    operator.wait_ready();
    policy(&api, "gold", &json!({}));
    api.wait_field("", "noc/a", "{.spec.resolved.mode}", SOON, |mode| mode == "Observe").unwrap();
    (api, operator)
}

fn failed(operator: &Operator, kind: &str, reason: &str) -> f64 {
    let labels = format!("{{kind=\"{kind}\",reason=\"{reason}\"}}");
    operator.metric(&format!("overcommit_operator_watch_errors_total{labels}"))
}

#[test]
fn a_watch_that_lost_its_place_lists_again_and_misses_nothing() {
    let (api, operator) = settled();
    // Frozen, it misses changes that the next API server does not remember one by one.
    operator.process.signal(Signal::STOP).unwrap();
    api.stop_apiserver();
    api.start_apiserver().unwrap();
    policy(&api, "gold", &json!({"mode": "Enforce"}));
    api.ensure_node("b", &["kubevirt.io/schedulable=true"]).unwrap();
    api.kubectl(&["delete", "node", "a"]).unwrap();
    api.forget_history().unwrap();
    api.stop_apiserver();
    api.start_apiserver().unwrap();
    operator.process.signal(Signal::CONT).unwrap();
    api.wait_field("", "noc/b", "{.spec.resolved.mode}", AFTER_TROUBLE, |mode| mode == "Enforce").unwrap();
    // A deletion that nobody tells is seen by what the list lacks.
    let count = || operator.metric("overcommit_operator_objects{kind=\"nodes\"}");
    until(AFTER_TROUBLE, "the end of the node", || (count() - 1.0).abs() < 0.5).unwrap();
    // The policy may be known before: the answer to a write of its status tells it whole.
    for kind in ["overcommitpolicies", "nodes"] {
        until(AFTER_TROUBLE, format!("the end of history for {kind}"), || {
            failed(&operator, kind, "gone") > 0.5
        })
        .unwrap();
    }
}

/// Has the API server refuse all that the operator asks, but for one call at a time, which it lets wait.
const JAIL: &str = r"
apiVersion: flowcontrol.apiserver.k8s.io/v1
kind: PriorityLevelConfiguration
metadata: {name: jail}
spec:
  type: Limited
  limited:
    nominalConcurrencyShares: 0
    lendablePercent: 0
    borrowingLimitPercent: 0
    limitResponse: {type: Queue, queuing: {queues: 1, handSize: 1, queueLengthLimit: 1}}
---
apiVersion: flowcontrol.apiserver.k8s.io/v1
kind: FlowSchema
metadata: {name: jail}
spec:
  matchingPrecedence: 2
  priorityLevelConfiguration: {name: jail}
  rules:
  - subjects: [{kind: ServiceAccount, serviceAccount: {namespace: overcommit-system, name: overcommit-operator}}]
    resourceRules:
    - {verbs: ['*'], apiGroups: ['*'], resources: ['*'], clusterScope: true, namespaces: ['*']}
";

#[test]
fn an_api_server_that_throttles_is_asked_more_rarely_and_served_when_it_takes_calls_again() {
    let (api, first) = settled();
    api.apply(JAIL).unwrap();
    let throttled = |kind: &str| {
        let labels = format!("verb=\"apply\",kind=\"{kind}\",result=\"throttled\"");
        first.metric(&format!("overcommit_operator_api_writes_total{{{labels}}}"))
    };
    // Its watches stand, so that it knows what to write; until the jail is closed it does.
    let mut modes = ["Enforce", "Observe"].into_iter().cycle();
    let closed = || {
        policy(&api, "gold", &json!({"mode": modes.next()}));
        throttled("nodeovercommits") + throttled("overcommitpolicies/status") > 0.5
    };
    until(SOON, "a write that is refused", closed).unwrap();
    assert_eq!(first.get("/healthz").0, 200);
    drop(first);

    // One that starts lists, and is refused.
    let second = Operator::start(&service_account(&api, "overcommit-operator"), &[]);
    let began = Instant::now();
    let errors = || second.metric("overcommit_operator_watch_errors_total");
    until(AFTER_TROUBLE, "six refusals for each watch", || errors() > 17.5).unwrap();
    assert!(began.elapsed() > Duration::from_secs(15), "{:?}", began.elapsed());
    assert_eq!((second.get("/healthz").0, second.get("/readyz").0), (200, 503));
    policy(&api, "gold", &json!({"interval": "7s"}));
    api.kubectl(&["delete", "flowschema", "jail"]).unwrap();
    api.wait_field("", "noc/a", "{.spec.resolved.interval}", AFTER_TROUBLE, |seen| seen == "7s").unwrap();
    second.wait_ready();
}

#[test]
fn without_a_right_it_names_it_and_changes_nothing_until_it_is_granted() {
    let bench = Bench::without_operator();
    bench.node("a", &[]);
    let role = ["get", "clusterrole", "overcommit-operator", "--output=json"];
    let mut poor: Value = serde_json::from_str(&bench.api.kubectl(&role).unwrap()).unwrap();
    poor["rules"][0]["resources"] = json!(["namespaces"]);
    poor["metadata"] = json!({"name": "overcommit-operator"});
    bench.api.apply(&poor.to_string()).unwrap();
    let account = "system:serviceaccount:overcommit-system:overcommit-operator";
    bench.api.wait_right(account, "list", "nodes", false).unwrap();
    let access = service_account(&bench.api, "overcommit-operator");
    let operator = Operator::start(&access, &[]);
    let look = || match operator.get("/readyz") {
        (503, text) if text == "waiting for nodes\n" => Ok(()),
        other => Err(format!("{other:?}")),
    };
    until(SOON, "/readyz to name what is missing", look).unwrap();
    bench.policy("gold", &json!({}));
    bench.expect_condition("gold", "Degraded", "message", |m| m.contains("may not list and watch nodes"));
    assert!(!bench.exists("noc/a"));
    install(&bench.api);
    bench.api.wait_field("", "noc/a", "{.spec.policy}", AFTER_TROUBLE, |p| p == "gold").unwrap();
}

#[test]
fn without_a_way_to_the_cluster_it_says_what_to_set() {
    let mut command = Command::new(sibling("overcommit-operator").unwrap());
    let ended =
        command.arg("run").env("KUBECONFIG", "/nowhere/kubeconfig").env("HOME", "/nowhere").output().unwrap();
    assert_eq!(ended.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&ended.stderr).contains("set KUBECONFIG"));
}
