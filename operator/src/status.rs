//! What is reported of a policy: counts, sums and conditions as kstatus reads them. Pure.

use std::time::Duration;

use jiff::Timestamp;
use overcommit_core::units::Bytes;
use overcommit_crds::condition::{Condition, ConditionStatus};
use overcommit_crds::names::condition::{ACCEPTED, DEGRADED, PROGRESSING, READY};
use overcommit_crds::node::LedgerStatus;
use overcommit_crds::policy::{MemorySums, Mode, NodeCounts};
use overcommit_crds::quantity::Size;
use overcommit_crds::{NodeOvercommitStatus, OvercommitPolicyStatus};

use crate::build::LeftOut;
use crate::index::{Index, Source, Trouble, Watch};
use crate::object::Policy;
use crate::release::Blocker;
use crate::select::Claim;
use crate::verdict::{Checked, PROGRAM_MISSING, PROGRAM_REFUSED, Verdict, Why};

/// An agent refreshes its status within 5 min (design of the status); twice that with a minute to spare means it is away.
const SILENCE: jiff::SignedDuration = jiff::SignedDuration::from_mins(11);
/// How many nodes a message names.
const NAMED: usize = 3;
/// Longest message of a condition, in bytes; longer ones are cut.
pub(crate) const MESSAGE_MAX: usize = 1024;

/// Reason of Degraded once the waiting for a policy's nodes has ended.
pub(crate) const RELEASE_TIMEOUT: &str = "ReleaseTimeout";

/// Everything that a policy's status follows from, besides the policy and the index.
#[derive(Debug)]
pub(crate) struct Facts<'a> {
    /// What it selects and gets.
    pub(crate) claim: Claim<'a>,
    /// What holds its deletion back.
    pub(crate) blockers: Vec<Blocker<'a>>,
    /// What is not listed in the specs of its nodes.
    pub(crate) left_out: LeftOut,
    /// How long a deletion waits.
    pub(crate) timeout: Duration,
    /// The deletion has waited too long.
    pub(crate) overdue: bool,
}

type Aspect = (ConditionStatus, &'static str, String);

fn aspect(yes: bool, reason: &'static str, message: impl Into<String>) -> Aspect {
    (yes.into(), reason, message.into())
}

/// The status of a policy.
pub(crate) fn status(
    policy: &Policy,
    facts: &Facts<'_>,
    index: &Index,
    now: Timestamp,
) -> OvercommitPolicyStatus {
    let nodes = Nodes::of(policy, facts, index, now);
    let aspects = [
        (ACCEPTED, accepted(policy, facts)),
        (PROGRESSING, progressing(policy, facts, &nodes)),
        (READY, ready(policy, facts, &nodes)),
        (DEGRADED, degraded(policy, facts, &nodes, index, now)),
    ];
    OvercommitPolicyStatus {
        observed_generation: Some(policy.generation),
        revision: policy.checked().map(|c| c.revision.clone()).or_else(|| policy.status.revision.clone()),
        nodes: nodes.counts(),
        memory: sums(facts.claim.held.iter().filter_map(|node| index.status(node)?.ledger.as_ref())),
        conditions: renewed(policy, &aspects, now),
    }
}

/// The status while a watch is missing and nothing can be concluded: only what hinders is added.
pub(crate) fn blocked(
    policy: &Policy,
    waiting: &[Watch],
    index: &Index,
    now: Timestamp,
) -> OvercommitPolicyStatus {
    let named: Vec<&str> = waiting.iter().map(|w| w.resource()).collect();
    let why = hindrances(policy, index, now).unwrap_or_else(|| format!("waiting for {}", named.join(", ")));
    let stays = if policy.is_unread() {
        "Nodes keep the program that they have"
    } else {
        "Nothing is changed on any node"
    };
    let aspects = [
        (READY, aspect(false, "Blocked", format!("{stays}: {why}"))),
        (DEGRADED, aspect(true, "WatchFailing", why)),
    ];
    let mut conditions = renewed(policy, &aspects, now);
    conditions.extend(
        policy.status.conditions.iter().filter(|c| aspects.iter().all(|(t, _)| c.type_ != *t)).cloned(),
    );
    conditions.sort_by(|a, b| a.type_.cmp(&b.type_));
    OvercommitPolicyStatus { conditions, ..policy.status.clone() }
}

fn renewed(policy: &Policy, aspects: &[(&str, Aspect)], now: Timestamp) -> Vec<Condition> {
    let before = &policy.status.conditions;
    let renew = |(type_, (status, reason, message)): &(&str, Aspect)| {
        Condition::renewed(before, now, type_, *status, reason, cut(message), Some(policy.generation))
    };
    let mut conditions: Vec<Condition> = aspects.iter().map(renew).collect();
    conditions.sort_by(|a, b| a.type_.cmp(&b.type_));
    conditions
}

fn cut(message: &str) -> String {
    let end =
        (0..=MESSAGE_MAX.min(message.len())).rev().find(|at| message.is_char_boundary(*at)).unwrap_or(0);
    message.get(..end).unwrap_or_default().to_owned()
}

/// The nodes of a policy by what their agents report.
#[derive(Debug, Default)]
struct Nodes<'a> {
    selected: usize,
    outdated: Vec<&'a str>,
    unready: Vec<(&'a str, String)>,
    degraded: Vec<(&'a str, String)>,
}

impl<'a> Nodes<'a> {
    fn of(policy: &Policy, facts: &Facts<'a>, index: &Index, now: Timestamp) -> Self {
        let mut nodes = Self { selected: facts.claim.held.len(), ..Self::default() };
        let revision = policy.checked().map(|c| c.revision.as_str());
        for &node in &facts.claim.held {
            let spec = index.spec(node).filter(|spec| spec.policy == policy.name && !spec.release);
            // An invalid policy has no revision of its own; its nodes keep theirs.
            let wanted = revision.or(spec.map(|spec| spec.revision.as_str()));
            let status = index.status(node).filter(|_| spec.is_some());
            let given = spec.map(|spec| spec.revision.as_str()) == wanted;
            let runs = status.and_then(|status| status.observed_revision.as_deref());
            if !given || runs.is_none() || runs != wanted {
                nodes.outdated.push(node);
            }
            if let Some(why) = unready(status, now) {
                nodes.unready.push((node, why));
            }
            let said = status.and_then(|s| Condition::find(&s.conditions, DEGRADED));
            if let Some(said) = said.filter(|c| c.status == ConditionStatus::True) {
                nodes.degraded.push((node, said.message.clone()));
            }
        }
        nodes
    }

    fn counts(&self) -> NodeCounts {
        let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        NodeCounts {
            selected: count(self.selected),
            updated: count(self.selected - self.outdated.len()),
            ready: count(self.selected - self.unready.len()),
            degraded: count(self.degraded.len()),
        }
    }
}

/// Why a node is not ready, if it is not.
fn unready(status: Option<&NodeOvercommitStatus>, now: Timestamp) -> Option<String> {
    let Some(status) = status else { return Some("not given to it yet".to_owned()) };
    let Some(said) = Condition::find(&status.conditions, READY) else {
        return Some("its agent has not reported: does its pod run there?".to_owned());
    };
    let reported = status.reported_at.as_deref().and_then(|at| at.parse::<Timestamp>().ok());
    if reported.is_some_and(|at| now.duration_since(at) > SILENCE) {
        let since = status.reported_at.as_deref().unwrap_or_default();
        return Some(format!("its agent is silent since {since}: does its pod run there?"));
    }
    (said.status != ConditionStatus::True).then(|| said.message.clone())
}

fn nodes(count: usize) -> String {
    if count == 1 { "1 node".to_owned() } else { format!("{count} nodes") }
}

fn named(nodes: &[(&str, String)]) -> String {
    let mut words: Vec<String> =
        nodes.iter().take(NAMED).map(|(node, why)| format!("{node}: {why}")).collect();
    if nodes.len() > NAMED {
        words.push(format!("and {} more", nodes.len() - NAMED));
    }
    words.join("; ")
}

fn accepted(policy: &Policy, facts: &Facts<'_>) -> Aspect {
    let Claim { held, lost } = &facts.claim;
    let total = facts.claim.selected();
    let winners: Vec<String> = lost.iter().map(|(winner, nodes)| format!("{winner} holds {nodes}")).collect();
    let winners = winners.join(", ");
    let stays = |reason: &'static str, errors: &str| match held.len() {
        0 => aspect(false, reason, errors),
        count => aspect(false, reason, format!("{errors}. What was given before stays on {}", nodes(count))),
    };
    match &policy.verdict {
        Verdict::Invalid { errors, .. } => stays("Invalid", errors),
        Verdict::Stuck(stuck) => {
            let (status, reason, message) = match &stuck.why {
                Why::Unread => stays(PROGRAM_MISSING, "Its ConfigMaps have not been read yet"),
                Why::Missing(errors) => stays(PROGRAM_MISSING, errors),
                Why::Refused(errors) => stays(PROGRAM_REFUSED, errors),
            };
            let may_take = !held.is_empty() && stuck.spec.mode == Mode::Enforce;
            let brake = if may_take { ", in the mode that it had: mode: Observe ends all takes" } else { "" };
            (status, reason, message + brake)
        }
        Verdict::Valid(_) if policy.deleted.is_some() => aspect(false, "Deleted", "It is being deleted"),
        Verdict::Valid(checked) if total == 0 && checked.spec.node_selector.is_some() => aspect(
            false,
            "NoNodes",
            "No node matches spec.nodeSelector: compare with kubectl get nodes --show-labels",
        ),
        Verdict::Valid(_) if total == 0 => aspect(
            false,
            "NoNodes",
            "No node runs KubeVirt (label kubevirt.io/schedulable): set spec.nodeSelector or install KubeVirt",
        ),
        Verdict::Valid(_) if held.is_empty() => {
            let message = format!(
                "All {total} nodes that it selects are held by others ({winners}): raise spec.priority or narrow spec.nodeSelector"
            );
            aspect(false, "Overridden", message)
        }
        Verdict::Valid(checked) if lost.is_empty() => {
            aspect(true, "Accepted", format!("Holds on {}{}", nodes(total), doubts(checked)))
        }
        Verdict::Valid(checked) => {
            let held = format!("Holds on {} of {total} nodes that it selects ({winners})", held.len());
            aspect(true, "Accepted", held + &doubts(checked))
        }
    }
}

/// What of it nobody acts on, and what it probably does not mean.
fn doubts(checked: &Checked) -> String {
    let told =
        [("Nobody acts on", ", ", &checked.unsupported), ("Probably not meant:", "; ", &checked.warnings)];
    let some = told.into_iter().filter(|(_, _, words)| !words.is_empty());
    some.fold(String::new(), |told, (what, between, words)| told + ". " + what + " " + &words.join(between))
}

fn releasing(facts: &Facts<'_>) -> String {
    let blockers: Vec<_> = facts.blockers.iter().map(|b| (b.node, b.why.to_owned())).collect();
    match blockers.len() {
        0 => "All nodes have given everything back".to_owned(),
        n => format!("Not given back yet by {}: {}", nodes(n), named(&blockers)),
    }
}

fn progressing(policy: &Policy, facts: &Facts<'_>, nodes: &Nodes<'_>) -> Aspect {
    if policy.deleted.is_some() {
        return aspect(!facts.overdue, "Releasing", releasing(facts));
    }
    match nodes.outdated.as_slice() {
        [] if !matches!(policy.verdict, Verdict::Valid(_)) => {
            aspect(false, "Settled", "All nodes run what was good last")
        }
        [] => aspect(false, "Settled", "All nodes run the current revision"),
        [first, ..] => {
            let message = format!(
                "{} of {} nodes do not run it yet, such as {first}",
                nodes.outdated.len(),
                nodes.selected
            );
            aspect(true, "RollingOut", message)
        }
    }
}

fn ready(policy: &Policy, facts: &Facts<'_>, nodes: &Nodes<'_>) -> Aspect {
    if policy.deleted.is_some() {
        return aspect(false, "Releasing", releasing(facts));
    }
    let (accepted, reason, message) = accepted(policy, facts);
    let Some(checked) = policy.checked().filter(|_| accepted == ConditionStatus::True) else {
        return aspect(false, reason, message);
    };
    if !nodes.unready.is_empty() {
        let counts = nodes.counts();
        let message =
            format!("{} of {} nodes are ready; {}", counts.ready, counts.selected, named(&nodes.unready));
        return aspect(false, "NodesNotReady", message);
    }
    if !nodes.outdated.is_empty() {
        return aspect(false, "RollingOut", progressing(policy, facts, nodes).2);
    }
    match checked.spec.mode {
        Mode::Observe => {
            aspect(true, "Observing", "Reports what it would do; set spec.mode to Enforce to do it")
        }
        Mode::Enforce => aspect(true, "Enforcing", "Does what the spec asks for on all its nodes"),
    }
}

fn degraded(policy: &Policy, facts: &Facts<'_>, nodes: &Nodes<'_>, index: &Index, now: Timestamp) -> Aspect {
    if policy.deleted.is_some() && facts.overdue {
        let waited = format!("After {} s of waiting the policy goes although ", facts.timeout.as_secs());
        return aspect(true, RELEASE_TIMEOUT, waited + &lower(&releasing(facts)));
    }
    if let Some(why) = hindrances(policy, index, now) {
        return aspect(true, "WatchFailing", why);
    }
    if let Some((reason, message)) = unlisted(facts.left_out) {
        return aspect(true, reason, message);
    }
    match nodes.degraded.as_slice() {
        [] => aspect(false, "AsExpected", "No node reports a limit"),
        some => aspect(true, "NodesDegraded", named(some)),
    }
}

fn unlisted(left_out: LeftOut) -> Option<(&'static str, String)> {
    let LeftOut { guests, pods } = left_out;
    if guests > 0 {
        let message = format!(
            "{guests} guests do not fit into their nodes' objects and are left alone; those of lower weight, then those \
             with the longest entries first"
        );
        return Some(("TooManyGuests", message));
    }
    let message = || {
        format!(
            "{pods} pods that say they run a guest are not listed, but for each guest's newest: see who makes pods with \
             the label kubevirt.io=virt-launcher"
        )
    };
    (pods > 0).then(|| ("TooManyPods", message()))
}

fn lower(sentence: &str) -> String {
    let mut letters = sentence.chars();
    letters
        .next()
        .map_or_else(String::new, |first| first.to_lowercase().collect::<String>() + letters.as_str())
}

/// What hinders the watches, with the remedy.
fn hindrances(policy: &Policy, index: &Index, now: Timestamp) -> Option<String> {
    let word = |(source, trouble): (&Source, &Trouble)| {
        let watch = source.watch();
        let resource = watch.resource();
        match trouble {
            Trouble::Absent if watch == Watch::Guests => {
                "This cluster has no VirtualMachineInstances (kubevirt.io/v1), so there are no guests: install KubeVirt".to_owned()
            }
            Trouble::Absent => format!("{resource} do not exist in this cluster: install the CRDs"),
            Trouble::Forbidden if watch == Watch::ConfigMaps => {
                "the operator may not list and watch configmaps in its namespace: grant it (Role, RoleBinding)".to_owned()
            }
            Trouble::Forbidden => format!("the operator may not list and watch {resource}: grant it"),
            Trouble::Failing(_) => format!("watching {resource} fails: see the operator's log"),
        }
    };
    let concerns = |(source, _): &(&Source, &Trouble)| source.concerns(policy);
    let mut words: Vec<String> = Vec::new();
    for word in index.troubles(now).filter(concerns).map(word) {
        // Of several ConfigMaps the same is told once.
        if !words.contains(&word) {
            words.push(word);
        }
    }
    (!words.is_empty()).then(|| words.join("; "))
}

fn sums<'a>(ledgers: impl Iterator<Item = &'a LedgerStatus>) -> Option<MemorySums> {
    let ledgers: Vec<&LedgerStatus> = ledgers.collect();
    let sum = |field: fn(&LedgerStatus) -> &Size| {
        let bytes = |ledger: &&LedgerStatus| field(ledger).parse().unwrap_or(Bytes::ZERO);
        Size::from_bytes(ledgers.iter().map(bytes).fold(Bytes::ZERO, Bytes::plus))
    };
    (!ledgers.is_empty()).then(|| MemorySums {
        promised: sum(|l| &l.promised),
        resident: sum(|l| &l.resident),
        reclaimed: sum(|l| &l.reclaimed),
        merged: sum(|l| &l.merged),
        reclaimable: sum(|l| &l.reclaimable),
        at_risk: sum(|l| &l.at_risk),
        shortfall: sum(|l| &l.shortfall),
    })
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
