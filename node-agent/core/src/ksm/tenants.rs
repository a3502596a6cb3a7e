//! Whose memory would be merged. Equal pages tell whoever can measure a write that somebody else has the same content, so
//! that guests of different namespaces are not merged unless the policy says so (design §6.8).

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::reason::Reason;
use crate::policy::Ksm;
use crate::roster::Roster;
use crate::sample::Sample;
use crate::units::Monotonic;

/// Tenants must have agreed for so long before ksmd starts: a launcher that is on its way shows itself within seconds, and
/// pages are merged in the second pass over them at the earliest.
pub(super) const SETTLE: Duration = Duration::from_secs(20);

/// Whose guests there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tenants {
    /// No guest has memory that can be merged.
    Nobody,
    /// All are of one namespace, or of a host without namespaces.
    One,
    /// Of so many pods nobody said whose they are.
    Unknown(usize),
    /// They are of so many namespaces.
    Several(usize),
}

impl Tenants {
    /// By the roster alone: what a hypervisor says of itself is its tenant's word, that it has no guest as well as that its
    /// memory is in huge pages. So each pod that is listed counts, and every guest is taken for one that can be merged, as
    /// QEMU has it by default.
    pub(super) fn of(sample: &Sample, roster: &Roster) -> Self {
        let listed = roster.pods().map(|(_, name)| name.namespace.as_deref());
        let mut namespaces: BTreeSet<_> = listed.collect();
        let mut unknown = sample.strangers.len();
        for guest in &sample.guests {
            match (guest.id.pod(), roster.membership(guest)) {
                (None, _) => drop(namespaces.insert(None)),
                // Its pod was counted.
                (Some(_), Some(_)) => {}
                (Some(_), None) => unknown = unknown.saturating_add(1),
            }
        }
        match (unknown, namespaces.len()) {
            (0, 0) => Self::Nobody,
            (0, 1) => Self::One,
            (0, many) => Self::Several(many),
            (pods, _) => Self::Unknown(pods),
        }
    }

    /// Why their pages must not be merged under this rule.
    pub(super) fn objection(self, rule: Ksm) -> Option<Reason> {
        match self {
            _ if rule.across_namespaces => None,
            Self::Nobody | Self::One => None,
            Self::Unknown(pods) => Some(Reason::TenantUnknown { pods }),
            Self::Several(namespaces) => Some(Reason::TenantsDiffer { namespaces }),
        }
    }
}

/// Since when all are of one namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Settled(Option<Monotonic>);

impl Settled {
    /// True once they have been for [`SETTLE`].
    pub(super) fn since(&mut self, tenants: &Tenants, now: Monotonic) -> bool {
        self.0 = (*tenants == Tenants::One).then(|| self.0.unwrap_or(now));
        self.0.is_some_and(|since| now.since(since) >= SETTLE)
    }
}
