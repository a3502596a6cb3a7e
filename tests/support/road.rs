//! The main road as an administrator walks it: install, observe, enforce, explain, delete, uninstall, on real
//! Kubernetes with real KubeVirt. The demonstration shows these steps, the test asserts them.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::machine;
use crate::node::{Cluster, VmSpec};
use crate::product_images::{AGENT_ARCHIVE, OPERATOR_ARCHIVE, PRODUCT_IMAGES};
use crate::session::Session;
use crate::squeeze::Squeeze;
use crate::wait;

/// Full size of each guest.
pub const SIZE_MIB: u64 = 512;
/// What the node lacks for all of them at full size.
const SHORT_MIB: u64 = 400;
const NODE: &str = "node1";
const NAMESPACE: &str = "overcommit";
/// Boot grace, a take per statistics, and the spacing of status writes.
const PATIENCE: Duration = Duration::from_mins(4);
/// The valve opens then, whatever happens.
const SQUEEZED_AT_MOST: Duration = Duration::from_mins(12);

/// Where each step tells what it does: the command, what came back, or a line while it waits.
pub type Teller = dyn Fn(&str);

/// A cluster on its way.
pub struct Road<'a> {
    cluster: &'a Cluster,
    tell: &'a Teller,
}

/// The policy of the road, decided every 2 s.
fn policy(mode: &str) -> String {
    format!(
        "apiVersion: overcommit.dev/v1alpha1\nkind: OvercommitPolicy\nmetadata: {{name: pool}}\nspec:\n  mode: {mode}\n  \
         interval: 2s\n  reserve: {{minimum: 8%}}\n"
    )
}

impl<'a> Road<'a> {
    /// A road on this cluster.
    pub fn new(cluster: &'a Cluster, tell: &'a Teller) -> Self {
        Self { cluster, tell }
    }

    fn say(&self, what: &str) {
        (self.tell)(what);
    }

    fn kubectl(&self, args: &[&str]) -> Result<String> {
        let output = self.cluster.kubectl(args)?;
        self.say(&format!("$ kubectl {}\n{output}", args.join(" ")));
        Ok(output)
    }

    /// Imports our images and installs the chart.
    ///
    /// # Errors
    /// When an image cannot be built, or the release does not become ready.
    pub fn install(&self) -> Result<()> {
        for archive in [OPERATOR_ARCHIVE, AGENT_ARCHIVE] {
            self.cluster.import_image(&PRODUCT_IMAGES.file(archive)?)?;
        }
        let chart = machine::sources().join("../deploy/chart");
        let chart = chart.to_str().context("the path of the chart is not UTF-8")?;
        let args = [
            "install",
            "overcommit",
            chart,
            "--namespace",
            NAMESPACE,
            "--create-namespace",
            "--wait",
            "--timeout",
            "3m",
            "--set",
            "operator.image.repository=localhost/overcommit-operator,operator.image.tag=dev",
            "--set",
            "agent.image.repository=localhost/overcommit-agent,agent.image.tag=dev",
        ];
        let output = self.cluster.helm(&args)?;
        self.say(&format!("$ helm install overcommit deploy/chart --namespace {NAMESPACE}\n{output}"));
        Ok(())
    }

    /// Starts three machines: an idle one, one whose memory use goes up and down, one opted out.
    ///
    /// # Errors
    /// When one does not boot.
    pub fn start_guests(&self) -> Result<()> {
        let vm = |name: &str| VmSpec::new(name, SIZE_MIB).request_mib(64);
        self.cluster.create_vm(&vm("idle"))?;
        self.cluster.create_vm(&vm("worker").load("waves:20:260:300"))?;
        self.cluster.create_vm(&vm("opted-out").annotation("overcommit.dev/exclude", "true"))?;
        for name in ["idle", "worker", "opted-out"] {
            self.cluster.wait_vm_booted("default", name, Duration::from_mins(3))?;
        }
        self.kubectl(&["get", "vmi"]).map(|_| ())
    }

    /// Applies the policy in a mode.
    ///
    /// # Errors
    /// When the API server refuses it, or the node does not take it.
    pub fn apply(&self, mode: &str, reason: &str) -> Result<()> {
        let answer = self.cluster.apply(&policy(mode))?;
        self.say(&format!("$ kubectl apply -f policy.yaml    # mode: {mode}\n{answer}"));
        self.wait_status("the node to take it", |status| ready_reason(status) == Some(reason))?;
        self.kubectl(&["get", "ocp,noc"]).map(|_| ())
    }

    /// Makes memory short, behind the valve.
    ///
    /// # Errors
    /// When the machine has too little memory to leave enough of it.
    pub fn squeeze(&self) -> Result<Squeeze> {
        let status = self.wait_status("all guests and their overheads to be known", |status| {
            count(status, "total") == 3
                && mib(status, "promised").is_some_and(|p| p < 3 * SIZE_MIB + 3 * 180 * 4)
        })?;
        let spare = mib(&status, "budget").zip(mib(&status, "promised")).map(|(b, p)| b.saturating_sub(p));
        let take = spare.context("no budget in the status")? + SHORT_MIB;
        self.say(&format!("taking {take} MiB from the node by huge pages, behind the valve"));
        Squeeze::taking(Session::shared()?, take, SQUEEZED_AT_MOST)
    }

    /// Waits until the plan, or the fact, covers the shortfall; returns the status.
    ///
    /// # Errors
    /// When it does not in time.
    pub fn wait_settled(&self) -> Result<Value> {
        let status = self.wait_status("promises within the budget", |status| {
            mib(status, "shortfall") == Some(0) && mib(status, "reclaimed").is_some_and(|r| r > 200)
        })?;
        self.say(&table(&status));
        Ok(status)
    }

    /// What a guest really holds, by its own libvirt, in MiB.
    ///
    /// # Errors
    /// When its launcher cannot be asked.
    pub fn actual_mib(&self, name: &str) -> Result<u64> {
        let launcher = self.cluster.launcher("default", name)?;
        let connection = virt::connect::Connect::open(Some(&launcher.uri()))?;
        let domain = connection.lookup_domain_by_name(&format!("default_{name}"))?;
        let stats = domain.memory_stats(0)?;
        drop(domain);
        let tag = virt::sys::VIR_DOMAIN_MEMORY_STAT_ACTUAL_BALLOON;
        let actual = stats.iter().find(|s| s.tag == tag).context("no actual in the statistics")?;
        Ok(actual.val / 1024)
    }

    /// Waits until the worker has visibly more than the idle guest.
    ///
    /// # Errors
    /// When memory does not move in time.
    pub fn wait_moved(&self) -> Result<(u64, u64)> {
        let both = || Ok::<_, anyhow::Error>((self.actual_mib("worker")?, self.actual_mib("idle")?));
        wait::until(PATIENCE, "memory to move to the worker", || {
            let (worker, idle) = both()?;
            self.say(&format!("  worker {worker:>4} MiB, idle {idle:>4} MiB"));
            if worker > idle + 60 { Ok((worker, idle)) } else { bail!("worker {worker}, idle {idle}") }
        })
    }

    /// Asks the agent on the node why.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn explain(&self, name: &str) -> Result<String> {
        let pod = self.cluster.kubectl(&[
            "-n",
            NAMESPACE,
            "get",
            "pods",
            "-l",
            "app.kubernetes.io/component=agent",
            "-o",
            "name",
        ])?;
        let guest = format!("default/{name}");
        self.kubectl(&["-n", NAMESPACE, "exec", pod.trim(), "--", "overcommit-agent", "explain", &guest])
    }

    /// Deletes the policy and waits until every guest has its full size.
    ///
    /// # Errors
    /// When something stays taken.
    pub fn delete_policy(&self) -> Result<()> {
        self.kubectl(&["delete", "ocp", "pool", "--timeout=180s"])?;
        self.all_full()
    }

    /// Uninstalls the release; every guest must have its full size then.
    ///
    /// # Errors
    /// When the release's hook fails or a balloon stays inflated.
    pub fn uninstall(&self) -> Result<()> {
        let output = self.cluster.helm(&["uninstall", "overcommit", "--namespace", NAMESPACE, "--wait"])?;
        self.say(&format!("$ helm uninstall overcommit\n{output}"));
        self.all_full()
    }

    fn all_full(&self) -> Result<()> {
        for name in ["idle", "worker", "opted-out"] {
            let what = format!("{name} to have its full size");
            wait::until(Duration::from_mins(1), what, || {
                let actual = self.actual_mib(name)?;
                ensure!(actual == SIZE_MIB, "{actual} MiB");
                Ok::<_, anyhow::Error>(())
            })?;
        }
        Ok(())
    }

    fn wait_status(&self, what: &str, so: impl Fn(&Value) -> bool) -> Result<Value> {
        wait::until(PATIENCE, what, || {
            let text = self.cluster.kubectl(&["get", "noc", NODE, "-o", "json"])?;
            let status =
                serde_json::from_str::<Value>(&text)?.get("status").cloned().context("no status yet")?;
            if so(&status) { Ok(status) } else { bail!("{status}") }
        })
    }
}

/// One line per guest of a status.
pub fn table(status: &Value) -> String {
    let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).unwrap_or("").to_owned();
    let guests = status.get("topGuests").and_then(Value::as_array).cloned().unwrap_or_default();
    let line = |g: &Value| {
        let [name, full, target, actual, floor] =
            ["name", "full", "target", "actual", "floor"].map(|k| text(g, k));
        format!(
            "  {name:<22} full {full:>6}  target {target:>6}  actual {actual:>6}  floor {floor:>6}  {}",
            text(g, "message")
        )
    };
    guests.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// A guest of a status.
pub fn guest<'v>(status: &'v Value, name: &str) -> Option<&'v Value> {
    let guests = status.get("topGuests")?.as_array()?;
    guests.iter().find(|g| g.get("name").and_then(Value::as_str) == Some(&format!("default/{name}")))
}

fn ready_reason(status: &Value) -> Option<&str> {
    let conditions = status.get("conditions")?.as_array()?;
    let ready = conditions.iter().find(|c| c.get("type").and_then(Value::as_str) == Some("Ready"))?;
    ready.get("reason")?.as_str()
}

fn count(status: &Value, key: &str) -> i64 {
    status.pointer(&format!("/guests/{key}")).and_then(Value::as_i64).unwrap_or_default()
}

fn mib(status: &Value, entry: &str) -> Option<u64> {
    let text = status.pointer(&format!("/ledger/{entry}"))?.as_str()?;
    text.strip_suffix("Mi").unwrap_or(text).parse().ok()
}
