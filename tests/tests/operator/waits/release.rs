//! The ways out: a policy that is deleted, nodes that go, and `release` for the whole cluster.

use std::process::{Command, Output};

use overcommit_tests::api::Access;
use overcommit_tests::machine::sibling;
use overcommit_tests::wait::until;
use serde_json::json;

use crate::bench::{Bench, SOON, service_account};

#[test]
fn a_deleted_policy_waits_for_its_agents_over_restarts_of_the_operator() {
    let mut bench = Bench::start(&[]);
    bench.node("a", &[]);
    bench.node("b", &[]);
    bench.policy("gold", &json!({}));
    bench.expect("noc/a", "{.spec.policy}", "gold");
    bench.expect("noc/b", "{.spec.policy}", "gold");
    bench.delete_policy("gold");
    bench.expect("noc/a", "{.spec.release}", "true");
    bench.expect("noc/b", "{.spec.release}", "true");
    bench.restart(&[]);
    bench.agent_says("a", "Released", true, "");
    bench.expect_gone("noc/a");
    bench.agent_says("b", "Released", false, "short 2 GiB");
    bench.expect_condition("gold", "Progressing", "message", |m| m.contains("b: short 2 GiB"));
    bench.restart(&[]);
    assert!(bench.exists("ocp/gold"));
    bench.agent_says("b", "Released", true, "");
    bench.expect_gone("ocp/gold");
    bench.expect_gone("noc/b");
    bench.expect_event("NodeReleased", "b");
}

#[test]
fn a_policy_whose_agents_stay_away_goes_after_the_timeout_and_tells() {
    let bench = Bench::start(&["--release-timeout=3s"]);
    bench.node("a", &[]);
    bench.policy("gold", &json!({}));
    bench.expect("noc/a", "{.spec.policy}", "gold");
    bench.delete_policy("gold");
    bench.expect_gone("ocp/gold");
    bench.expect_event("ReleaseTimeout", "gold");
    bench.expect("noc/a", "{.spec.release}", "true");
    bench.agent_says("a", "Released", true, "");
    bench.expect_gone("noc/a");
}

#[test]
fn nodes_that_go_and_labels_that_change_release_what_they_held() {
    let bench = Bench::start(&[]);
    bench.node("a", &[]);
    bench.node("b", &[]);
    bench.policy("gold", &json!({}));
    bench.expect("noc/a", "{.spec.policy}", "gold");
    bench.expect("noc/b", "{.spec.policy}", "gold");
    bench.api.kubectl(&["delete", "node", "a"]).unwrap();
    bench.expect_gone("noc/a");
    bench.api.kubectl(&["label", "node", "b", "kubevirt.io/schedulable-"]).unwrap();
    bench.expect("noc/b", "{.spec.release}", "true");
    bench.agent_says("b", "Released", true, "");
    bench.expect_gone("noc/b");
    bench.expect_condition("gold", "Accepted", "reason", |r| r == "NoNodes");
}

fn release(access: &Access, timeout: &str) -> Output {
    let mut command = Command::new(sibling("overcommit-operator").unwrap());
    command
        .args(["release", "--timeout", timeout])
        .env("KUBECONFIG", access.kubeconfig_path())
        .output()
        .unwrap()
}

#[test]
fn release_names_the_nodes_that_hold_it_up_and_ends_when_all_have_given_back() {
    let bench = Bench::start(&[]);
    bench.node("a", &[]);
    bench.node("b", &[]);
    bench.policy("gold", &json!({}));
    bench.policy("iron", &json!({"priority": -1}));
    bench.expect("noc/a", "{.spec.policy}", "gold");
    bench.expect("noc/b", "{.spec.policy}", "gold");
    let hook = service_account(&bench.api, "overcommit-release");
    // Once the operator has asked both.
    let late = || {
        let late = release(&hook, "5s");
        let words = String::from_utf8_lossy(&late.stderr).into_owned();
        assert_eq!(late.status.code(), Some(1), "{words}");
        if words.contains("a (no answer") && words.contains("b (no answer") { Ok(()) } else { Err(words) }
    };
    until(SOON, "a release that names both nodes", late).unwrap();
    bench.expect("noc/a", "{.spec.release}", "true");
    bench.expect("noc/b", "{.spec.release}", "true");
    bench.agent_says("a", "Released", true, "");
    bench.agent_says("b", "Released", true, "");
    let done = release(&hook, "120s");
    let words = String::from_utf8_lossy(&done.stdout).into_owned();
    assert_eq!(done.status.code(), Some(0), "{words}");
    assert!(words.contains("everything is given back"), "{words}");
    assert!(!bench.exists("ocp/gold") && !bench.exists("noc/a"));
}

#[test]
fn deleting_all_at_once_strands_no_node() {
    let bench = Bench::start(&[]);
    bench.node("a", &[]);
    bench.node("b", &[]);
    bench.policy("gold", &json!({"mode": "Enforce"}));
    for node in ["a", "b"] {
        bench.expect(&format!("noc/{node}"), "{.spec.policy}", "gold");
        bench.agent_says(node, "Ready", true, "");
    }
    bench.api.kubectl(&["delete", "noc,ocp", "--all", "--wait=false"]).unwrap();
    bench.expect("noc/a", "{.spec.release}", "true");
    bench.expect("noc/b", "{.spec.release}", "true");
    bench.agent_says("a", "Released", true, "");
    bench.expect_gone("noc/a");
    let why = bench.expect_condition("gold", "Progressing", "message", |m| m.contains("1 node"));
    assert!(why.contains("b: its agent has not answered yet"), "{why}");
    // Its agent never answers again; with its node it is forgotten.
    bench.api.kubectl(&["delete", "node", "b"]).unwrap();
    bench.expect_gone("noc/b");
    bench.expect_gone("ocp/gold");
}
