//! What it does when something is missing, broken, or changed by others.

use std::process::Command;
use std::time::{Duration, Instant};

use overcommit_tests::api::Api;
use overcommit_tests::machine::sibling;
use overcommit_tests::wait::until;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::bench::{Bench, Operator, SOON, guest, install, policy, service_account};

/// A watch that failed for a while is tried again within 30 s (kube-runtime, `DefaultBackoff`).
const AFTER_TROUBLE: Duration = Duration::from_secs(75);

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
fn it_ends_within_two_seconds_of_sigterm() {
    let bench = Bench::start(&[]);
    let process = &bench.operator().process;
    let asked = Instant::now();
    process.signal(Signal::TERM).unwrap();
    let status = process.wait(SOON).unwrap();
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    assert!(status.success(), "{status}");
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
    assert!(operator.process.output().contains("running on without guests"));
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
    let operator = Operator::start(&service_account(&api, "overcommit-operator"), &["--release-timeout=5s"]);
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
    api.wait_for("", "ocp/first", "delete", 60).unwrap();

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

#[test]
fn without_a_right_it_names_it_and_changes_nothing_until_it_is_granted() {
    let bench = Bench::without_operator();
    bench.node("a", &[]);
    let role = ["get", "clusterrole", "overcommit-operator", "--output=json"];
    let mut poor: Value = serde_json::from_str(&bench.api.kubectl(&role).unwrap()).unwrap();
    poor["rules"][0]["resources"] = json!(["namespaces"]);
    poor["metadata"] = json!({"name": "overcommit-operator"});
    bench.api.apply(&poor.to_string()).unwrap();
    let access = service_account(bench.api, "overcommit-operator");
    let operator = Operator::start(&access, &[]);
    let look = || match operator.get("/readyz") {
        (503, text) if text == "waiting for nodes\n" => Ok(()),
        other => Err(format!("{other:?}")),
    };
    until(SOON, "/readyz to name what is missing", look).unwrap();
    bench.policy("gold", &json!({}));
    bench.expect_condition("gold", "Degraded", "message", |m| m.contains("may not list and watch nodes"));
    assert!(!bench.exists("noc/a"));
    install(bench.api);
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
