//! What a node is to be given. Pure.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::AddAssign;

use overcommit_crds::NodeOvercommitSpec;
use overcommit_crds::classify::{Subject, classify};
use overcommit_crds::names::{
    EXCLUDE_ANNOTATION, KUBEVIRT_KSM_ANNOTATION, KUBEVIRT_KSM_LABEL, KUBEVIRT_MIGRATION_TARGET_LABEL,
    KUBEVIRT_NODE_LABEL, PAUSE_ANNOTATION,
};
use overcommit_crds::node::{Exclusion, GuestEntry, KsmManager, NodeFacts};
use overcommit_crds::policy::{ClassSpec, KsmMode, KsmSpec, Mode};
use overcommit_crds::resolve;

use crate::index::Index;
use crate::object::{Launcher, Meta};
use crate::verdict::{Checked, Stuck};

/// Largest spec as JSON, in bytes, without the text of a program, which has a bound of its own: thousands of nodes must stay small
/// for etcd and for the operator's watch.
pub(crate) const SPEC_MAX: usize = 32 * 1024;
/// Pods listed of one guest. A migration needs two; whoever may make pods may make hundreds that say they are a guest's.
const PODS_MAX: usize = 4;

/// Guests by the node that they run on, and the pods of each.
#[derive(Debug, Default)]
pub(crate) struct Population<'a> {
    by_node: BTreeMap<&'a str, Vec<&'a Meta>>,
    /// By the guest's UID. Of a pod's metadata nothing says on which node it is: each node is given all pods of its
    /// guests, and the agent meets its own among them.
    pods: BTreeMap<&'a str, Vec<&'a Launcher>>,
}

impl<'a> Population<'a> {
    /// Reads the nodes from the guests' labels.
    pub(crate) fn of(index: &'a Index) -> Self {
        let mut by_node: BTreeMap<&str, Vec<&Meta>> = BTreeMap::new();
        for guest in index.guests.values() {
            if let Some(node) = guest.labels.get(KUBEVIRT_NODE_LABEL).filter(|node| !node.is_empty()) {
                by_node.entry(node).or_default().push(guest);
            }
        }
        let mut pods: BTreeMap<&str, Vec<&Launcher>> = BTreeMap::new();
        for launcher in index.launchers.values() {
            pods.entry(&launcher.guest).or_default().push(launcher);
        }
        Self { by_node, pods }
    }

    fn on(&self, node: &str) -> &[&'a Meta] {
        self.by_node.get(node).map(Vec::as_slice).unwrap_or_default()
    }

    /// UIDs of a guest's newest pods, in order, and how many more there are. An owner in another namespace is none
    /// (garbage collection takes it for absent): whoever may make pods there says nothing about this guest.
    fn pods_of(&self, guest: &Meta) -> (Vec<String>, usize) {
        let all = self.pods.get(guest.uid.as_str()).map(Vec::as_slice).unwrap_or_default();
        let mut own: Vec<&&Launcher> = all.iter().filter(|pod| pod.namespace == guest.namespace).collect();
        own.sort_by_key(|pod| (Reverse(pod.created), &pod.name));
        let mut pods: Vec<String> = own.iter().take(PODS_MAX).map(|pod| pod.uid.clone()).collect();
        pods.sort();
        (pods, own.len().saturating_sub(PODS_MAX))
    }
}

/// What a node's object does not list, so that the agent leaves it alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LeftOut {
    /// Guests that did not fit into [`SPEC_MAX`].
    pub(crate) guests: usize,
    /// Pods of listed guests beyond [`PODS_MAX`] each.
    pub(crate) pods: usize,
}

impl AddAssign for LeftOut {
    fn add_assign(&mut self, other: Self) {
        self.guests += other.guests;
        self.pods += other.pods;
    }
}

/// A spec, and what is not in it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Built {
    /// The spec.
    pub(crate) spec: NodeOvercommitSpec,
    /// What is missing.
    pub(crate) left_out: LeftOut,
}

/// What a node gets of a policy that holds on it.
pub(crate) fn spec(
    name: &str,
    policy: &Checked,
    node: &Meta,
    guests: &Population<'_>,
    index: &Index,
) -> Built {
    let entries = listed(&policy.classes, node, guests, index);
    let spec = NodeOvercommitSpec {
        policy: name.to_owned(),
        revision: policy.revision.clone(),
        resolved: policy.resolved.clone(),
        guests: Vec::new(),
        facts: facts(node),
        paused: node.says(PAUSE_ANNOTATION),
        release: false,
    };
    fit(spec, entries)
}

/// What a node has of a policy whose program cannot run: what was good last, with its guests as they are now. Where the classes
/// were edited together with the program nobody knows which of the new classes a guest would have had, so that no guest comes
/// in until the program can run. Edits that only have the agent do less reach it all the same.
pub(crate) fn kept(
    good: &NodeOvercommitSpec,
    policy: &Stuck,
    node: &Meta,
    guests: &Population<'_>,
    index: &Index,
) -> Built {
    let mut good = NodeOvercommitSpec { release: false, ..good.clone() };
    brake(&mut good, policy);
    if good.resolved.classes != policy.resolved_classes {
        return frozen(&good, node, guests, index);
    }
    let entries = listed(&policy.classes, node, guests, index);
    let (facts, paused) = (facts(node), node.says(PAUSE_ANNOTATION));
    fit(NodeOvercommitSpec { guests: Vec::new(), facts, paused, ..good }, entries)
}

/// Carries what only has the agent do less: whoever cannot mend a program must be able to stop it.
fn brake(good: &mut NodeOvercommitSpec, policy: &Stuck) {
    let resolved = &mut good.resolved;
    let before = resolved.clone();
    if policy.spec.mode == Mode::Observe {
        resolved.mode = Mode::Observe;
    }
    if policy.spec.ksm.mode == KsmMode::Off {
        resolved.ksm = KsmSpec::default();
    }
    for class in &mut resolved.classes {
        class.exclude |= policy.resolved_classes.iter().any(|new| new.name == class.name && new.exclude);
    }
    if *resolved != before {
        good.revision = resolve::revision(resolved);
    }
}

fn listed(classes: &[ClassSpec], node: &Meta, guests: &Population<'_>, index: &Index) -> Vec<Listed> {
    let mut entries: Vec<Listed> =
        guests.on(&node.name).iter().map(|guest| entry(guest, node, classes, guests, index)).collect();
    entries.sort();
    entries
}

/// What a node keeps of a policy that cannot work any more: as it is, but guests that left or opted out, migrations
/// and the pause are followed, because these only ever make the agent do less; and so are the pods by which it knows
/// its guests, and who manages KSM.
pub(crate) fn frozen(
    spec: &NodeOvercommitSpec,
    node: &Meta,
    guests: &Population<'_>,
    index: &Index,
) -> Built {
    let here: BTreeMap<&str, &Meta> = guests.on(&node.name).iter().map(|g| (g.uid.as_str(), *g)).collect();
    let renew = |entry: &GuestEntry| {
        let guest = here.get(entry.uid.as_str())?;
        let excluded = if opted_out(guest, index) { Some(Exclusion::Annotation) } else { entry.excluded };
        let ((pods, more_pods), migrating) = (guests.pods_of(guest), migrates(guest, &node.name));
        Some(Listed { entry: GuestEntry { pods, excluded, migrating, ..entry.clone() }, more_pods })
    };
    let entries = spec.guests.iter().filter_map(renew).collect();
    let paused = node.says(PAUSE_ANNOTATION);
    let facts = facts(node);
    fit(NodeOvercommitSpec { guests: Vec::new(), facts, paused, ..spec.clone() }, entries)
}

/// What the node's metadata says that its agent cannot see.
fn facts(node: &Meta) -> NodeFacts {
    let eligible = node.labels.get(KUBEVIRT_KSM_LABEL).is_some_and(|value| value == "true");
    // One that is no longer eligible and has it running is about to stop it.
    let kubevirt = eligible || node.says(KUBEVIRT_KSM_ANNOTATION);
    NodeFacts { ksm_manager: kubevirt.then_some(KsmManager::KubeVirt) }
}

/// One guest's entry, and how many pods it has beyond those in it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Listed {
    entry: GuestEntry,
    more_pods: usize,
}

fn entry(guest: &Meta, node: &Meta, classes: &[ClassSpec], guests: &Population<'_>, index: &Index) -> Listed {
    let namespace = index.namespaces.get(&guest.namespace);
    let subject = Subject {
        labels: &guest.labels,
        annotations: &guest.annotations,
        namespace_labels: namespace.map(|n| &n.labels),
        namespace_annotations: namespace.map(|n| &n.annotations),
    };
    let (class, excluded) = classify(classes, &subject);
    let (pods, more_pods) = guests.pods_of(guest);
    let entry = GuestEntry {
        namespace: guest.namespace.clone(),
        name: guest.name.clone(),
        uid: guest.uid.clone(),
        pods,
        class: class.map(str::to_owned),
        excluded,
        migrating: migrates(guest, &node.name),
    };
    Listed { entry, more_pods }
}

fn opted_out(guest: &Meta, index: &Index) -> bool {
    let namespace = index.namespaces.get(&guest.namespace);
    guest.says(EXCLUDE_ANNOTATION) || namespace.is_some_and(|n| n.says(EXCLUDE_ANNOTATION))
}

/// The target's label stays after a migration; then it names the node that the guest is on.
fn migrates(guest: &Meta, node: &str) -> bool {
    guest
        .labels
        .get(KUBEVIRT_MIGRATION_TARGET_LABEL)
        .is_some_and(|target| !target.is_empty() && target != node)
}

/// Lists the guests that fit: those that are excluded last, for an unlisted guest is left alone too; the higher weight
/// first, then the smaller entry, then by name. What one tenant makes large must not push out what others have.
fn fit(mut spec: NodeOvercommitSpec, mut entries: Vec<Listed>) -> Built {
    // A long program is to push out no guest.
    let max = SPEC_MAX + spec.resolved.engine.mom.as_ref().map_or(0, size);
    let weights: BTreeMap<&str, i64> =
        spec.resolved.classes.iter().map(|c| (c.name.as_str(), c.weight)).collect();
    let weight =
        |guest: &GuestEntry| guest.class.as_deref().and_then(|c| weights.get(c)).copied().unwrap_or(0);
    let all = entries.len();
    // `"guests":[],` and one comma for each guest.
    let mut left = max.saturating_sub(size(&spec)).saturating_sub(12);
    let cost = |listed: &Listed| size(&listed.entry) + 1;
    if entries.iter().map(cost).sum::<usize>() > left {
        entries.sort_by_cached_key(|listed| {
            (listed.entry.excluded.is_some(), Reverse(weight(&listed.entry)), cost(listed))
        });
        entries.retain(|listed| {
            let rest = left.checked_sub(cost(listed));
            left = rest.unwrap_or(left);
            rest.is_some()
        });
        entries.sort();
    }
    let pods = entries.iter().map(|listed| listed.more_pods).sum();
    let left_out = LeftOut { guests: all - entries.len(), pods };
    spec.guests = entries.into_iter().map(|listed| listed.entry).collect();
    Built { spec, left_out }
}

fn size<T: serde::Serialize>(value: &T) -> usize {
    serde_json::to_vec(value).map_or(usize::MAX, |text| text.len())
}

#[cfg(test)]
#[path = "build_tests.rs"]
mod tests;
