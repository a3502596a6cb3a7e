//! Everything that the operator knows of the cluster, as plain data without a client: watches put changes in, the
//! pure steps read it. *Architecture invariant:* no I/O and no clock here; a restart rebuilds all of it by listing.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use overcommit_crds::{NodeOvercommitSpec, NodeOvercommitStatus};

use crate::maps::{Maps, Texts, Wanted};
use crate::object::{Launcher, Meta, Object, Policy};
use crate::shared::Shared;

/// One kind of objects that is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Watch {
    /// `OvercommitPolicy`.
    Policies,
    /// `NodeOvercommit`.
    Objects,
    /// Node, metadata only.
    Nodes,
    /// Namespace, metadata only.
    Namespaces,
    /// `VirtualMachineInstance`, metadata only.
    Guests,
    /// Launcher pods that have not ended, metadata only.
    Launchers,
    /// `ConfigMap`, those of the operator's namespace that a policy names.
    ConfigMaps,
}

impl Watch {
    /// All of them that are always there; who names no ConfigMap does not wait for any.
    pub(crate) const ALL: [Self; 6] =
        [Self::Policies, Self::Objects, Self::Nodes, Self::Namespaces, Self::Guests, Self::Launchers];

    /// Plural name of the resource, as RBAC and metrics write it.
    pub(crate) fn resource(self) -> &'static str {
        match self {
            Self::Policies => "overcommitpolicies",
            Self::Objects => "nodeovercommits",
            Self::Nodes => "nodes",
            Self::Namespaces => "namespaces",
            Self::Guests => "virtualmachineinstances",
            Self::Launchers => "pods",
            Self::ConfigMaps => "configmaps",
        }
    }
}

/// What may fail by itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Source {
    /// The watch of all objects of a kind.
    Kind(Watch),
    /// The watch of the ConfigMap of that name.
    ConfigMap(String),
}

impl Source {
    /// What is watched.
    pub(crate) fn watch(&self) -> Watch {
        match self {
            Self::Kind(watch) => *watch,
            Self::ConfigMap(_) => Watch::ConfigMaps,
        }
    }

    /// True if this policy suffers when it fails: a ConfigMap concerns those who name it.
    pub(crate) fn concerns(&self, policy: &Policy) -> bool {
        match self {
            Self::Kind(_) => true,
            Self::ConfigMap(name) => policy.names(name),
        }
    }
}

/// What a watch saw of one kind.
#[derive(Debug)]
pub(crate) enum Delta<T> {
    /// All objects there are; whatever is known besides is gone.
    Replace(Vec<T>),
    /// One object is there, as given.
    Apply(T),
    /// The object with this key is gone.
    Delete(String),
}

impl<T> Delta<T> {
    /// The same of what `f` makes of it.
    fn map(self, mut f: impl FnMut(T) -> T) -> Self {
        match self {
            Self::Replace(all) => Self::Replace(all.into_iter().map(f).collect()),
            Self::Apply(one) => Self::Apply(f(one)),
            Self::Delete(key) => Self::Delete(key),
        }
    }
}

/// Why a watch does not see anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// The kind does not exist in this cluster (404).
    Absent,
    /// The operator may not list or watch it (403).
    Forbidden,
    /// Anything else, in words.
    Failing(String),
}

/// One change, from a watch or from the answer to a write.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "changes are few and short-lived; boxes would cost more than they save"
)]
pub(crate) enum Change {
    /// Policies.
    Policies(Delta<Policy>),
    /// The operator's own objects.
    Objects(Delta<Object>),
    /// Nodes.
    Nodes(Delta<Meta>),
    /// Namespaces.
    Namespaces(Delta<Meta>),
    /// Virtual machine instances.
    Guests(Delta<Meta>),
    /// Launcher pods.
    Launchers(Delta<Launcher>),
    /// What the ConfigMap of that name says, or that there is none.
    Texts(String, Option<Texts>),
    /// What follows from this watch has all labels of that epoch of [`crate::keys::Keys`].
    Keys(Watch, u64),
    /// A watch failed; it is tried again.
    Trouble(Source, Trouble, Timestamp),
}

/// How long a trouble counts after it was last seen. Watches are tried again within a minute and a success that changes
/// nothing is silent (kube-runtime, `DefaultBackoff`: 30 s, and as much jitter), so a trouble that is not seen again is over.
const TROUBLE_TTL: jiff::SignedDuration = jiff::SignedDuration::from_secs(100);

/// A failure that may pass by itself, such as a restart of the API server, is worth telling after this.
const TOLERATED: jiff::SignedDuration = jiff::SignedDuration::from_mins(1);
/// An API server that has just started refuses what it will allow, and does not know what it will serve, for some
/// seconds: a refusal or an absence counts after this.
const STARTING: jiff::SignedDuration = jiff::SignedDuration::from_secs(10);

/// A trouble, and when it was seen.
#[derive(Debug)]
struct Seen {
    trouble: Trouble,
    first: Timestamp,
    last: Timestamp,
}

impl Seen {
    /// True if it hinders now and will not pass within a moment.
    fn tells(&self, now: Timestamp) -> bool {
        let current = now.duration_since(self.last) < TROUBLE_TTL;
        let tolerated = match self.trouble {
            Trouble::Failing(_) => TOLERATED,
            Trouble::Absent | Trouble::Forbidden => STARTING,
        };
        current && now.duration_since(self.first) >= tolerated
    }
}

/// All that is known.
#[derive(Debug, Default)]
pub(crate) struct Index {
    /// Policies by name.
    pub(crate) policies: BTreeMap<String, Policy>,
    /// `NodeOvercommit` objects by name, which is the node's.
    pub(crate) objects: BTreeMap<String, Object>,
    /// Nodes by name.
    pub(crate) nodes: BTreeMap<String, Meta>,
    /// Namespaces by name.
    pub(crate) namespaces: BTreeMap<String, Meta>,
    /// Virtual machine instances by `namespace/name`.
    pub(crate) guests: BTreeMap<String, Meta>,
    /// Launcher pods by `namespace/name`.
    pub(crate) launchers: BTreeMap<String, Launcher>,
    /// ConfigMaps that policies name.
    pub(crate) maps: Maps,
    /// Texts that many objects have alike.
    shared: Shared,
    listed: BTreeSet<Watch>,
    /// Watches that go on without labels that are needed now, and the epoch that has them.
    poor: BTreeMap<Watch, u64>,
    /// Of ConfigMaps only those that policies name.
    troubles: BTreeMap<Source, Seen>,
}

/// What can be kept in a map of the index.
trait Known: PartialEq {
    fn key(&self) -> String;
    /// True if `self` is known to be older than `other`, so that a late watch event does not undo what a write told.
    fn older_than(&self, other: &Self) -> bool;
}

impl Known for Meta {
    fn key(&self) -> String {
        Self::key(self)
    }
    fn older_than(&self, _: &Self) -> bool {
        false
    }
}

impl Known for Launcher {
    fn key(&self) -> String {
        Self::key(self)
    }
    fn older_than(&self, _: &Self) -> bool {
        false
    }
}

impl Known for Policy {
    fn key(&self) -> String {
        self.name.clone()
    }
    fn older_than(&self, other: &Self) -> bool {
        self.uid == other.uid && version_before(&self.version, &other.version)
    }
}

impl Known for Object {
    fn key(&self) -> String {
        self.name.clone()
    }
    fn older_than(&self, other: &Self) -> bool {
        self.uid == other.uid && version_before(&self.version, &other.version)
    }
}

/// Resource versions of one resource are ordered numbers (KEP-5504); where they are not, nothing is known to be older.
fn version_before(a: &str, b: &str) -> bool {
    matches!((a.parse::<u128>(), b.parse::<u128>()), (Ok(a), Ok(b)) if a < b)
}

fn merge<T: Known>(known: &mut BTreeMap<String, T>, delta: Delta<T>) -> bool {
    match delta {
        Delta::Replace(all) => {
            let fresh: BTreeMap<_, _> = all.into_iter().map(|item| (item.key(), item)).collect();
            let changed = *known != fresh;
            *known = fresh;
            changed
        }
        Delta::Apply(item) => match known.get(&item.key()) {
            Some(before) if *before == item || item.older_than(before) => false,
            _ => {
                known.insert(item.key(), item);
                true
            }
        },
        Delta::Delete(key) => known.remove(&key).is_some(),
    }
}

impl Index {
    /// Nothing but where ConfigMaps are.
    pub(crate) fn reading(maps: Maps) -> Self {
        Self { maps, ..Self::default() }
    }

    /// Takes a change in; true if anything that matters is different now.
    pub(crate) fn take(&mut self, change: Change) -> bool {
        match change {
            Change::Policies(delta) => {
                let delta = delta.map(|policy| policy.judged(&self.maps));
                self.merge(Watch::Policies, delta, |index| &mut index.policies)
            }
            Change::Objects(delta) => {
                let delta = delta.map(|object| self.shared.share(object));
                self.merge(Watch::Objects, delta, |index| &mut index.objects)
            }
            Change::Texts(name, texts) => self.texts(&name, texts),
            Change::Nodes(delta) => self.merge(Watch::Nodes, delta, |index| &mut index.nodes),
            Change::Namespaces(delta) => self.merge(Watch::Namespaces, delta, |index| &mut index.namespaces),
            Change::Guests(delta) => self.merge(Watch::Guests, delta, |index| &mut index.guests),
            Change::Launchers(delta) => self.merge(Watch::Launchers, delta, |index| &mut index.launchers),
            Change::Keys(watch, epoch) => {
                self.poor.retain(|poor, needed| *poor != watch || *needed > epoch);
                false
            }
            Change::Trouble(source, trouble, at) => self.trouble(source, &trouble, at),
        }
    }

    /// A policy whose ConfigMap says something else asks for something else.
    fn texts(&mut self, name: &str, texts: Option<Texts>) -> bool {
        let recovered = self.troubles.remove(&Source::ConfigMap(name.to_owned())).is_some();
        // What comes late, of a ConfigMap that nobody names any more, would stay for ever.
        if !self.is_named(name) || !self.maps.take(name, texts) {
            return recovered;
        }
        for policy in self.policies.values_mut().filter(|policy| policy.names(name)) {
            policy.judge(&self.maps);
        }
        true
    }

    /// The ConfigMaps that policies name, and the keys of each. What is known of others is forgotten.
    pub(crate) fn follow(&mut self) -> Wanted {
        let mut wanted = Wanted::new();
        for reference in self.policies.values().flat_map(Policy::references) {
            wanted.entry(reference.name.clone()).or_default().insert(reference.key.clone());
        }
        self.maps.keep(&wanted);
        self.troubles.retain(|source, _| match source {
            Source::ConfigMap(name) => wanted.contains_key(name),
            Source::Kind(_) => true,
        });
        wanted
    }

    fn is_named(&self, map: &str) -> bool {
        self.policies.values().any(|policy| policy.names(map))
    }

    /// Labels of this epoch are needed: what was listed with fewer is not listed.
    pub(crate) fn needs_labels(&mut self, epoch: u64) {
        for watch in [Watch::Nodes, Watch::Namespaces, Watch::Guests] {
            self.listed.remove(&watch);
            self.poor.insert(watch, epoch);
        }
    }

    fn merge<T: Known>(
        &mut self,
        watch: Watch,
        delta: Delta<T>,
        map: fn(&mut Self) -> &mut BTreeMap<String, T>,
    ) -> bool {
        if self.poor.contains_key(&watch) {
            return false;
        }
        let recovered = self.troubles.remove(&Source::Kind(watch)).is_some();
        let first = matches!(delta, Delta::Replace(_)) && self.listed.insert(watch);
        merge(map(self), delta) || first || recovered
    }

    fn trouble(&mut self, source: Source, trouble: &Trouble, at: Timestamp) -> bool {
        // As with what a ConfigMap says: what comes late of one that nobody names any more would stay for ever.
        if let Source::ConfigMap(name) = &source
            && !self.is_named(name)
        {
            return false;
        }
        // Where KubeVirt is not installed there are no guests: that is an answer, and it counts as listed.
        let absent = source == Source::Kind(Watch::Guests) && *trouble == Trouble::Absent;
        let before = self.troubles.remove(&source).filter(|seen| seen.trouble == *trouble);
        let known = before.is_some();
        let first =
            before.filter(|seen| at.duration_since(seen.last) < TROUBLE_TTL).map_or(at, |seen| seen.first);
        self.troubles.insert(source, Seen { trouble: trouble.clone(), first, last: at });
        let settled = at.duration_since(first) >= STARTING;
        let emptied = absent && settled && !std::mem::take(&mut self.guests).is_empty();
        let listed = absent && self.listed.insert(Watch::Guests);
        listed || emptied || !known || settled
    }

    /// Watches that have not listed their objects yet. As long as there is one, nothing may be concluded from absence.
    pub(crate) fn waiting(&self) -> Vec<Watch> {
        Watch::ALL.into_iter().filter(|w| !self.listed.contains(w)).collect()
    }

    /// The same, and the ConfigMaps if one of them was not read: only the policies that name it wait for that.
    pub(crate) fn unread(&self) -> Vec<Watch> {
        let mut waiting = self.waiting();
        let unread = self.policies.values().flat_map(Policy::references).any(|key| !self.maps.knows(key));
        waiting.extend(unread.then_some(Watch::ConfigMaps));
        waiting
    }

    /// What hinders watches now.
    pub(crate) fn troubles(&self, now: Timestamp) -> impl Iterator<Item = (&Source, &Trouble)> {
        self.troubles
            .iter()
            .filter(move |(_, seen)| seen.tells(now))
            .map(|(source, seen)| (source, &seen.trouble))
    }

    /// The spec of a node's object, where it can be read.
    pub(crate) fn spec(&self, node: &str) -> Option<&NodeOvercommitSpec> {
        self.objects.get(node)?.spec.as_ref()
    }

    /// The status of a node's object.
    pub(crate) fn status(&self, node: &str) -> Option<&NodeOvercommitStatus> {
        self.objects.get(node).map(|object| &object.status)
    }
}

#[cfg(test)]
#[path = "index_tests.rs"]
mod tests;
