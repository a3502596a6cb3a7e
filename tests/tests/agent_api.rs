//! The agent in a cluster whose API server or operator fails it: the loop goes on, says so, and catches up. A real API
//! server and the real agent with the rights that the chart gives it; there are no guests.
#![cfg(test)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "all of this is test code; the exception in clippy.toml sees only the test functions"
)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use overcommit_tests::agent::Agent;
use overcommit_tests::api::{Access, Api, Identity};
use overcommit_tests::machine::sibling;
use overcommit_tests::process::{Launch, Process};
use overcommit_tests::session::Session;
use overcommit_tests::wait::until;
use rustix::process::Signal;
use serde_json::{Value, json};

const SYSTEM: &str = "overcommit-system";
const NODE: &str = "a";
const SOON: Duration = Duration::from_secs(40);
/// A watch that failed for a while is tried again within 30 s (kube-runtime, `DefaultBackoff`).
const AFTER_TROUBLE: Duration = Duration::from_secs(75);
/// The loop turns every second; asking may wait for a turn that is under way.
const PROMPT: Duration = Duration::from_secs(5);

/// An API server of its own with the chart installed, and one node's agent.
struct Bench {
    api: Api,
    access: Access,
    dir: PathBuf,
    agent: Option<Process>,
}

impl Bench {
    fn start() -> Self {
        let api = Api::start().unwrap();
        api.install_vmi_crd().unwrap();
        let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/chart");
        let chart = chart.to_str().unwrap();
        api.helm(&["install", "overcommit", chart, "--namespace", SYSTEM, "--create-namespace"]).unwrap();
        api.wait_for("", "crd/nodeovercommits.overcommit.dev", "condition=Established", 20).unwrap();
        let who = Identity { namespace: SYSTEM, name: "overcommit-agent", node: Some(NODE) };
        let access = api.as_service_account(who).unwrap();
        let dir = Session::shared().unwrap().fresh_dir("agent").unwrap();
        Self { api, access, dir, agent: None }
    }

    /// A bench whose agent has reported its first orders.
    fn running() -> Self {
        Self::running_with(&[])
    }

    fn running_with(further: &[&str]) -> Self {
        let mut bench = Self::start();
        bench.order("one");
        bench.start_agent_with(further);
        bench.expect_reported("one");
        bench
    }

    fn start_agent(&mut self) {
        self.start_agent_with(&[]);
    }

    fn start_agent_with(&mut self, further: &[&str]) {
        let launch = Launch::new("agent", Agent::program().unwrap())
            .args(["run", "--node", NODE, "--state-dir"])
            .arg(&self.dir)
            .args(further)
            .env("KUBECONFIG", self.access.kubeconfig_path());
        self.agent = Some(Session::shared().unwrap().spawn(launch).unwrap());
    }

    fn stop_agent(&mut self) {
        self.agent.take().unwrap().terminate(SOON).unwrap();
    }

    fn agent(&self) -> &Process {
        self.agent.as_ref().unwrap()
    }

    /// The node's orders, as the operator would write them.
    fn order(&self, revision: &str) {
        let resolved = overcommit_crds::resolve::resolve(&overcommit_crds::OvercommitPolicySpec::default());
        let mut spec = json!({"policy": "p", "revision": revision, "resolved": resolved});
        spec["resolved"]["interval"] = json!("1s");
        let object = json!({"apiVersion": "overcommit.dev/v1alpha1", "kind": "NodeOvercommit",
            "metadata": {"name": NODE}, "spec": spec});
        until(SOON, "the object", || self.api.apply(&object.to_string())).unwrap();
    }

    /// What `status` answers.
    fn ask(&self) -> Result<Value, String> {
        let asked = Command::new(Agent::program().unwrap())
            .args(["status", "--output", "json", "--state-dir"])
            .arg(&self.dir)
            .output()
            .map_err(|e| e.to_string())?;
        let words = String::from_utf8_lossy(&asked.stderr).into_owned();
        serde_json::from_slice(&asked.stdout).map_err(|_| words)
    }

    fn wait_report(&self, what: &str, so: impl Fn(&Value) -> bool) -> Value {
        self.wait(AFTER_TROUBLE, what, || {
            let report = self.ask()?;
            if so(&report) { Ok(report) } else { Err(report.to_string()) }
        })
    }

    /// Several turns from now, each question answered at once.
    fn expect_turning(&self) -> Value {
        let began = Timestamp::now();
        let due = began + jiff::SignedDuration::from_secs(3);
        self.wait_report("three more turns", |report| {
            let asked = Instant::now();
            self.ask().unwrap();
            assert!(asked.elapsed() < PROMPT, "{:?}", asked.elapsed());
            report["at"].as_str().unwrap().parse::<Timestamp>().unwrap() > due
        })
    }

    fn expect_reported(&self, revision: &str) {
        self.expect("{.status.observedRevision}", |seen| seen == revision);
    }

    /// Waits for a field of the node's object.
    fn expect(&self, path: &str, so: impl Fn(&str) -> bool) {
        self.wait(AFTER_TROUBLE, path, || {
            let seen = self.api.field("", &format!("noc/{NODE}"), path).map_err(|e| format!("{e:#}"))?;
            if so(&seen) { Ok(()) } else { Err(seen) }
        });
    }

    fn expect_said(&self, words: &str) {
        self.wait(SOON, words, || if self.agent().output().contains(words) { Ok(()) } else { Err("silent") });
    }

    fn wait<T, E: std::fmt::Display>(
        &self,
        limit: Duration,
        what: &str,
        look: impl FnMut() -> Result<T, E>,
    ) -> T {
        let log = || self.agent.as_ref().map(Process::log_tail).unwrap_or_default();
        until(limit, what, look).unwrap_or_else(|e| panic!("{e:#}\n{}", log()))
    }

    /// The verbs that agents have on the nodes' objects.
    fn grant(&self, verbs: &[&str]) {
        let patch = json!([{"op": "replace", "path": "/rules/0/verbs", "value": verbs}]).to_string();
        let role = ["patch", "clusterrole", "overcommit-agent", "--type=json", "--patch", &patch];
        self.api.kubectl(&role).unwrap();
    }
}

const DEGRADED: &str = "{.status.conditions[?(@.type==\"Degraded\")].reason}";

#[test]
fn while_the_api_server_hangs_the_loop_goes_on_and_afterwards_reports() {
    let bench = Bench::running();
    bench.api.pause_apiserver().unwrap();
    assert_eq!(bench.expect_turning()["revision"], "one");
    let thawed = Timestamp::now();
    bench.api.resume_apiserver().unwrap();
    bench.order("two");
    bench.expect_reported("two");
    let since = |seen: &str| seen.parse::<Timestamp>().is_ok_and(|at| at.as_second() >= thawed.as_second());
    bench.expect("{.status.reportedAt}", since);
}

#[test]
fn while_the_operator_is_gone_the_agent_follows_its_object() {
    let mut bench = Bench::start();
    bench.api.kubectl(&["label", "node", NODE, "kubevirt.io/schedulable=true"]).unwrap();
    let who = Identity { namespace: SYSTEM, name: "overcommit-operator", node: None };
    let operator = bench.api.as_service_account(who).unwrap();
    let start = || {
        let launch = Launch::new("operator", sibling("overcommit-operator").unwrap())
            .args(["run", "--http=127.0.0.1:0"])
            .env("KUBECONFIG", operator.kubeconfig_path());
        Session::shared().unwrap().spawn(launch).unwrap()
    };
    let first = start();
    let policy = json!({"apiVersion": "overcommit.dev/v1alpha1", "kind": "OvercommitPolicy",
        "metadata": {"name": "p"}, "spec": {"interval": "1s"}});
    bench.api.apply(&policy.to_string()).unwrap();
    bench.start_agent();
    bench.wait_report("the operator's orders", |report| report["policy"] == "p");
    let ready = "{.status.conditions[?(@.type==\"Ready\")].reason}";
    bench.api.wait_field("", "ocp/p", ready, SOON, |reason| reason == "Observing").unwrap();

    first.signal(Signal::KILL).unwrap();
    first.wait(SOON).unwrap();
    bench.expect_turning();
    let pause = ["patch", "noc", NODE, "--type=merge", "--patch", r#"{"spec":{"paused":true}}"#];
    bench.api.kubectl(&pause).unwrap();
    bench.wait_report("the pause that an administrator wrote", |report| report["paused"] == true);
    let _second = start();
    bench.wait_report("what the operator makes of that", |report| report["paused"] == false);
}

#[test]
fn restarted_without_an_api_server_it_works_from_its_cached_orders() {
    let mut bench = Bench::running();
    bench.stop_agent();
    bench.api.stop_apiserver();
    bench.start_agent();
    let report = bench.wait_report("a report", |_| true);
    assert_eq!((&report["revision"], &report["cached"]), (&json!("one"), &json!(true)), "{report}");
    bench.expect_turning();
    bench.api.start_apiserver().unwrap();
    bench.wait_report("orders from the API server", |report| report["cached"] == false);
    bench.expect(DEGRADED, |reason| reason == "AsExpected" || reason == "Overcommitted");
}

#[test]
fn orders_from_the_cache_are_told_in_a_condition_until_the_api_server_tells_them() {
    let mut bench = Bench::running();
    bench.stop_agent();
    // It answers, and does not tell the orders.
    bench.grant(&["get"]);
    bench.start_agent();
    bench.expect(DEGRADED, |reason| reason == "CachedOrders");
    bench.grant(&["get", "list", "watch"]);
    bench.expect(DEGRADED, |reason| reason != "CachedOrders");
    assert_eq!(bench.ask().unwrap()["cached"], false);
}

#[test]
fn cached_orders_that_cannot_be_read_are_set_aside_and_the_api_server_is_waited_for() {
    let mut bench = Bench::running();
    bench.stop_agent();
    let cache = bench.dir.join("orders.json");
    let whole = std::fs::read(&cache).unwrap();
    std::fs::write(&cache, &whole[..whole.len() / 2]).unwrap();
    bench.api.stop_apiserver();
    bench.start_agent();
    bench.expect_said("the cached orders cannot be used; waiting for the API server");
    let said = bench.wait(SOON, "an answer without orders", || bench.ask().map_or_else(Ok, Err));
    assert!(said.contains("no orders yet") && said.contains("API server"), "{said}");
    let aside = std::fs::read(bench.dir.join("orders.json.corrupt")).unwrap();
    assert_eq!(aside, &whole[..whole.len() / 2]);
    assert!(!cache.exists());
    bench.api.start_apiserver().unwrap();
    bench.wait_report("orders from the API server", |report| report["revision"] == "one");
    assert!(cache.exists());
}

#[test]
fn a_deleted_object_is_no_intent_its_orders_hold_and_nothing_is_taken() {
    let bench = Bench::running();
    bench.api.kubectl(&["delete", "noc", NODE]).unwrap();
    bench.expect_said("the NodeOvercommit of this node is gone");
    let report = bench.expect_turning();
    let said = (&report["revision"], &report["release"], &report["paused"]);
    assert_eq!(said, (&json!("one"), &Value::Null, &json!(true)), "{report}");
    bench.order("two");
    bench.expect_reported("two");
}

#[test]
fn a_watch_that_lost_its_place_lists_again() {
    // A loop that is frozen for so long would be started anew.
    let bench = Bench::running_with(&["--unattended"]);
    // Frozen, it misses changes that the next API server does not remember one by one.
    bench.agent().signal(Signal::STOP).unwrap();
    bench.api.stop_apiserver();
    bench.api.start_apiserver().unwrap();
    bench.order("two");
    bench.api.stop_apiserver();
    bench.api.start_apiserver().unwrap();
    bench.agent().signal(Signal::CONT).unwrap();
    bench.expect_reported("two");
    let log = bench.agent().output();
    assert!(log.contains("410") || log.contains("too old"), "{log}");
}
