//! The API server with our rights installed, an operator, and what a test does and sees there.

use std::net::TcpStream;
use std::ops::Deref;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use overcommit_tests::api::{Access, Api, Identity, free_port};
use overcommit_tests::http;
use overcommit_tests::machine::sibling;
use overcommit_tests::process::{Launch, Process};
use overcommit_tests::session::Session;
use overcommit_tests::wait::until;
use serde_json::{Value, json};

/// Everything that the operator does at once, and sums that nobody waits for, once a minute; generous, for a busy machine.
pub(crate) const SOON: Duration = Duration::from_mins(2);
pub(crate) const SYSTEM: &str = "overcommit-system";

/// A running operator.
pub(crate) struct Operator {
    pub(crate) process: Process,
    port: u16,
}

impl Operator {
    pub(crate) fn start(access: &Access, args: &[&str]) -> Self {
        let port = free_port().unwrap();
        let launch = Launch::new("operator", sibling("overcommit-operator").unwrap())
            .arg("run")
            .arg(format!("--http=127.0.0.1:{port}"))
            .arg(format!("--namespace={SYSTEM}"))
            .args(args)
            .env("KUBECONFIG", access.kubeconfig_path());
        let process = Session::shared().unwrap().spawn(launch).unwrap();
        process.ready(SOON, "/healthz", || TcpStream::connect(("127.0.0.1", port)).map(drop)).unwrap();
        Self { process, port }
    }

    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        http::get(self.port, path).unwrap()
    }

    pub(crate) fn wait_ready(&self) {
        let look = || match self.get("/readyz") {
            (200, _) => Ok(()),
            (_, text) => Err(text),
        };
        self.process.ready(SOON, "/readyz", look).unwrap();
    }

    /// The sum of all samples whose line starts so.
    pub(crate) fn metric(&self, start: &str) -> f64 {
        let (code, text) = self.get("/metrics");
        assert_eq!(code, 200);
        text.lines()
            .filter(|l| l.starts_with(start))
            .map(|l| l.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
            .sum()
    }
}

/// An API server that one test after the other has for itself, for policies are for the whole cluster: there are as many as
/// tests run at a time.
pub(crate) struct Lent(Option<Api>);

impl Lent {
    fn take() -> Self {
        let idle = Self::idle().pop();
        Self(Some(idle.unwrap_or_else(|| Api::start().unwrap())))
    }

    fn idle() -> MutexGuard<'static, Vec<Api>> {
        static IDLE: Mutex<Vec<Api>> = Mutex::new(Vec::new());
        IDLE.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Deref for Lent {
    type Target = Api;
    fn deref(&self) -> &Api {
        self.0.as_ref().unwrap()
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        Self::idle().extend(self.0.take());
    }
}

/// An API server, empty of what earlier tests made, and an operator.
pub(crate) struct Bench {
    // It ends before another test has the API server.
    operator: Option<Operator>,
    pub(crate) api: Lent,
}

impl Bench {
    pub(crate) fn start(args: &[&str]) -> Self {
        let mut bench = Self::without_operator();
        bench.restart(args);
        bench
    }

    pub(crate) fn without_operator() -> Self {
        let api = Lent::take();
        install(&api);
        api.install_vmi_crd().unwrap();
        clear(&api);
        api.apply(
            &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}).to_string(),
        )
        .unwrap();
        Self { operator: None, api }
    }

    /// Kills the operator, if one runs, and starts another.
    pub(crate) fn restart(&mut self, args: &[&str]) {
        self.operator = None;
        let operator = Operator::start(&service_account(&self.api, "overcommit-operator"), args);
        operator.wait_ready();
        self.operator = Some(operator);
    }

    /// Starts one that is not going to be ready.
    pub(crate) fn start_unready(&mut self, access: &Access) {
        self.operator = Some(Operator::start(access, &[]));
    }

    pub(crate) fn operator(&self) -> &Operator {
        self.operator.as_ref().unwrap()
    }

    pub(crate) fn node(&self, name: &str, labels: &[&str]) {
        let mut all = vec!["kubevirt.io/schedulable=true"];
        all.extend(labels);
        self.api.ensure_node(name, &all).unwrap();
    }

    pub(crate) fn policy(&self, name: &str, spec: &Value) {
        policy(&self.api, name, spec);
    }

    pub(crate) fn guest(&self, name: &str, node: &str, labels: &Value, annotations: &Value) {
        guest(&self.api, name, node, labels, annotations);
    }

    /// A pod of a guest, as KubeVirt makes them; returns its UID. There is no kubelet that would run it.
    pub(crate) fn launcher(&self, name: &str, guest: &str, what: &str) -> String {
        let uid = self.api.field("shop", &format!("vmi/{guest}"), "{.metadata.uid}").unwrap();
        let owner = json!({"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance", "name": guest,
            "uid": uid, "controller": true, "blockOwnerDeletion": true});
        let metadata = json!({"name": name, "namespace": "shop", "labels": {"kubevirt.io": what}, "ownerReferences": [owner]});
        let spec = json!({"containers": [{"name": "compute", "image": "none"}], "automountServiceAccountToken": false});
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec});
        // Refused until the namespace's controllers have made its service account.
        until(SOON, "the pod", || self.api.apply(&pod.to_string())).unwrap_or_else(|e| self.fail(&e));
        self.api.field("shop", &format!("pod/{name}"), "{.metadata.uid}").unwrap()
    }

    /// Waits until an object's field has this value.
    pub(crate) fn expect(&self, object: &str, path: &str, value: &str) {
        self.api.wait_field("", object, path, SOON, |seen| seen == value).unwrap_or_else(|e| self.fail(&e));
    }

    pub(crate) fn expect_gone(&self, object: &str) {
        let look = || if self.exists(object) { Err(format!("{object} is there")) } else { Ok(()) };
        until(SOON, format!("the end of {object}"), look).unwrap_or_else(|e| self.fail(&e));
    }

    pub(crate) fn exists(&self, object: &str) -> bool {
        !self.api.kubectl(&["get", object, "--ignore-not-found", "--output=name"]).unwrap().trim().is_empty()
    }

    pub(crate) fn fail<T>(&self, error: &anyhow::Error) -> T {
        let log = self.operator.as_ref().map(|o| o.process.log_tail()).unwrap_or_default();
        panic!("{error:#}\n{log}")
    }

    pub(crate) fn guests(&self, node: &str) -> Value {
        serde_json::from_str(&self.api.field("", &format!("noc/{node}"), "{.spec.guests}").unwrap())
            .unwrap_or(json!([]))
    }

    pub(crate) fn delete_policy(&self, name: &str) {
        self.api.kubectl(&["delete", "ocp", name, "--wait=false"]).unwrap();
    }

    /// What the agent of a node would report.
    pub(crate) fn agent_says(&self, node: &str, condition: &str, yes: bool, message: &str) {
        let status = if yes { "True" } else { "False" };
        // Of one moment.
        let orders = "{.spec.revision} {.metadata.generation}";
        let orders = self.api.field("", &format!("noc/{node}"), orders).unwrap();
        let (revision, generation) = orders.split_once(' ').unwrap();
        let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
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

    pub(crate) fn condition(policy: &str, type_: &str, field: &str) -> (String, String) {
        (format!("ocp/{policy}"), format!("{{.status.conditions[?(@.type==\"{type_}\")].{field}}}"))
    }

    pub(crate) fn expect_condition(
        &self,
        policy: &str,
        type_: &str,
        field: &str,
        test: impl Fn(&str) -> bool,
    ) -> String {
        let (object, path) = Self::condition(policy, type_, field);
        self.api.wait_field("", &object, &path, SOON, test).unwrap_or_else(|e| self.fail(&e))
    }

    pub(crate) fn events(&self) -> String {
        let columns = "--output=custom-columns=REASON:.reason,OBJECT:.involvedObject.name,MESSAGE:.message";
        self.api.kubectl(&["get", "events", "--namespace=default", columns]).unwrap()
    }

    pub(crate) fn expect_event(&self, reason: &str, about: &str) {
        let found = |line: &str| line.starts_with(reason) && line.contains(about);
        let look = || {
            let events = self.events();
            if events.lines().any(found) { Ok(()) } else { Err(events) }
        };
        until(SOON, format!("event {reason} about {about}"), look).unwrap_or_else(|e| self.fail(&e));
    }
}

pub(crate) fn policy(api: &Access, name: &str, spec: &Value) {
    let body = json!({"apiVersion": "overcommit.dev/v1alpha1", "kind": "OvercommitPolicy", "metadata": {"name": name}, "spec": spec});
    apply(api, &body);
}

/// An API server that has just started knows no kind but its own for a moment.
fn apply(api: &Access, object: &Value) {
    until(SOON, "the object", || api.apply(&object.to_string())).unwrap();
}

pub(crate) fn guest(api: &Access, name: &str, node: &str, labels: &Value, annotations: &Value) {
    let mut labels = labels.clone();
    labels["kubevirt.io/nodeName"] = json!(node);
    let metadata = json!({"name": name, "namespace": "shop", "labels": labels, "annotations": annotations});
    let body = json!({"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance", "metadata": metadata,
        "spec": {"domain": {"memory": {"guest": "256Mi"}}}});
    apply(api, &body);
}

/// The CRDs, and the service accounts with their rights as the chart has them.
pub(crate) fn install(api: &Access) {
    let operator = Command::new(sibling("overcommit-operator").unwrap()).arg("crds").output().unwrap();
    assert!(operator.status.success());
    api.apply(&String::from_utf8(operator.stdout).unwrap()).unwrap();
    api.wait_own_kinds().unwrap();
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

pub(crate) fn service_account(api: &Access, name: &str) -> Access {
    api.as_service_account(Identity { namespace: SYSTEM, name, node: None }).unwrap()
}

/// Removes what earlier tests made.
pub(crate) fn clear(api: &Access) {
    for held in api.kubectl(&["get", "ocp,noc", "--output=name"]).unwrap().lines() {
        api.kubectl(&["delete", held, "--wait=false"]).unwrap();
        let patch = ["patch", held, "--type=merge", "--patch", r#"{"metadata":{"finalizers":null}}"#];
        // One without finalizers is gone already.
        let _ = api.kubectl(&patch);
    }
    api.kubectl(&["delete", "noc,nodes", "--all", "--wait=true", "--timeout=120s"]).unwrap();
    api.kubectl(&["delete", "vmi", "--all", "--all-namespaces", "--timeout=120s"]).unwrap();
    api.kubectl(&["delete", "pods", "--all", "--namespace=shop", "--force", "--ignore-not-found"]).unwrap();
    api.kubectl(&["annotate", "namespace", "default", "overcommit.dev/exclude-"]).unwrap();
    let ours =
        ["delete", "configmaps", "--namespace", SYSTEM, "--field-selector=metadata.name!=kube-root-ca.crt"];
    api.kubectl(&ours).unwrap();
}
