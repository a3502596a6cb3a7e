//! Pods in which something runs that looks like a guest, and that nobody listed: a guest that has just started, or any
//! tenant's process under a QEMU's name.
//!
//! Nothing that such a pod says of itself is shown or believed. It is an ordinary pod: what it holds is part of what is no
//! guest, with all other pods' memory, and by how much that grows is learned with it. Beyond that it is charged with what
//! it may still touch of what the scheduler promised it, because it may be a guest that is about to be listed.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::model::ASSUMED_OVERHEAD;
use crate::units::Bytes;

/// One such pod, as the host's kernel shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stranger {
    /// UID of the pod, by its cgroup.
    pub pod: Arc<str>,
    /// The guest's memory by its process's command line: any tenant's word.
    pub claim: Bytes,
    /// Anonymous and shared memory of the pod; absent while it cannot be read.
    pub held: Option<Bytes>,
    /// The pod's memory request as far as the node can tell.
    pub request: Option<Bytes>,
    /// The most that the pod may hold by the limits of its cgroups; absent when unlimited.
    pub bound: Option<Bytes>,
}

impl Stranger {
    /// What the node counts with: what the pod holds, and no less than the smallest of what it claims, what it requested and
    /// what its cgroup lets it have.
    ///
    /// Of the three the request alone is no word of the pod's owner that costs nothing: the scheduler placed the pod by it,
    /// so that the requests of all pods fit the node together. A command line says anything, and a limit may be a
    /// thousand times the node. A pod that is a real guest is charged with less than it may touch only where it may
    /// touch more than it requested, only until it is listed, and never with less than it holds.
    pub fn charge(&self) -> Bytes {
        let claim = self.claim.plus(ASSUMED_OVERHEAD);
        let promised = self.request.unwrap_or_default();
        claim.min(promised).min(self.bound.unwrap_or(Bytes::MAX)).max(self.held())
    }

    /// What of that it does not hold yet.
    pub fn untouched(&self) -> Bytes {
        self.charge().minus(self.held())
    }

    fn held(&self) -> Bytes {
        self.held.unwrap_or_default()
    }
}

/// All of them in one sum: they have no names but those that they claim.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unlisted {
    /// How many pods.
    pub pods: usize,
    /// What the node counts with for them, what they hold included.
    pub charge: Bytes,
    /// What of that they do not hold yet.
    pub untouched: Bytes,
}

impl Unlisted {
    /// The sum of these.
    pub fn of(strangers: &[Stranger]) -> Self {
        Self {
            pods: strangers.len(),
            charge: strangers.iter().map(Stranger::charge).sum(),
            untouched: strangers.iter().map(Stranger::untouched).sum(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stranger(claim: u64, held: u64, request: Option<u64>, bound: Option<u64>) -> (u64, u64) {
        let mib = Bytes::from_mib;
        let stranger = Stranger {
            pod: Arc::from("p"),
            claim: Bytes::new(claim.saturating_mul(1 << 20)),
            held: Some(mib(held)),
            request: request.map(mib),
            bound: bound.map(mib),
        };
        (stranger.charge().to_mib_floor(), stranger.untouched().to_mib_floor())
    }

    #[test]
    fn a_claim_counts_up_to_what_the_scheduler_promised_and_the_kernel_allows() {
        let huge = 100 << 20;
        assert_eq!(stranger(huge, 10, Some(64), None), (64, 54));
        assert_eq!(stranger(huge, 10, Some(64), Some(40)), (40, 30));
        assert_eq!(stranger(huge, 10, Some(64), Some(huge)), (64, 54), "a limit is the owner's word, too");
        assert_eq!(stranger(512, 10, Some(4096), None), (704, 694), "with what its hypervisor needs");
        assert_eq!(stranger(huge, 10, None, Some(huge)), (10, 0));
    }

    #[test]
    fn what_is_held_counts_whatever_was_promised() {
        assert_eq!(stranger(512, 900, Some(64), Some(40)), (900, 0));
        assert_eq!(stranger(0, 900, None, None), (900, 0));
        let unseen =
            Stranger { pod: Arc::from("p"), claim: Bytes::MAX, held: None, request: None, bound: None };
        assert_eq!(Unlisted::of(&[unseen]), Unlisted { pods: 1, ..Unlisted::default() });
    }
}
