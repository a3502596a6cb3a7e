//! What guests notice of an upgrade and an uninstall while they hold less than their size: nothing but what the node has to
//! spare, and everything.

use std::ops::RangeInclusive;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use overcommit_core::policy::Mode;
use overcommit_core::units::Bytes;
use virt::connect::Connect;
use virt::domain::Domain;

use super::steps::{IMAGES, RESERVE, WANDERS_MIB};
use super::{NAMESPACE, Road, SIZE_MIB};
use crate::chart;
use crate::wait;

/// How often a guest is looked at meanwhile: a deflated balloon takes longer to inflate again.
const GLANCE: Duration = Duration::from_millis(100);
/// A new agent has adopted every guest by then.
const ADOPTED: Duration = Duration::from_mins(3);
/// What the last policy lacks for all guests at full size: nothing is short but by its word.
const RESERVED_MIB: u64 = 250;
/// Any other value than the default restarts the agent.
const NEW_LOG: &str = "agent.log=overcommit_agent=info";

/// What a guest held while the agent was replaced, in MiB.
#[derive(Clone, Debug)]
pub struct Upgrade {
    /// Before it.
    pub before: u64,
    /// The least and the most while it went on.
    pub meanwhile: RangeInclusive<u64>,
    /// What the node had to spare before it.
    pub spare: u64,
}

/// A guest's balloon, by its own libvirt.
pub(super) struct Held {
    domain: Domain,
    _connection: Connect,
}

impl Held {
    /// What it holds, in MiB.
    pub(super) fn mib(&self) -> Result<u64> {
        let tag = virt::sys::VIR_DOMAIN_MEMORY_STAT_ACTUAL_BALLOON;
        let stats = self.domain.memory_stats(0)?;
        let actual = stats.iter().find(|s| s.tag == tag).context("no actual in the statistics")?;
        Ok(actual.val / 1024)
    }
}

impl Road<'_> {
    pub(super) fn held(&self, name: &str) -> Result<Held> {
        let launcher = self.cluster.launcher("default", name)?;
        let connection = Connect::open(Some(&launcher.uri()))?;
        let domain = connection.lookup_domain_by_name(&format!("default_{name}"))?;
        Ok(Held { domain, _connection: connection })
    }

    /// The pod of the agent that knows a guest: that of the guest's node.
    pub(super) fn agent_of(&self, guest: &str) -> Result<String> {
        let node = self.kubectl(&["get", "vmi", guest, "--output=jsonpath={.status.nodeName}"])?;
        let here = format!("--field-selector=spec.nodeName={node}");
        let of_agents = "--selector=app.kubernetes.io/component=agent";
        let listed =
            self.kubectl(&["--namespace", NAMESPACE, "get", "pod", of_agents, &here, "--output=name"])?;
        Ok(listed.trim().to_owned())
    }

    /// Replaces the agent while memory is short.
    pub(super) fn upgrade(&self) -> Result<Upgrade> {
        self.step(
            "an upgrade while memory is short",
            "The agent hands over: what is spare is spread, what was taken stays, and its successor adopts every balloon.",
        );
        let (guest, old) = (self.held("idle")?, self.agents()?);
        let spare = self.report()?.ledger.context("the host cannot be read")?.spare.get() >> 20;
        let before = guest.mib()?;
        let meanwhile = held_while(&guest, || {
            self.helm_upgrade()?;
            self.adopted_by_another(&old)
        })?;
        let (least, most) = (*meanwhile.start(), *meanwhile.end());
        // Helm and whatever else runs on the machine come and go, and what they leave is given to guests. Half of what
        // the guest lacks is far more than that, and far less than an agent that deflates would give.
        let bound = before + spare + SIZE_MIB.saturating_sub(before) / 2;
        ensure!(
            bound < SIZE_MIB,
            "{spare} MiB to spare and {before} held: an upgrade that deflates would not show"
        );
        ensure!(
            most <= bound,
            "the idle guest held {before} MiB before the upgrade, and up to {most} during it"
        );
        self.saw(&format!(
            "by libvirt's word, looked at each {} ms: the idle guest held {before} MiB before, {least} to {most} \
             meanwhile. Nobody was deflated, and the new agent knows what each guest had before the first one came.",
            GLANCE.as_millis()
        ));
        Ok(Upgrade { before, meanwhile, spare })
    }

    fn helm_upgrade(&self) -> Result<()> {
        let chart = chart::folder();
        let chart = chart.to_str().context("the path of the chart is not UTF-8")?;
        let args = ["upgrade", "overcommit", chart, "--namespace", NAMESPACE, "--wait", "--timeout", "6m"];
        let set = ["--set", IMAGES, "--set", NEW_LOG];
        let output = self
            .meanwhile("helm waits for the new agent", || self.cluster.helm(&[&args[..], &set].concat()))?;
        self.ran(
            &format!("helm upgrade overcommit deploy/chart --namespace overcommit --set {NEW_LOG} --wait"),
            &output,
        );
        Ok(())
    }

    /// Waits until another agent than those of `old` has taken the idle guest over, and keeps the node within its budget.
    fn adopted_by_another(&self, old: &[Agent]) -> Result<()> {
        self.meanwhile("the new agent adopts the guests", || {
            wait::until(ADOPTED, "the new agent to adopt the idle guest", || {
                let now = self.agents()?;
                let new = now.iter().find(|agent| !old.iter().any(|old| old.name == agent.name));
                let new = new.with_context(|| format!("{now:?}"))?;
                let log = self.cluster.kubectl(&["--namespace", NAMESPACE, "logs", &new.name])?;
                ensure!(log.contains("adopted guest=default/idle"), "{log}");
                Ok::<_, anyhow::Error>(())
            })
        })?;
        self.wait_report("the new agent to keep within the budget", |report| {
            let squeezed = report.guest("idle").is_some_and(|g| g.target < Bytes::from_mib(SIZE_MIB));
            let fits = report.ledger.is_some_and(|l| l.shortfall <= Bytes::from_mib(WANDERS_MIB));
            squeezed && fits && report.mode == Mode::Enforce
        })
        .map(drop)
    }

    /// Uninstalls the release while its policy is at work; every guest must have its full size before the agent goes.
    ///
    /// # Errors
    /// When nothing is taken under the policy, when the release's hook fails, or when a balloon stays inflated.
    pub fn uninstall(&self) -> Result<()> {
        self.step(
            "the release goes while its policy is at work",
            "A policy that reserves more than is free has the agent take once more. Uninstalling deletes it first, and \
             waits until everything is given back; the CRDs stay, as Helm leaves them.",
        );
        self.squeeze_by_policy()?;
        let guest = self.held("idle")?;
        let (output, took) = self
            .meanwhile("helm waits for the hook and the pods", || self.full_before_the_agent_goes(&guest))?;
        self.ran("helm uninstall overcommit --namespace overcommit --wait", &output);
        self.all_full()?;
        let left = self.cluster.kubectl(&["get", "ocp,noc", "--output=name"])?;
        ensure!(left.is_empty(), "left behind: {left}");
        self.saw(&format!(
            "the idle guest had its full size back {:.1} s after the command, while the agent was there. No policy is left.",
            took.as_secs_f64()
        ));
        Ok(())
    }

    /// Has guests squeezed by a reserve that the node does not have, although it has memory enough.
    fn squeeze_by_policy(&self) -> Result<()> {
        self.apply("Observe", RESERVE)?;
        let report = self.wait_report("the node's account under the policy", |report| {
            report.mode == Mode::Observe && report.ledger.is_some_and(|ledger| !ledger.reserve.is_zero())
        })?;
        let ledger = report.ledger.context("the host cannot be read")?;
        let reserve = (ledger.reserve.plus(ledger.spare).get() >> 20) + RESERVED_MIB;
        self.apply("Enforce", &format!("{reserve}Mi"))?;
        self.wait_report("the idle guest to give", |report| {
            let given = |g: &overcommit_core::view::GuestView| g.full.minus(g.actual);
            report.guest("idle").is_some_and(|g| given(g) >= Bytes::from_mib(RESERVED_MIB / 4))
        })
        .map(drop)
    }

    /// Uninstalls; returns helm's words, and how long it took until the guest was seen with everything back while the agent
    /// was there.
    fn full_before_the_agent_goes(&self, guest: &Held) -> Result<(String, Duration)> {
        let begun = Instant::now();
        let held = guest.mib()?;
        ensure!(held < SIZE_MIB, "the idle guest is not squeezed: {held} MiB");
        let args = ["uninstall", "overcommit", "--namespace", NAMESPACE, "--wait"];
        let uninstall = || self.cluster.helm(&args);
        let (output, seen) = while_working(uninstall, || {
            // In this order: a guest that was full before the agent is looked for was full while it was there.
            let full = guest.mib()? == SIZE_MIB;
            let stays = self.agents()?.iter().any(|agent| !agent.ends);
            Ok((full && stays).then(|| begun.elapsed()))
        })?;
        let took = seen.into_iter().flatten().next().with_context(|| {
            format!(
                "the agent went before the idle guest, which held {held} MiB, was seen with its full size"
            )
        })?;
        Ok((output, took))
    }

    /// The agents' pods.
    fn agents(&self) -> Result<Vec<Agent>> {
        let each =
            "--output=jsonpath={range .items[*]}{.metadata.name} {.metadata.deletionTimestamp}{\"\\n\"}{end}";
        let of_agents = "--selector=app.kubernetes.io/component=agent";
        let listed = self.cluster.kubectl(&["--namespace", NAMESPACE, "get", "pods", of_agents, each])?;
        let agent = |line: &str| {
            let (name, ends) = line.split_once(' ')?;
            Some(Agent { name: name.to_owned(), ends: !ends.trim().is_empty() })
        };
        Ok(listed.lines().filter_map(agent).collect())
    }
}

/// An agent's pod.
#[derive(Debug)]
struct Agent {
    name: String,
    /// Somebody deletes it.
    ends: bool,
}

/// The least and the most that the guest held while the work was done, in MiB.
fn held_while(guest: &Held, work: impl FnOnce() -> Result<()> + Send) -> Result<RangeInclusive<u64>> {
    let ((), seen) = while_working(work, || guest.mib())?;
    let ends = seen.iter().min().zip(seen.iter().max());
    let (least, most) = ends.context("the work ended before the guest was looked at")?;
    Ok(*least..=*most)
}

/// Does the work, and looks again and again until it is done.
fn while_working<W: Send, T>(
    work: impl FnOnce() -> Result<W> + Send,
    look: impl Fn() -> Result<T>,
) -> Result<(W, Vec<T>)> {
    std::thread::scope(|scope| {
        let (done, awaited) = channel::<()>();
        let worker = scope.spawn(move || {
            // Its end ends the looking, however the work ends.
            let _done = done;
            work()
        });
        let mut seen = Vec::new();
        while awaited.recv_timeout(GLANCE) == Err(RecvTimeoutError::Timeout) {
            seen.push(look());
        }
        let result = worker.join().unwrap_or_else(|_| Err(anyhow!("the work panicked")))?;
        Ok((result, seen.into_iter().collect::<Result<_>>()?))
    })
}
