//! Which nodes are to be planned anew. Agents report all the time, and guests come and go on some nodes: planning all of
//! thousands each time would keep a processor busy with nothing. Pure.

use std::collections::BTreeSet;

use overcommit_crds::names::KUBEVIRT_NODE_LABEL;

use crate::index::{Change, Delta, Index, Source, Trouble, Watch};
use crate::object::{Launcher, Meta, Object, Policy};

/// Nodes whose objects may not be as they should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Dirty {
    /// All of them.
    All,
    /// These.
    Nodes(BTreeSet<String>),
}

impl Default for Dirty {
    fn default() -> Self {
        Self::Nodes(BTreeSet::new())
    }
}

impl Dirty {
    /// Takes in what a change is about to change in `index`.
    pub(crate) fn note(&mut self, index: &Index, change: &Change) {
        let touched = match change {
            Change::Guests(Delta::Apply(guest)) => of_guest(index, &guest.key(), Some(guest)),
            Change::Guests(Delta::Delete(key)) => of_guest(index, key, None),
            Change::Launchers(Delta::Apply(pod)) => of_pod(index, &pod.key(), Some(pod)),
            Change::Launchers(Delta::Delete(key)) => of_pod(index, key, None),
            Change::Nodes(Delta::Apply(node)) if index.nodes.get(&node.name) == Some(node) => None,
            Change::Nodes(Delta::Apply(node)) => Some(vec![node.name.clone()]),
            Change::Nodes(Delta::Delete(name)) | Change::Objects(Delta::Delete(name)) => {
                Some(vec![name.clone()])
            }
            Change::Objects(Delta::Apply(object)) => {
                let known = index.objects.get(&object.name);
                known.is_none_or(|known| !same_orders(known, object)).then(|| vec![object.name.clone()])
            }
            Change::Policies(Delta::Apply(policy))
                if index.policies.get(&policy.name).is_some_and(|known| same_wish(known, policy)) =>
            {
                None
            }
            Change::Namespaces(Delta::Apply(space)) if index.namespaces.get(&space.name) == Some(space) => {
                None
            }
            Change::Keys(..) => None,
            Change::Texts(name, texts) if index.maps.says(name, texts.as_ref()) => None,
            // Only where KubeVirt goes does a trouble change anything: the guests go with it.
            Change::Trouble(source, trouble, _)
                if (source, trouble) != (&Source::Kind(Watch::Guests), &Trouble::Absent) =>
            {
                None
            }
            // Rare, or not known better.
            _ => {
                *self = Self::All;
                return;
            }
        };
        if let Self::Nodes(nodes) = self {
            nodes.extend(touched.into_iter().flatten());
        }
    }

    /// True if this node is among them.
    pub(crate) fn contains(&self, node: &str) -> bool {
        match self {
            Self::All => true,
            Self::Nodes(nodes) => nodes.contains(node),
        }
    }

    /// True if there is none.
    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Self::Nodes(nodes) if nodes.is_empty())
    }
}

/// The nodes that a guest was on and is on.
fn of_guest(index: &Index, key: &str, now: Option<&Meta>) -> Option<Vec<String>> {
    let before = index.guests.get(key);
    if before == now {
        return None;
    }
    let node = |guest: &Meta| guest.labels.get(KUBEVIRT_NODE_LABEL).cloned();
    Some(before.into_iter().chain(now).filter_map(node).collect())
}

/// The nodes of the guests whose pod it was and is.
fn of_pod(index: &Index, key: &str, now: Option<&Launcher>) -> Option<Vec<String>> {
    let before = index.launchers.get(key);
    if before == now {
        return None;
    }
    let guests = |pod: &Launcher| {
        let space = format!("{}/", pod.namespace);
        let all = index.guests.range(space.clone()..).take_while(move |(key, _)| key.starts_with(&space));
        let uid = pod.guest.clone();
        all.map(|(_, guest)| guest).filter(move |guest| guest.uid == uid)
    };
    let nodes = before.into_iter().chain(now).flat_map(guests);
    Some(nodes.filter_map(|guest| guest.labels.get(KUBEVIRT_NODE_LABEL).cloned()).collect())
}

/// Only what the agent reports differs, or how often the object was written.
fn same_orders(a: &Object, b: &Object) -> bool {
    let orders = |o: &Object| {
        (o.uid.clone(), o.deleted, o.held_by_us(), o.release_requested, o.label.clone(), o.owner.clone())
    };
    orders(a) == orders(b) && a.spec == b.spec
}

/// Only what we report differs, or how often the policy was written.
fn same_wish(a: &Policy, b: &Policy) -> bool {
    let wish = |p: &Policy| (p.uid.clone(), p.created, p.deleted, p.held_by_us());
    wish(a) == wish(b) && a.written == b.written
}
