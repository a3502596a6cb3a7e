//! Which guests the policy covers, as the API server (or the standalone policy file) knows them.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::sample::{GuestName, GuestSample};

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
    /// UID of the VMI; absent without Kubernetes.
    pub vmi_uid: Option<Arc<str>>,
    /// Class that matched first; absent with [`OptOut::NoClass`].
    pub class: Option<Arc<str>>,
    /// Why it must not be touched.
    pub opt_out: Option<OptOut>,
    /// A migration of it is pending or under way.
    pub migrating: bool,
}

/// All guests that the policy covers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Roster {
    members: BTreeMap<GuestName, Membership>,
}

impl Roster {
    /// A roster from its members.
    pub fn new(members: impl IntoIterator<Item = (GuestName, Membership)>) -> Self {
        Self { members: members.into_iter().collect() }
    }

    /// What the roster says of `guest`. Absent if it is not listed, or listed under another UID: a VMI that was
    /// deleted and created anew is another guest, of which nothing is known yet.
    pub fn membership(&self, guest: &GuestSample) -> Option<&Membership> {
        let member = self.members.get(&guest.name)?;
        match (&member.vmi_uid, &guest.vmi_uid) {
            (Some(listed), Some(seen)) if listed != seen => None,
            _ => Some(member),
        }
    }

    /// The number of listed guests.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// True when nothing is listed.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }
}
