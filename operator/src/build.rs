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

use crate::index::Index;
use crate::object::{Checked, Launcher, Meta};

/// Largest spec as JSON, in bytes: thousands of nodes must stay small for etcd and for the operator's watch.
const SPEC_MAX: usize = 32 * 1024;
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
    let mut entries: Vec<Listed> =
        guests.on(&node.name).iter().map(|guest| entry(guest, node, policy, guests, index)).collect();
    entries.sort();
    let spec = NodeOvercommitSpec {
        policy: name.to_owned(),
        revision: policy.revision.clone(),
        resolved: policy.resolved.clone(),
        guests: Vec::new(),
        facts: facts(node),
        paused: node.says(PAUSE_ANNOTATION),
        release: false,
    };
    fit(spec, entries, SPEC_MAX)
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
    fit(NodeOvercommitSpec { guests: Vec::new(), facts, paused, ..spec.clone() }, entries, SPEC_MAX)
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

fn entry(guest: &Meta, node: &Meta, policy: &Checked, guests: &Population<'_>, index: &Index) -> Listed {
    let namespace = index.namespaces.get(&guest.namespace);
    let subject = Subject {
        labels: &guest.labels,
        annotations: &guest.annotations,
        namespace_labels: namespace.map(|n| &n.labels),
        namespace_annotations: namespace.map(|n| &n.annotations),
    };
    let (class, excluded) = classify(&policy.classes, &subject);
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
fn fit(mut spec: NodeOvercommitSpec, mut entries: Vec<Listed>, max: usize) -> Built {
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
mod tests {
    use super::*;
    use crate::fixture::{at, cluster, guest, labels, launcher, node, policy, with_guests, with_launchers};
    use crate::index::{Change, Delta};

    fn built(index: &Index) -> Built {
        let checked = index.policies["gold"].checked().unwrap();
        spec("gold", checked, &index.nodes["a"], &Population::of(index), index)
    }

    #[test]
    fn guests_of_the_node_are_listed_in_order() {
        let index = with_guests(
            cluster(&[policy("gold", 0)], &[node("a")]),
            &[guest("y", "a"), guest("x", "a"), guest("z", "b")],
        );
        let names: Vec<_> = built(&index).spec.guests.into_iter().map(|g| g.name).collect();
        assert_eq!(names, ["x", "y"]);
    }

    #[test]
    fn a_namespace_opts_its_guests_out() {
        let mut index = with_guests(cluster(&[policy("gold", 0)], &[node("a")]), &[guest("x", "a")]);
        let shop = Meta {
            name: "shop".into(),
            annotations: labels(&[(EXCLUDE_ANNOTATION, "true")]),
            ..Meta::default()
        };
        index.take(Change::Namespaces(Delta::Apply(shop)));
        assert_eq!(built(&index).spec.guests[0].excluded, Some(Exclusion::Annotation));
        assert_eq!(built(&index).spec.guests[0].class.as_deref(), Some("default"));
    }

    #[test]
    fn a_guest_migrates_while_its_target_is_another_node() {
        let target = |to: &str| {
            let mut guest = guest("x", "a");
            guest.labels.insert(KUBEVIRT_MIGRATION_TARGET_LABEL.into(), to.into());
            let index = with_guests(cluster(&[policy("gold", 0)], &[node("a")]), &[guest]);
            built(&index).spec.guests[0].migrating
        };
        assert!(target("b"));
        assert!(!target("a"));
        assert!(!target(""));
    }

    #[test]
    fn the_annotation_on_the_node_pauses_it() {
        let paused = Meta { annotations: labels(&[(PAUSE_ANNOTATION, "true")]), ..node("a") };
        assert!(built(&cluster(&[policy("gold", 0)], &[paused])).spec.paused);
        assert!(!built(&cluster(&[policy("gold", 0)], &[node("a")])).spec.paused);
    }

    #[test]
    fn kubevirt_manages_ksm_where_it_says_so() {
        let manager = |label: &str, annotation: &str| {
            let node = Meta { annotations: labels(&[(KUBEVIRT_KSM_ANNOTATION, annotation)]), ..node("a") };
            let mut node = node;
            node.labels.insert(KUBEVIRT_KSM_LABEL.into(), label.into());
            built(&cluster(&[policy("gold", 0)], &[node])).spec.facts.ksm_manager
        };
        let kubevirt = Some(KsmManager::KubeVirt);
        assert_eq!(manager("true", "false"), kubevirt);
        assert_eq!(manager("false", "true"), kubevirt, "it is about to stop it");
        assert_eq!(manager("false", "false"), None);
        assert_eq!(built(&cluster(&[policy("gold", 0)], &[node("a")])).spec.facts, NodeFacts::default());
    }

    #[test]
    fn what_does_not_fit_is_left_out_by_weight_and_counted() {
        let mut index = cluster(&[policy("gold", 0)], &[node("a")]);
        for n in 0..400 {
            let mut one = guest(&format!("guest-{n:03}"), "a");
            if n < 200 {
                one.annotations = labels(&[(EXCLUDE_ANNOTATION, "true")]);
            }
            index.take(Change::Guests(Delta::Apply(one)));
        }
        let Built { spec, left_out } = built(&index);
        assert!(serde_json::to_vec(&spec).unwrap().len() <= SPEC_MAX);
        assert_eq!(spec.guests.len() + left_out.guests, 400);
        assert!(spec.guests.iter().filter(|g| g.excluded.is_none()).count() == 200, "{left_out:?}");
        assert!(spec.guests.is_sorted());
    }

    #[test]
    fn a_guest_is_known_by_its_own_pods() {
        let index =
            with_guests(cluster(&[policy("gold", 0)], &[node("a")]), &[guest("x", "a"), guest("y", "a")]);
        let foreign = Launcher { namespace: "elsewhere".into(), ..launcher("foreign", "x") };
        let pods = [launcher("x-2", "x"), launcher("x-1", "x"), foreign, launcher("nobodys", "")];
        let index = with_launchers(index, &pods);
        let guests = built(&index).spec.guests;
        assert_eq!(guests[0].pods, ["uid-x-1", "uid-x-2"]);
        assert_eq!(guests[1].pods, Vec::<String>::new());
    }

    /// A node with guests of two tenants; one of them made so many pods that say they are the first guest's.
    fn flooded(pods: i64) -> Index {
        let guests = [guest("a-flood", "a"), guest("b", "a"), guest("c", "a")];
        let mut index = with_guests(cluster(&[policy("gold", 0)], &[node("a")]), &guests);
        for n in 0..pods {
            let pod = Launcher { created: at(n), ..launcher(&format!("flood-{n:04}"), "a-flood") };
            index.take(Change::Launchers(Delta::Apply(pod)));
        }
        for name in ["b", "c"] {
            index.take(Change::Launchers(Delta::Apply(launcher(&format!("{name}-1"), name))));
        }
        index
    }

    #[test]
    fn whoever_floods_a_guest_with_pods_pushes_out_no_other_guest() {
        let Built { spec, left_out } = built(&flooded(2000));
        assert_eq!(left_out, LeftOut { guests: 0, pods: 1996 });
        assert_eq!(spec.guests[0].pods, [1996, 1997, 1998, 1999].map(|n| format!("uid-flood-{n}")));
        assert_eq!((spec.guests[1].pods.len(), spec.guests[2].pods.len()), (1, 1));
        // Nor where what it has stays as it is.
        let mut index = flooded(0);
        let before = built(&index).spec;
        for (_, pod) in flooded(2000).launchers {
            index.take(Change::Launchers(Delta::Apply(pod)));
        }
        let after = frozen(&before, &index.nodes["a"], &Population::of(&index), &index);
        assert!(size(&after.spec) <= SPEC_MAX && after.left_out.guests == 0, "{} bytes", size(&after.spec));
    }

    #[test]
    fn what_one_tenant_makes_long_goes_before_what_others_have() {
        let mut index = cluster(&[policy("gold", 0)], &[node("a")]);
        for n in 0..110 {
            let long =
                Meta { namespace: "a-tenant".into(), ..guest(&format!("{}-{n:03}", "l".repeat(249)), "a") };
            index.take(Change::Guests(Delta::Apply(long)));
            index.take(Change::Guests(Delta::Apply(guest(&format!("short-{n:03}"), "a"))));
        }
        let Built { spec, left_out } = built(&index);
        assert_eq!(spec.guests.iter().filter(|g| g.name.starts_with("short")).count(), 110, "{left_out:?}");
        assert!(
            spec.guests.len() > 110 && left_out.guests > 0 && size(&spec) <= SPEC_MAX,
            "what fits is listed"
        );
    }

    #[test]
    fn an_entry_that_does_not_fit_takes_only_itself_away() {
        let mut index = cluster(&[policy("gold", 0)], &[node("a")]);
        index.take(Change::Guests(Delta::Apply(guest("small", "a"))));
        let mut spec = built(&index).spec;
        let small = Listed { entry: spec.guests.remove(0), more_pods: 0 };
        let mut huge = small.clone();
        huge.entry.name = "h".repeat(SPEC_MAX);
        spec.resolved.classes[0].weight = 5;
        // Before the other by weight.
        let mut other = small.clone();
        other.entry.class = None;
        let built = fit(spec, vec![huge, other.clone()], SPEC_MAX);
        assert_eq!((built.spec.guests, built.left_out.guests), (vec![other.entry], 1));
    }

    #[test]
    fn a_full_node_fits_with_every_guest_migrating() {
        let mut index = cluster(&[policy("gold", 0)], &[node("a")]);
        let uid = |n: usize, kind: usize| format!("01234567-89ab-cdef-0123-{kind:04}{n:08}");
        // The kubelet's default for the pods of a node (pkg/kubelet/apis/config/v1beta1/defaults.go, `MaxPods`).
        for n in 0..110 {
            let name = format!("a-name-of-forty-letters-and-some-more-{n:03}");
            let mut one = Meta { uid: uid(n, 0), ..guest(&name, "a") };
            one.namespace = "a-namespace-of-thirty-letters-".into();
            for kind in 1..3 {
                let (namespace, name) = (one.namespace.clone(), format!("{name}-{kind}"));
                let guest = one.uid.clone();
                let pod = Launcher { namespace, name, uid: uid(n, kind), guest, ..Launcher::default() };
                index.take(Change::Launchers(Delta::Apply(pod)));
            }
            index.take(Change::Guests(Delta::Apply(one)));
        }
        let Built { spec, left_out } = built(&index);
        assert_eq!((spec.guests.len(), left_out), (110, LeftOut::default()), "{} bytes", size(&spec));
        assert!(spec.guests.iter().all(|guest| guest.pods.len() == 2));
    }

    #[test]
    fn a_frozen_spec_follows_only_what_makes_the_agent_do_less() {
        let index =
            with_guests(cluster(&[policy("gold", 0)], &[node("a")]), &[guest("x", "a"), guest("y", "a")]);
        let before = built(&index).spec;
        let mut out = guest("x", "a");
        out.annotations = labels(&[(EXCLUDE_ANNOTATION, "true")]);
        let index = with_launchers(with_guests(index, &[out, guest("new", "a")]), &[launcher("x-1", "x")]);
        let after = frozen(&before, &index.nodes["a"], &Population::of(&index), &index).spec;
        assert_eq!(after.guests.len(), 1);
        assert_eq!(after.guests[0].excluded, Some(Exclusion::Annotation));
        assert_eq!(after.guests[0].pods, ["uid-x-1"]);
        assert_eq!(after.revision, before.revision);
    }
}
