//! The operator as a process, with the rights that the chart gives it, on a real API server. Agents are played by
//! writing the status that they would report.
#![cfg(test)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use overcommit_tests::api::{Access, Api, Identity, free_port};
use overcommit_tests::machine::sibling;
use overcommit_tests::process::{Launch, Process};
use overcommit_tests::session::Session;
use overcommit_tests::wait::until;
use rustix::process::Signal;
use serde_json::{Value, json};

/// Everything that the operator does at once; generous, for a busy machine.
const SOON: Duration = Duration::from_secs(20);
/// A watch that failed for a while is tried again within 30 s (kube-runtime, `DefaultBackoff`).
const AFTER_TROUBLE: Duration = Duration::from_secs(75);
const SYSTEM: &str = "overcommit-system";
/// Policies are for the whole cluster: tests on the shared API server take turns.
static TURN: Mutex<()> = Mutex::new(());

/// A running operator.
struct Operator {
    process: Process,
    port: u16,
}

impl Operator {
    fn start(access: &Access, args: &[&str]) -> Self {
        let port = free_port().unwrap();
        let launch = Launch::new("operator", sibling("overcommit-operator").unwrap())
            .arg("run")
            .arg(format!("--http=127.0.0.1:{port}"))
            .args(args)
            .env("KUBECONFIG", access.kubeconfig_path());
        let process = Session::shared().unwrap().spawn(launch).unwrap();
        process.ready(SOON, "/healthz", || TcpStream::connect(("127.0.0.1", port)).map(drop)).unwrap();
        Self { process, port }
    }

    fn get(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: operator\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let code = answer.split(' ').nth(1).unwrap().parse().unwrap();
        (code, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
    }

    fn wait_ready(&self) {
        let look = || match self.get("/readyz") {
            (200, _) => Ok(()),
            (_, text) => Err(text),
        };
        self.process.ready(SOON, "/readyz", look).unwrap();
    }

    /// The sum of all samples whose line starts so.
    fn metric(&self, start: &str) -> f64 {
        let (code, text) = self.get("/metrics");
        assert_eq!(code, 200);
        text.lines()
            .filter(|l| l.starts_with(start))
            .map(|l| l.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
            .sum()
    }
}

/// The shared API server, empty of what earlier tests made.
struct Bench {
    api: &'static Api,
    operator: Option<Operator>,
    _turn: MutexGuard<'static, ()>,
}

impl Bench {
    fn start(args: &[&str]) -> Self {
        let mut bench = Self::without_operator();
        bench.restart(args);
        bench
    }

    fn without_operator() -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let api = Api::shared().unwrap();
        install(api);
        api.install_vmi_crd().unwrap();
        clear(api);
        api.apply(
            &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}).to_string(),
        )
        .unwrap();
        Self { api, operator: None, _turn: turn }
    }

    /// Kills the operator, if one runs, and starts another.
    fn restart(&mut self, args: &[&str]) {
        self.operator = None;
        let operator = Operator::start(&service_account(self.api, "overcommit-operator"), args);
        operator.wait_ready();
        self.operator = Some(operator);
    }

    fn operator(&self) -> &Operator {
        self.operator.as_ref().unwrap()
    }

    fn node(&self, name: &str, labels: &[&str]) {
        let mut all = vec!["kubevirt.io/schedulable=true"];
        all.extend(labels);
        self.api.ensure_node(name, &all).unwrap();
    }

    fn policy(&self, name: &str, spec: &Value) {
        policy(self.api, name, spec);
    }

    fn guest(&self, name: &str, node: &str, labels: &Value, annotations: &Value) {
        guest(self.api, name, node, labels, annotations);
    }

    /// Waits until an object's field has this value.
    fn expect(&self, object: &str, path: &str, value: &str) {
        self.api.wait_field("", object, path, SOON, |seen| seen == value).unwrap_or_else(|e| self.fail(&e));
    }

    fn expect_gone(&self, object: &str) {
        let look = || if self.exists(object) { Err(format!("{object} is there")) } else { Ok(()) };
        until(SOON, format!("the end of {object}"), look).unwrap_or_else(|e| self.fail(&e));
    }

    fn exists(&self, object: &str) -> bool {
        !self.api.kubectl(&["get", object, "--ignore-not-found", "--output=name"]).unwrap().trim().is_empty()
    }

    fn fail<T>(&self, error: &anyhow::Error) -> T {
        let log = self.operator.as_ref().map(|o| o.process.log_tail()).unwrap_or_default();
        panic!("{error:#}\n{log}")
    }

    fn guests(&self, node: &str) -> Value {
        serde_json::from_str(&self.api.field("", &format!("noc/{node}"), "{.spec.guests}").unwrap())
            .unwrap_or(json!([]))
    }

    fn delete_policy(&self, name: &str) {
        self.api.kubectl(&["delete", "ocp", name, "--wait=false"]).unwrap();
    }

    /// What the agent of a node would report.
    fn agent_says(&self, node: &str, condition: &str, yes: bool, message: &str) {
        let status = if yes { "True" } else { "False" };
        let revision = self.api.field("", &format!("noc/{node}"), "{.spec.revision}").unwrap();
        let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let generation = self.api.field("", &format!("noc/{node}"), "{.metadata.generation}").unwrap();
        let generation: i64 = generation.parse().unwrap();
        let condition = json!({"type": condition, "status": status, "reason": "Played", "message": message,
            "lastTransitionTime": now, "observedGeneration": generation});
        let size = |mib: u32| json!(format!("{mib}Mi"));
        let ledger = json!({"total": size(4096), "budget": size(3000), "promised": size(2048), "resident": size(1500),
            "reclaimed": size(512), "reclaimable": size(100), "merged": "0", "atRisk": "0", "shortfall": "0"});
        let body = json!({"status": {"observedRevision": revision, "reportedAt": now, "ledger": ledger, "conditions": [condition]}});
        let body = body.to_string();
        self.api
            .kubectl(&["patch", "noc", node, "--subresource=status", "--type=merge", "--patch", &body])
            .unwrap();
    }

    fn condition(policy: &str, type_: &str, field: &str) -> (String, String) {
        (format!("ocp/{policy}"), format!("{{.status.conditions[?(@.type==\"{type_}\")].{field}}}"))
    }

    fn expect_condition(
        &self,
        policy: &str,
        type_: &str,
        field: &str,
        test: impl Fn(&str) -> bool,
    ) -> String {
        let (object, path) = Self::condition(policy, type_, field);
        self.api.wait_field("", &object, &path, SOON, test).unwrap_or_else(|e| self.fail(&e))
    }

    fn events(&self) -> String {
        let columns = "--output=custom-columns=REASON:.reason,OBJECT:.involvedObject.name,MESSAGE:.message";
        self.api.kubectl(&["get", "events", "--namespace=default", columns]).unwrap()
    }

    fn expect_event(&self, reason: &str, about: &str) {
        let found = |line: &str| line.starts_with(reason) && line.contains(about);
        let look = || {
            let events = self.events();
            if events.lines().any(found) { Ok(()) } else { Err(events) }
        };
        until(SOON, format!("event {reason} about {about}"), look).unwrap_or_else(|e| self.fail(&e));
    }
}

fn policy(api: &Access, name: &str, spec: &Value) {
    let body = json!({"apiVersion": "overcommit.dev/v1alpha1", "kind": "OvercommitPolicy", "metadata": {"name": name}, "spec": spec});
    api.apply(&body.to_string()).unwrap();
}

fn guest(api: &Access, name: &str, node: &str, labels: &Value, annotations: &Value) {
    let mut labels = labels.clone();
    labels["kubevirt.io/nodeName"] = json!(node);
    let metadata = json!({"name": name, "namespace": "shop", "labels": labels, "annotations": annotations});
    let body = json!({"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance", "metadata": metadata,
        "spec": {"domain": {"memory": {"guest": "256Mi"}}}});
    api.apply(&body.to_string()).unwrap();
}

/// The CRDs, and the service accounts with their rights as the chart has them.
fn install(api: &Access) {
    let operator = Command::new(sibling("overcommit-operator").unwrap()).arg("crds").output().unwrap();
    assert!(operator.status.success());
    api.apply(&String::from_utf8(operator.stdout).unwrap()).unwrap();
    for crd in ["overcommitpolicies", "nodeovercommits"] {
        api.wait_for("", &format!("crd/{crd}.overcommit.dev"), "condition=Established", 20).unwrap();
    }
    let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/chart");
    let chart = chart.to_str().unwrap();
    let mut args = vec!["template", "overcommit", chart, "--namespace", SYSTEM];
    for template in ["operator-rbac", "events-rbac", "release-hook"] {
        args.extend(["--show-only", Box::leak(format!("templates/{template}.yaml").into_boxed_str())]);
    }
    let rendered = api.helm(&args).unwrap();
    let granted: Vec<&str> = rendered.split("\n---").filter(|part| !part.contains("kind: Job")).collect();
    api.apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM}}).to_string())
        .unwrap();
    api.apply(&granted.join("\n---")).unwrap();
}

fn service_account(api: &Access, name: &str) -> Access {
    api.as_service_account(Identity { namespace: SYSTEM, name, node: None }).unwrap()
}

/// Removes what earlier tests made.
fn clear(api: &Access) {
    for held in api.kubectl(&["get", "ocp,noc", "--output=name"]).unwrap().lines() {
        api.kubectl(&["delete", held, "--wait=false"]).unwrap();
        let patch = ["patch", held, "--type=merge", "--patch", r#"{"metadata":{"finalizers":null}}"#];
        // One without finalizers is gone already.
        let _ = api.kubectl(&patch);
    }
    api.kubectl(&["delete", "noc,nodes", "--all", "--wait=true", "--timeout=30s"]).unwrap();
    api.kubectl(&["delete", "vmi", "--all", "--all-namespaces", "--timeout=30s"]).unwrap();
    api.kubectl(&["annotate", "namespace", "default", "overcommit.dev/exclude-"]).unwrap();
}

#[test]
fn every_selected_node_gets_the_policy_with_its_guests() {
    let bench = Bench::start(&[]);
    bench.node("a", &[]);
    bench.node("b", &[]);
    bench.api.ensure_node("plain", &["kubevirt.io/schedulable-"]).unwrap();
    bench.guest("web", "a", &json!({"tier": "gold"}), &json!({}));
    bench.guest("out", "a", &json!({}), &json!({"overcommit.dev/exclude": "true"}));
    bench.guest("moves", "b", &json!({"kubevirt.io/migrationTargetNodeName": "a"}), &json!({}));
    bench.policy(
        "gold",
        &json!({"mode": "Enforce", "classes": [{"name": "gold", "selector": {"matchLabels": {"tier": "gold"}}}, {"name": "rest"}]}),
    );
    bench.expect("noc/a", "{.spec.guests[*].name}", "out web");
    bench.expect("noc/b", "{.spec.guests[0].migrating}", "true");
    assert!(!bench.exists("noc/plain"));
    let guests = bench.guests("a");
    assert_eq!((&guests[0]["excluded"], &guests[0]["class"]), (&json!("Annotation"), &json!("rest")));
    assert_eq!((&guests[1]["excluded"], &guests[1]["class"]), (&Value::Null, &json!("gold")));
    bench.expect(
        "noc/a",
        "{.metadata.ownerReferences[0].kind}/{.metadata.labels.overcommit\\.dev/policy}",
        "Node/gold",
    );
    bench.expect("noc/a", "{.spec.resolved.mode}", "Enforce");

    bench.api.kubectl(&["delete", "vmi", "web", "--namespace=shop"]).unwrap();
    bench.expect("noc/a", "{.spec.guests[*].name}", "out");
    bench.api.kubectl(&["annotate", "node", "a", "overcommit.dev/paused=true"]).unwrap();
    bench.expect("noc/a", "{.spec.paused}", "true");
    bench.api.kubectl(&["annotate", "namespace", "shop", "overcommit.dev/exclude=true"]).unwrap();
    bench.expect("noc/b", "{.spec.guests[0].excluded}", "Annotation");
    bench.api.kubectl(&["annotate", "namespace", "shop", "overcommit.dev/exclude-"]).unwrap();
    bench.expect_event("Accepted", "gold");
    bench.expect_event("NodeTaken", "Policy gold holds");
}

#[test]
fn the_status_follows_what_the_agents_report() {
    let bench = Bench::start(&[]);
    bench.node("a", &[]);
    bench.node("b", &[]);
    bench.policy("gold", &json!({}));
    bench.expect(
        "ocp/gold",
        "{.status.nodes.selected}/{.status.nodes.updated}/{.status.nodes.ready}",
        "2/0/0",
    );
    bench.agent_says("a", "Ready", true, "");
    bench.expect("ocp/gold", "{.status.nodes.updated}/{.status.nodes.ready}", "1/1");
    let message = bench.expect_condition("gold", "Ready", "message", |m| m.contains("1 of 2"));
    assert!(message.contains("b: its agent has not reported"), "{message}");
    bench.agent_says("b", "Ready", true, "");
    bench.expect_condition("gold", "Ready", "reason", |r| r == "Observing");
    bench.expect_condition("gold", "Progressing", "status", |s| s == "False");
    bench.expect("ocp/gold", "{.status.memory.reclaimed}", "1024Mi");
    bench.policy("gold", &json!({"mode": "Enforce"}));
    bench.expect("ocp/gold", "{.status.observedGeneration}/{.status.nodes.updated}", "2/0");
    bench.expect_condition("gold", "Progressing", "reason", |r| r == "RollingOut");
}

#[test]
fn priority_decides_where_policies_overlap_and_the_loser_says_so() {
    let bench = Bench::start(&[]);
    bench.node("a", &["pool=x"]);
    bench.node("b", &["pool=y"]);
    bench.policy("wide", &json!({}));
    bench.expect("noc/a", "{.spec.policy}", "wide");
    bench.policy("narrow", &json!({"priority": 5, "nodeSelector": {"matchLabels": {"pool": "x"}}}));
    bench.expect("noc/a", "{.spec.policy}", "narrow");
    bench.expect_condition("wide", "Accepted", "message", |m| m.contains("1 of 2"));
    bench.api.kubectl(&["label", "node", "b", "--overwrite", "pool=x"]).unwrap();
    bench.expect("noc/b", "{.spec.policy}", "narrow");
    bench.expect_condition("wide", "Accepted", "reason", |r| r == "Overridden");
    bench.expect_condition("wide", "Accepted", "message", |m| m.contains("narrow holds 2"));
    bench.expect_event("Overridden", "wide");
    bench.policy("wide", &json!({"priority": 6}));
    bench.expect("noc/b", "{.spec.policy}", "wide");
    // Its nodes have a next policy: nobody has to give anything back.
    bench.delete_policy("wide");
    bench.expect_gone("ocp/wide");
    bench.expect("noc/b", "{.spec.policy}/{.spec.release}", "narrow/false");
}

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
    bench.api.kubectl(&["label", "node", "a", "some=label"]).unwrap();
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
    let hook = service_account(bench.api, "overcommit-release");
    let late = release(&hook, "3s");
    let words = String::from_utf8_lossy(&late.stderr).into_owned();
    assert_eq!(late.status.code(), Some(1), "{words}");
    assert!(words.contains("a (no answer") && words.contains("b (no answer"), "{words}");
    bench.agent_says("a", "Released", true, "");
    bench.agent_says("b", "Released", true, "");
    let done = release(&hook, "30s");
    let words = String::from_utf8_lossy(&done.stdout).into_owned();
    assert_eq!(done.status.code(), Some(0), "{words}");
    assert!(words.contains("everything is given back"), "{words}");
    assert!(!bench.exists("ocp/gold") && !bench.exists("noc/a"));
}

#[test]
fn without_a_way_to_the_cluster_it_says_what_to_set() {
    let mut command = Command::new(sibling("overcommit-operator").unwrap());
    let ended =
        command.arg("run").env("KUBECONFIG", "/nowhere/kubeconfig").env("HOME", "/nowhere").output().unwrap();
    assert_eq!(ended.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&ended.stderr).contains("set KUBECONFIG"));
}
