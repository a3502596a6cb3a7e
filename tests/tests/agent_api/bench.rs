//! An API server with the chart installed, one node's agent, and what a test does and sees there.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use overcommit_tests::agent::{Agent, OrderedNode};
pub(crate) use overcommit_tests::agent::{NODE, SYSTEM};
use overcommit_tests::api::{Access, Api, free_port};
use overcommit_tests::http;
use overcommit_tests::process::{Launch, Process};
use overcommit_tests::session::Session;
use overcommit_tests::wait::until;
use serde_json::{Value, json};

/// The account of agents, as the API server names it.
const ACCOUNT: &str = "system:serviceaccount:overcommit-system:overcommit-agent";
pub(crate) const SOON: Duration = Duration::from_mins(2);
/// A watch that failed for a while is tried again within a minute (kube-runtime, `DefaultBackoff`: 30 s and jitter), and once
/// more if the API server has just started and refuses everything; what follows is written within 32 s. Twice that.
pub(crate) const AFTER_TROUBLE: Duration = Duration::from_secs(320);
/// What the API server does is told once it has lasted for 30 s; by then the pauses between two tries are long.
const TOLD_BY: Duration = Duration::from_mins(4);
/// An answer takes milliseconds, and may wait for a turn that is under way; a call to an API server that hangs lasts 10 s:
/// whoever waits for one is later than this.
const PROMPT: Duration = Duration::from_secs(9);

/// An API server of its own with the chart installed, and one node's agent.
pub(crate) struct Bench {
    pub(crate) api: Api,
    access: Access,
    pub(crate) dir: PathBuf,
    port: u16,
    agent: Option<Process>,
}

impl Bench {
    pub(crate) fn start() -> Self {
        let OrderedNode { api, access } = OrderedNode::start().unwrap();
        let dir = Session::shared().unwrap().fresh_dir("agent").unwrap();
        Self { api, access, dir, port: free_port().unwrap(), agent: None }
    }

    /// A bench whose agent has reported its first orders, and has them on disk.
    pub(crate) fn running() -> Self {
        Self::running_with(&[])
    }

    pub(crate) fn running_with(further: &[&str]) -> Self {
        let mut bench = Self::start();
        bench.order("one");
        bench.start_agent_with(further);
        bench.expect_reported("one");
        bench.expect_kept("one");
        bench
    }

    pub(crate) fn start_agent(&mut self) {
        self.start_agent_with(&[]);
    }

    pub(crate) fn start_agent_with(&mut self, further: &[&str]) {
        let launch = Launch::new("agent", Agent::program().unwrap())
            .args(["run", "--node", NODE, "--state-dir"])
            .arg(&self.dir)
            .arg(format!("--http=127.0.0.1:{}", self.port))
            .args(further)
            .env("KUBECONFIG", self.access.kubeconfig_path());
        self.agent = Some(Session::shared().unwrap().spawn(launch).unwrap());
    }

    /// The token of the agents is one that the API server does not believe: it forgets an account a moment after that was
    /// deleted, and whoever asks within that moment is believed for 10 s more, and as long as the watch stays that was begun.
    pub(crate) fn disown_agents(&self) {
        self.api.kubectl(&["delete", "serviceaccount", "overcommit-agent", "--namespace", SYSTEM]).unwrap();
        let asked = || self.access.kubectl(&["get", "--raw=/apis/overcommit.dev/v1alpha1/nodeovercommits"]);
        until(SOON, "a token that is not believed", || match asked() {
            Err(said) if said.to_string().contains("must be logged in") => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .unwrap();
    }

    pub(crate) fn stop_agent(&mut self) {
        self.agent.take().unwrap().terminate(SOON).unwrap();
    }

    pub(crate) fn agent(&self) -> &Process {
        self.agent.as_ref().unwrap()
    }

    /// The node's orders, as the operator would write them.
    pub(crate) fn order(&self, revision: &str) {
        self.order_for(revision, &json!([]));
    }

    /// The same, with a list of guests.
    pub(crate) fn order_for(&self, revision: &str, guests: &Value) {
        let resolved = overcommit_crds::resolve::resolve(&overcommit_crds::OvercommitPolicySpec::default());
        let mut spec = json!({"policy": "p", "revision": revision, "resolved": resolved, "guests": guests});
        spec["resolved"]["interval"] = json!("1s");
        let object = json!({"apiVersion": "overcommit.dev/v1alpha1", "kind": "NodeOvercommit",
            "metadata": {"name": NODE}, "spec": spec});
        until(SOON, "the object", || self.api.apply(&object.to_string())).unwrap();
    }

    /// What a probe or Prometheus is told.
    pub(crate) fn get(&self, path: &str) -> Result<(u16, String), String> {
        http::get(self.port, path).map_err(|e| format!("{e:#}"))
    }

    /// What `status` answers.
    pub(crate) fn ask(&self) -> Result<Value, String> {
        let asked = Command::new(Agent::program().unwrap())
            .args(["status", "--output", "json", "--state-dir"])
            .arg(&self.dir)
            .output()
            .map_err(|e| e.to_string())?;
        let words = String::from_utf8_lossy(&asked.stderr).into_owned();
        serde_json::from_slice(&asked.stdout).map_err(|_| words)
    }

    /// Asks as `status` does, by the agent's socket itself: on a busy machine a program takes seconds to start, of which the
    /// agent knows nothing.
    fn ask_at_once(&self) {
        let asked = Instant::now();
        let mut agent = UnixStream::connect(self.dir.join("agent.sock")).unwrap();
        agent.write_all(b"status\n").unwrap();
        let mut answer = String::new();
        agent.read_to_string(&mut answer).unwrap();
        assert!(asked.elapsed() < PROMPT && answer.contains("report"), "{:?} {answer}", asked.elapsed());
    }

    pub(crate) fn wait_report(&self, what: &str, so: impl Fn(&Value) -> bool) -> Value {
        self.wait(AFTER_TROUBLE, what, || {
            let report = self.ask()?;
            if so(&report) { Ok(report) } else { Err(report.to_string()) }
        })
    }

    /// Waits until `path` is answered with this code and all these words.
    pub(crate) fn wait_answer(&self, path: &str, code: u16, words: &[&str]) {
        self.wait(AFTER_TROUBLE, path, || {
            let (seen, body) = self.get(path)?;
            let good = seen == code && words.iter().all(|word| body.contains(word));
            if good { Ok(()) } else { Err(format!("{seen} {body}")) }
        });
    }

    /// Waits until one of the troubles has all these words.
    pub(crate) fn wait_trouble(&self, words: &[&str]) {
        self.wait(TOLD_BY, &format!("the trouble {words:?}"), || {
            let report = self.ask()?;
            let mut troubles = report["troubles"].as_array().unwrap().iter().map(|t| t.as_str().unwrap());
            let good = troubles.any(|trouble| words.iter().all(|word| trouble.contains(word)));
            if good { Ok(()) } else { Err(report["troubles"].to_string()) }
        });
    }

    pub(crate) fn wait_no_trouble(&self) {
        self.wait_report("no trouble", |report| report["troubles"] == json!([]));
    }

    /// Several turns from now, each question answered at once.
    pub(crate) fn expect_turning(&self) -> Value {
        let began = Timestamp::now();
        let due = began + jiff::SignedDuration::from_secs(3);
        self.wait_report("three more turns", |report| {
            self.ask_at_once();
            report["at"].as_str().unwrap().parse::<Timestamp>().unwrap() > due
        })
    }

    pub(crate) fn expect_reported(&self, revision: &str) {
        self.expect("{.status.observedRevision}", |seen| seen == revision);
    }

    /// Waits until orders are on disk, and none is being written: that they are followed and reported says nothing of that.
    pub(crate) fn expect_kept(&self, revision: &str) {
        self.wait(SOON, "the orders on disk", || {
            let said = std::fs::read_to_string(self.dir.join("orders.json")).map_err(|e| e.to_string())?;
            let busy = self.fresh_orders().exists();
            if said.contains(&format!("\"{revision}\"")) && !busy { Ok(()) } else { Err(said) }
        });
    }

    /// Where new orders are written first.
    pub(crate) fn fresh_orders(&self) -> PathBuf {
        self.dir.join(".orders.json.new")
    }

    /// Waits for a field of the node's object.
    pub(crate) fn expect(&self, path: &str, so: impl Fn(&str) -> bool) {
        self.wait(AFTER_TROUBLE, path, || {
            let seen = self.api.field("", &format!("noc/{NODE}"), path).map_err(|e| format!("{e:#}"))?;
            if so(&seen) { Ok(()) } else { Err(seen) }
        });
    }

    pub(crate) fn expect_said(&self, words: &str) {
        self.wait(SOON, words, || if self.agent().output().contains(words) { Ok(()) } else { Err("silent") });
    }

    pub(crate) fn wait<T, E: std::fmt::Display>(
        &self,
        limit: Duration,
        what: &str,
        look: impl FnMut() -> Result<T, E>,
    ) -> T {
        let log = || self.agent.as_ref().map(Process::log_tail).unwrap_or_default();
        until(limit, what, look).unwrap_or_else(|e| panic!("{e:#}\n{}", log()))
    }

    /// The verbs that agents have on the nodes' objects.
    pub(crate) fn grant(&self, verbs: &[&str]) {
        self.grant_by(0, verbs);
        for verb in ["get", "list", "watch"] {
            self.expect_right(verb, "nodeovercommits.overcommit.dev", verbs.contains(&verb));
        }
    }

    /// The verbs that agents have on the status of the nodes' objects.
    pub(crate) fn grant_status(&self, verbs: &[&str]) {
        self.grant_by(1, verbs);
        self.expect_right("patch", "nodeovercommits.overcommit.dev/status", verbs.contains(&"patch"));
    }

    /// Or an agent that starts at once would begin a watch by the right that it has no longer.
    fn expect_right(&self, verb: &str, resource: &str, granted: bool) {
        self.api.wait_right(ACCOUNT, verb, resource, granted).unwrap();
    }

    fn grant_by(&self, rule: usize, verbs: &[&str]) {
        let verbs = json!([{"op": "replace", "path": format!("/rules/{rule}/verbs"), "value": verbs}]);
        let patch =
            ["patch", "clusterrole", "overcommit-agent", "--type=json", "--patch", &verbs.to_string()];
        self.api.kubectl(&patch).unwrap();
    }
}
