//! What a node is to be given. Pure.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use overcommit_crds::NodeOvercommitSpec;
use overcommit_crds::classify::{Subject, classify};
use overcommit_crds::names::{
    EXCLUDE_ANNOTATION, KUBEVIRT_MIGRATION_TARGET_LABEL, KUBEVIRT_NODE_LABEL, PAUSE_ANNOTATION,
};
use overcommit_crds::node::{Exclusion, GuestEntry};

use crate::index::Index;
use crate::object::{Checked, Launcher, Meta};

/// Largest spec as JSON, in bytes: thousands of nodes must stay small for etcd and for the operator's watch.
const SPEC_MAX: usize = 32 * 1024;

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

    /// UIDs of a guest's pods, in order. An owner in another namespace is none (garbage collection takes it for
    /// absent): whoever may make pods there says nothing about this guest.
    fn pods_of(&self, guest: &Meta) -> Vec<String> {
        let all = self.pods.get(guest.uid.as_str()).map(Vec::as_slice).unwrap_or_default();
        let mut pods: Vec<String> =
            all.iter().filter(|pod| pod.namespace == guest.namespace).map(|pod| pod.uid.clone()).collect();
        pods.sort();
        pods
    }
}

/// A spec, and how many guests did not fit into it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Built {
    /// The spec.
    pub(crate) spec: NodeOvercommitSpec,
    /// Guests that are left out, and so left alone by the agent, because of [`SPEC_MAX`].
    pub(crate) dropped: usize,
}

/// What a node gets of a policy that holds on it.
pub(crate) fn spec(
    name: &str,
    policy: &Checked,
    node: &Meta,
    guests: &Population<'_>,
    index: &Index,
) -> Built {
    let mut entries: Vec<GuestEntry> =
        guests.on(&node.name).iter().map(|guest| entry(guest, node, policy, guests, index)).collect();
    entries.sort();
    let spec = NodeOvercommitSpec {
        policy: name.to_owned(),
        revision: policy.revision.clone(),
        resolved: policy.resolved.clone(),
        guests: entries,
        paused: node.says(PAUSE_ANNOTATION),
        release: false,
    };
    fit(spec, SPEC_MAX)
}

/// What a node keeps of a policy that cannot work any more: as it is, but guests that left or opted out, migrations
/// and the pause are followed, because these only ever make the agent do less; and so are the pods by which it knows
/// its guests.
pub(crate) fn frozen(
    spec: &NodeOvercommitSpec,
    node: &Meta,
    guests: &Population<'_>,
    index: &Index,
) -> NodeOvercommitSpec {
    let here: BTreeMap<&str, &Meta> = guests.on(&node.name).iter().map(|g| (g.uid.as_str(), *g)).collect();
    let renew = |entry: &GuestEntry| {
        let guest = here.get(entry.uid.as_str())?;
        let excluded = if opted_out(guest, index) { Some(Exclusion::Annotation) } else { entry.excluded };
        let (pods, migrating) = (guests.pods_of(guest), migrates(guest, &node.name));
        Some(GuestEntry { pods, excluded, migrating, ..entry.clone() })
    };
    let guests = spec.guests.iter().filter_map(renew).collect();
    NodeOvercommitSpec { guests, paused: node.says(PAUSE_ANNOTATION), ..spec.clone() }
}

fn entry(guest: &Meta, node: &Meta, policy: &Checked, guests: &Population<'_>, index: &Index) -> GuestEntry {
    let namespace = index.namespaces.get(&guest.namespace);
    let subject = Subject {
        labels: &guest.labels,
        annotations: &guest.annotations,
        namespace_labels: namespace.map(|n| &n.labels),
        namespace_annotations: namespace.map(|n| &n.annotations),
    };
    let (class, excluded) = classify(&policy.classes, &subject);
    GuestEntry {
        namespace: guest.namespace.clone(),
        name: guest.name.clone(),
        uid: guest.uid.clone(),
        pods: guests.pods_of(guest),
        class: class.map(str::to_owned),
        excluded,
        migrating: migrates(guest, &node.name),
    }
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

/// Leaves guests out until the spec fits: first those that are excluded, for an unlisted guest is left alone too, then
/// those of lower weight, then the last by name.
fn fit(mut spec: NodeOvercommitSpec, max: usize) -> Built {
    if size(&spec) <= max {
        return Built { spec, dropped: 0 };
    }
    let weights: BTreeMap<&str, i64> =
        spec.resolved.classes.iter().map(|c| (c.name.as_str(), c.weight)).collect();
    let weight =
        |guest: &GuestEntry| guest.class.as_deref().and_then(|c| weights.get(c)).copied().unwrap_or(0);
    let all = std::mem::take(&mut spec.guests);
    let mut ranked: Vec<GuestEntry> = all.clone();
    ranked.sort_by_key(|g| (g.excluded.is_some(), Reverse(weight(g))));
    // `"guests":[],` and one comma for each guest.
    let mut left = max.saturating_sub(size(&spec)).saturating_sub(12);
    ranked.retain(|guest| {
        let cost = size(guest) + 1;
        let fits = cost <= left;
        left = if fits { left - cost } else { 0 };
        fits
    });
    ranked.sort();
    let dropped = all.len() - ranked.len();
    spec.guests = ranked;
    Built { spec, dropped }
}

fn size<T: serde::Serialize>(value: &T) -> usize {
    serde_json::to_vec(value).map_or(usize::MAX, |text| text.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{cluster, guest, labels, launcher, node, policy, with_guests, with_launchers};
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
    fn what_does_not_fit_is_left_out_by_weight_and_counted() {
        let mut index = cluster(&[policy("gold", 0)], &[node("a")]);
        for n in 0..400 {
            let mut one = guest(&format!("guest-{n:03}"), "a");
            if n < 200 {
                one.annotations = labels(&[(EXCLUDE_ANNOTATION, "true")]);
            }
            index.take(Change::Guests(Delta::Apply(one)));
        }
        let Built { spec, dropped } = built(&index);
        assert!(serde_json::to_vec(&spec).unwrap().len() <= SPEC_MAX);
        assert_eq!(spec.guests.len() + dropped, 400);
        assert!(spec.guests.iter().filter(|g| g.excluded.is_none()).count() == 200, "{dropped}");
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
                let pod = Launcher { namespace, name, uid: uid(n, kind), guest: one.uid.clone() };
                index.take(Change::Launchers(Delta::Apply(pod)));
            }
            index.take(Change::Guests(Delta::Apply(one)));
        }
        let Built { spec, dropped } = built(&index);
        assert_eq!((spec.guests.len(), dropped), (110, 0), "{} bytes", size(&spec));
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
        let after = frozen(&before, &index.nodes["a"], &Population::of(&index), &index);
        assert_eq!(after.guests.len(), 1);
        assert_eq!(after.guests[0].excluded, Some(Exclusion::Annotation));
        assert_eq!(after.guests[0].pods, ["uid-x-1"]);
        assert_eq!(after.revision, before.revision);
    }
}
