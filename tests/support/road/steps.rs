//! The steps, each with what it does, its commands, and what was to be seen.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use overcommit_core::model::ASSUMED_OVERHEAD;
use overcommit_core::units::Bytes;
use serde_json::Value;

use super::{GUESTS, NAMESPACE, Road, SIZE_MIB};
use crate::chart;
use crate::node::VmSpec;
use crate::parts::told;
use crate::product_images::{AGENT_ARCHIVE, OPERATOR_ARCHIVE, PRODUCT_IMAGES};
use crate::session::Session;
use crate::squeeze::Squeeze;
use crate::wait;

/// What the node lacks for all guests at full size. Four times as much could be taken: the machine may do other things
/// beside, and their memory is missing, too.
const SHORT_MIB: u64 = 300;
/// The worker has visibly more than the idle guest then.
const MOVED_MIB: u64 = 60;
/// The valve opens then, whatever happens.
const SQUEEZED_AT_MOST: Duration = Duration::from_mins(25);
const BOOTED: Duration = Duration::from_mins(6);
const FULL: Duration = Duration::from_mins(3);
pub(super) const IMAGES: &str = "operator.image.repository=localhost/overcommit-operator,operator.image.tag=dev,\
                      agent.image.repository=localhost/overcommit-agent,agent.image.tag=dev";

/// What the road's policy reserves.
pub(super) const RESERVE: &str = "8%";

/// The policy of the road, decided every 2 s. The growth to survive is the median, not the highest of a while: the
/// machine may do other things beside.
fn policy(mode: &str, reserve: &str) -> String {
    format!(
        "apiVersion: overcommit.dev/v1alpha1\nkind: OvercommitPolicy\nmetadata: {{name: pool}}\nspec:\n  mode: {mode}\n  \
         interval: 2s\n  reserve: {{minimum: {reserve}, growthPercentile: 50}}\n"
    )
}

/// The node's own memory wanders by this much while nothing happens.
pub(super) const WANDERS_MIB: u64 = 24;
/// What has to be reclaimed at least before it is shown that memory moves.
const RECLAIMED_MIB: u64 = 100;

impl Road<'_> {
    /// Takes away what an earlier walk left on a cluster that was kept.
    ///
    /// # Errors
    /// When something does not go.
    pub fn clear(&self) -> Result<()> {
        self.step(
            "a kept cluster: what the last demonstration left there goes",
            "Release, policy and guests.",
        );
        let listed = self.cluster.helm(&["list", "--namespace", NAMESPACE, "--short"])?;
        if listed.contains("overcommit") {
            self.helm_uninstall()?;
        }
        let mut args = vec!["delete", "vm", "--ignore-not-found", "--timeout=300s"];
        args.extend(GUESTS);
        self.kubectl(&args)?;
        self.meanwhile("the guests' end", || {
            wait::until(BOOTED, "the guests' end", || {
                let left = self.cluster.kubectl(&["get", "vmi", "--output=name"])?;
                ensure!(!GUESTS.iter().any(|name| left.contains(&format!("/{name}\n"))), "{left}");
                Ok::<_, anyhow::Error>(())
            })
        })
    }

    pub(super) fn install(&self) -> Result<()> {
        self.step(
            "our images and chart",
            "An operator for the cluster, an agent on each node. Without a policy they touch nothing.",
        );
        self.meanwhile("importing our two images into the node", || {
            [OPERATOR_ARCHIVE, AGENT_ARCHIVE]
                .iter()
                .try_for_each(|archive| self.cluster.import_image(&PRODUCT_IMAGES.file(archive)?))
        })?;
        let chart = chart::folder();
        let chart = chart.to_str().context("the path of the chart is not UTF-8")?;
        let args = ["install", "overcommit", chart, "--namespace", NAMESPACE, "--create-namespace"];
        let wait = ["--wait", "--timeout", "6m", "--set", IMAGES];
        let output = self.meanwhile("helm waits until both are ready", || {
            self.cluster.helm(&[&args[..], &wait].concat())
        })?;
        self.ran(
            "helm install overcommit deploy/chart --namespace overcommit --create-namespace --wait",
            &output,
        );
        self.kubectl(&["--namespace", NAMESPACE, "get", "pods"]).map(drop)
    }

    pub(super) fn start_guests(&self) -> Result<()> {
        self.step(
            "three virtual machines of 1 GiB",
            "One is idle. One works: it fills 40 to 520 MiB and empties them again, in waves. One has opted out by an \
             annotation.",
        );
        let vm = |name: &str| VmSpec::new(name, SIZE_MIB).request_mib(64);
        let opted_out = vm("opted-out").annotation("overcommit.dev/exclude", "true");
        self.meanwhile("the guests boot", || {
            for guest in [vm("idle"), vm("worker").load("waves:40:520:300"), opted_out] {
                self.cluster.create_vm(&guest)?;
            }
            GUESTS.iter().try_for_each(|name| self.cluster.wait_vm_booted("default", name, BOOTED))
        })?;
        self.kubectl(&["get", "vmi"]).map(drop)
    }

    pub(super) fn observe(&self) -> Result<()> {
        self.step(
            "a policy that only observes",
            "Mode Observe is where every policy starts: it measures, plans, reports, and touches nothing.",
        );
        self.apply("Observe", RESERVE)?;
        self.wait_ready("Observing")?;
        self.kubectl(&["get", "ocp,noc"]).map(drop)
    }

    pub(super) fn squeeze(&self) -> Result<Squeeze> {
        self.step(
            "memory becomes short",
            "Huge pages are reserved on the node until its guests may touch 300 MiB more than it has. A valve gives \
             them back if the machine stalls.",
        );
        let all = GUESTS.len();
        let assumed = Bytes::from_mib((ASSUMED_OVERHEAD.get() >> 20) * all as u64);
        let report = self.wait_report("every guest's overhead to be measured", |report| {
            report.guests.len() == all && report.ledger.is_some_and(|ledger| ledger.overhead != assumed)
        })?;
        let ledger = report.ledger.context("the host cannot be read")?;
        let take = (ledger.budget.minus(ledger.promised).get() >> 20) + SHORT_MIB;
        let squeeze = self.meanwhile("reserving huge pages", || {
            let squeeze = Squeeze::taking(Session::shared()?, take, SQUEEZED_AT_MOST)?;
            squeeze.until_missing(SHORT_MIB, || self.report()).map(|_| squeeze)
        })?;
        let take = squeeze.taken_mib()?;
        self.saw(&format!(
            "{take} MiB are gone: if every guest touched what it may, the node would kill one."
        ));
        Ok(squeeze)
    }

    /// Others that use the machine leave memory behind meanwhile: then that is taken as well.
    fn is_still_short(&self, squeeze: &Squeeze) -> bool {
        squeeze.until_missing(SHORT_MIB, || self.report()).is_ok()
    }

    pub(super) fn plan(&self, squeeze: &Squeeze) -> Result<()> {
        self.step(
            "what would the policy do?",
            "The plan is tried on shadow balloons, step by step, as it would be done.",
        );
        let status = self.wait_status("a plan within the budget in the node's status", |status| {
            self.is_still_short(squeeze)
                && mib(status, "shortfall").is_some_and(|s| s <= WANDERS_MIB)
                && mib(status, "reclaimed").is_some_and(|r| r > RECLAIMED_MIB)
        })?;
        let planned = status.get("topGuests").map(ToString::to_string).unwrap_or_default();
        ensure!(planned.contains("default/idle"), "the plan does not name the idle guest: {planned}");
        for name in GUESTS {
            ensure!(self.actual_mib(name)? == SIZE_MIB, "{name} was touched while observing");
        }
        self.kubectl(&["get", "ocp,noc"])?;
        self.saw("the plan covers the shortfall. By libvirt's word every guest still has its full size.");
        Ok(())
    }

    /// Returns how long it took until what was promised was within the budget.
    pub(super) fn enforce(&self, squeeze: &Squeeze) -> Result<Duration> {
        self.step("the same policy, enforced", "One word of the policy changes.");
        let begun = Instant::now();
        self.apply("Enforce", RESERVE)?;
        self.wait_report("promises within the budget", |report| {
            let settled = self.is_still_short(squeeze)
                && report.ledger.is_some_and(|l| {
                    l.shortfall <= Bytes::from_mib(WANDERS_MIB)
                        && l.reclaimed > Bytes::from_mib(RECLAIMED_MIB)
                });
            settled && report.mode == overcommit_core::policy::Mode::Enforce
        })?;
        let took = begun.elapsed();
        self.wait_ready("Enforcing")?;
        self.kubectl(&["get", "ocp,noc"])?;
        self.saw(&format!(
            "after {} every guest may touch all that it is still allowed to, and the node survives it. The opted-out \
             guest gave nothing.",
            told(took)
        ));
        Ok(took)
    }

    /// Returns what the worker and the idle guest hold, in MiB.
    pub(super) fn watch_memory_move(&self) -> Result<(u64, u64)> {
        self.step(
            "memory moves to whoever works",
            "As the worker fills its memory, the agent gives it what the others do not use.",
        );
        self.wait_report("the worker to have visibly more than the idle guest", |report| {
            let actual = |name| report.guest(name).map_or(Bytes::ZERO, |g| g.actual);
            actual("worker") > actual("idle").plus(Bytes::from_mib(MOVED_MIB))
        })?;
        let (worker, idle) = (self.actual_mib("worker")?, self.actual_mib("idle")?);
        let out = self.actual_mib("opted-out")?;
        ensure!(out == SIZE_MIB, "the opted-out guest was touched: {out} MiB");
        self.saw(&format!("by libvirt's word: worker {worker} MiB, idle {idle} MiB, opted-out {out} MiB."));
        Ok((worker, idle))
    }

    pub(super) fn explain(&self) -> Result<()> {
        self.step(
            "why?",
            "Every number has a reason: in the status, in the metrics, and from the agent itself.",
        );
        let agent = self.agent_of("idle")?;
        for name in GUESTS {
            let guest = format!("default/{name}");
            let exec = ["--namespace", NAMESPACE, "exec", &agent, "--", "overcommit-agent"];
            let told = self.kubectl(&[&exec[..], &["explain", &guest]].concat())?;
            ensure!(told.contains(&format!("{guest}:")), "no explanation of {guest}: {told}");
        }
        self.saw(
            "target: what the agent lets the guest hold. uses: what it cannot do without, by its own statistics. \
             floor: nothing is taken below this, whatever a policy says.",
        );
        Ok(())
    }

    /// Returns what was given back, in MiB, and how long that took.
    pub(super) fn give_back(&self, squeeze: Squeeze) -> Result<(u64, Duration)> {
        self.step(
            "the policy goes: everything is given back",
            "The node has its memory again. Deleting the policy returns when the agent has released every guest.",
        );
        let held = GUESTS.iter().map(|name| self.actual_mib(name)).sum::<Result<u64>>()?;
        let lacked = (SIZE_MIB * GUESTS.len() as u64).saturating_sub(held);
        let begun = Instant::now();
        squeeze.release()?;
        self.kubectl(&["delete", "ocp", "pool", "--timeout=300s"])?;
        self.all_full()?;
        let took = begun.elapsed();
        self.saw(&format!("{lacked} MiB went back in {}; every guest has its full size.", told(took)));
        Ok((lacked, took))
    }

    fn helm_uninstall(&self) -> Result<()> {
        let args = ["uninstall", "overcommit", "--namespace", NAMESPACE, "--wait"];
        let output = self.meanwhile("helm waits for the hook and the pods", || self.cluster.helm(&args))?;
        self.ran("helm uninstall overcommit --namespace overcommit --wait", &output);
        Ok(())
    }

    pub(super) fn apply(&self, mode: &str, reserve: &str) -> Result<()> {
        let policy = policy(mode, reserve);
        let answer = self.cluster.apply(&policy)?;
        self.screen.say("  $ kubectl apply -f - <<.");
        policy.lines().for_each(|line| self.screen.say(&format!("    {line}")));
        self.screen.say(&format!("    .\n    {}", answer.trim_end()));
        Ok(())
    }

    fn wait_ready(&self, reason: &str) -> Result<()> {
        let what = format!("the node's status to say {reason}");
        self.wait_status(&what, |status| ready_reason(status) == Some(reason)).map(drop)
    }

    pub(super) fn all_full(&self) -> Result<()> {
        for name in GUESTS {
            wait::until(FULL, format!("{name} to have its full size"), || {
                let actual = self.actual_mib(name)?;
                ensure!(actual == SIZE_MIB, "{actual} MiB");
                Ok::<_, anyhow::Error>(())
            })?;
        }
        Ok(())
    }
}

fn ready_reason(status: &Value) -> Option<&str> {
    let conditions = status.get("conditions")?.as_array()?;
    let ready = conditions.iter().find(|c| c.get("type").and_then(Value::as_str) == Some("Ready"))?;
    ready.get("reason")?.as_str()
}

fn mib(status: &Value, entry: &str) -> Option<u64> {
    let text = status.pointer(&format!("/ledger/{entry}"))?.as_str()?;
    text.strip_suffix("Mi").unwrap_or(text).parse().ok()
}
