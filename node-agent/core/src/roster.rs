//! Which guests the policy covers, as the API server (or the standalone policy file) knows them, and what else of the node only
//! the API server knows.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::sample::{GuestId, GuestName, GuestSample};

/// Why the API says that a guest must not be touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum OptOut {
    /// The opt-out annotation stands on the VMI or its namespace.
    Annotation,
    /// Its class excludes it.
    Class,
    /// No class of the policy matches it.
    NoClass,
}

/// What the roster says of one guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// Class that matched first; absent with [`OptOut::NoClass`].
    pub class: Option<Arc<str>>,
    /// Why it must not be touched.
    pub opt_out: Option<OptOut>,
    /// A migration of it is pending or under way.
    pub migrating: bool,
}

/// All guests that the policy covers: in a cluster by the pod that each runs in, elsewhere by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Roster {
    pods: BTreeMap<Arc<str>, (GuestName, Membership)>,
    #[serde(with = "pairs")]
    names: BTreeMap<GuestName, Membership>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ksm_manager: Option<KsmManager>,
}

/// Who besides us sets the kernel's merging of equal pages on this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum KsmManager {
    /// KubeVirt's own manager.
    KubeVirt,
}

impl fmt::Display for KsmManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KubeVirt => f.write_str("KubeVirt"),
        }
    }
}

/// A name is no text, and JSON has no other keys.
mod pairs {
    use std::collections::BTreeMap;

    use serde::{Deserialize as _, Deserializer, Serializer};

    use super::{GuestName, Membership};

    pub(super) fn serialize<S: Serializer>(
        names: &BTreeMap<GuestName, Membership>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(names)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<GuestName, Membership>, D::Error> {
        Vec::deserialize(deserializer).map(|pairs: Vec<(GuestName, Membership)>| pairs.into_iter().collect())
    }
}

impl Roster {
    /// The guests of a host without Kubernetes.
    pub fn by_name(members: impl IntoIterator<Item = (GuestName, Membership)>) -> Self {
        Self { names: members.into_iter().collect(), ..Self::default() }
    }

    /// The guests of a cluster's node, by the UID of each launcher pod.
    pub fn by_pod(members: impl IntoIterator<Item = (Arc<str>, GuestName, Membership)>) -> Self {
        let pods = members.into_iter().map(|(pod, name, member)| (pod, (name, member))).collect();
        Self { pods, ..Self::default() }
    }

    /// The same on a node where somebody else manages merging.
    #[must_use]
    pub fn with_ksm_manager(self, ksm_manager: Option<KsmManager>) -> Self {
        Self { ksm_manager, ..self }
    }

    /// Who else manages merging on this node.
    pub fn ksm_manager(&self) -> Option<KsmManager> {
        self.ksm_manager
    }

    /// What the roster says of `guest`; absent if it is not listed.
    ///
    /// In a cluster the kernel's word counts, which says in which pod the hypervisor runs. What the hypervisor says
    /// of itself is the tenant's word once a guest has broken out: a pod that is not listed gets nothing by bearing
    /// another guest's name, and a listed one nothing but what stands under its own.
    pub fn membership(&self, guest: &GuestSample) -> Option<&Membership> {
        self.find(&guest.id, &guest.name)
    }

    /// All pods that are listed, and whose they are; none on a host without Kubernetes.
    pub fn pods(&self) -> impl Iterator<Item = (&Arc<str>, &GuestName)> {
        self.pods.iter().map(|(pod, (name, _))| (pod, name))
    }

    /// All guests that are listed, and what it says of each.
    pub fn members(&self) -> impl Iterator<Item = (&GuestName, &Membership)> {
        self.pods.values().map(|(name, member)| (name, member)).chain(&self.names)
    }

    fn find(&self, id: &GuestId, name: &GuestName) -> Option<&Membership> {
        match id.pod() {
            Some(pod) => self.pods.get(pod).filter(|(listed, _)| listed == name).map(|(_, member)| member),
            None => self.names.get(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(class: &str) -> Membership {
        Membership { class: Some(Arc::from(class)), opt_out: None, migrating: false }
    }

    fn class<'a>(roster: &'a Roster, id: &str, name: &GuestName) -> Option<&'a str> {
        roster.find(&GuestId::new(id), name).and_then(|m| m.class.as_deref())
    }

    #[test]
    fn in_a_cluster_a_guest_is_known_by_its_pod_and_nothing_else() {
        let (gold, plain) = (GuestName::namespaced("shop", "gold"), GuestName::namespaced("shop", "plain"));
        let roster = Roster::by_pod([
            (Arc::from("pod-1"), gold.clone(), member("gold")),
            (Arc::from("pod-2"), gold.clone(), member("gold")),
            (Arc::from("pod-3"), plain.clone(), member("plain")),
        ]);
        assert_eq!(class(&roster, "pod-1/uuid", &gold), Some("gold"));
        assert_eq!(class(&roster, "pod-2/uuid", &gold), Some("gold"));
        // Not listed, whatever it calls itself; listed, and calling itself another.
        assert_eq!(class(&roster, "pod-4/uuid", &gold), None);
        assert_eq!(class(&roster, "pod-3/uuid", &gold), None);
        assert_eq!(class(&roster, "uuid", &gold), None);
    }

    #[test]
    fn it_is_written_as_json_and_read_whoever_is_on_it() {
        let name = GuestName::namespaced("shop", "gold");
        for roster in [
            Roster::by_name([(name.clone(), member("all"))]),
            Roster::by_pod([(Arc::from("pod-1"), name, member("gold"))]),
        ] {
            let text = serde_json::to_string(&roster).unwrap();
            assert_eq!(serde_json::from_str::<Roster>(&text).unwrap(), roster);
        }
    }

    #[test]
    fn without_kubernetes_a_guest_is_known_by_its_name() {
        let name = GuestName::standalone("web");
        let roster = Roster::by_name([(name.clone(), member("all"))]);
        assert_eq!(class(&roster, "uuid", &name), Some("all"));
        assert_eq!(class(&roster, "uuid", &GuestName::standalone("db")), None);
        assert_eq!(class(&roster, "pod-1/uuid", &name), None);
    }
}
