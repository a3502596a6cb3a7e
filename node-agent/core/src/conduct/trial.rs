//! A take under observation: what it is expected to do, and when it is over.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Seen;
use crate::reason::Pain;
use crate::units::{Bytes, Monotonic};

/// After the balloon has followed, pain that the take caused shows within this time: some statistics at 1 to 2 s.
pub(super) const SETTLE: Duration = Duration::from_secs(10);
/// What khugepaged may put back beneath an inflated balloon during a trial: 4,096 pages each 10 s
/// (`pages_to_scan`, `scan_sleep_millisecs`, mm/khugepaged.c) for half a minute, and measurements that are not of one moment.
const CREEP: Bytes = Bytes::from_mib(64);

/// One take, or several in a row, under observation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Trial {
    pub(super) began: Monotonic,
    /// When the last of its takes was carried out.
    pub(super) asked: Monotonic,
    pub(super) from: Bytes,
    pub(super) to: Bytes,
    /// What the process held beyond what the balloon left it, before.
    pub(super) excess: Option<Bytes>,
    /// It hurt already when the trial began.
    pub(super) pained: bool,
    pub(super) followed: Option<Monotonic>,
    /// Since when its process holds too much for what the balloon says.
    pub(super) over: Option<Monotonic>,
}

/// A take under observation, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Underway {
    /// The target before it.
    pub from: Bytes,
    /// The target after it.
    pub to: Bytes,
    /// How long ago it began.
    pub age: Duration,
    /// The balloon has followed.
    pub followed: bool,
}

impl Trial {
    /// Pain that it caused would have shown: it followed some time ago, and reported since. A kernel that is late is not waited
    /// for: where guests thrash it always is, and pain of minutes later is not this take's.
    pub(super) fn has_settled(&self, seen: &Seen) -> bool {
        let Some(since) = self.followed else { return false };
        seen.at.since(since) >= SETTLE && seen.heard.is_some_and(|heard| heard > since)
    }

    /// What its process held before and holds now is known: its balloon's word is checked.
    pub(super) fn is_verified(&self, seen: &Seen) -> bool {
        self.excess.and(excess(seen)).is_some()
    }

    /// What its process holds more than before in excess of its balloon: at least half of what was taken, or it is creep.
    pub(super) fn too_much(&self, seen: &Seen) -> Option<Bytes> {
        let (after, before) = (excess(seen)?, self.excess?);
        let allowed = self.from.minus(self.to).scaled(1, 2).plus(CREEP);
        Some(after.minus(before)).filter(|grown| *grown > allowed)
    }
}

/// How it hurts. What is only foreseen proves nothing against a take: the guest's own words, which come within a second,
/// say whether what it fills is need or page cache.
pub(super) fn hurt(seen: &Seen) -> Option<Pain> {
    seen.pain.filter(|pain| !pain.is_foreseen())
}

/// What the process holds beyond what the balloon leaves the guest.
pub(super) fn excess(seen: &Seen) -> Option<Bytes> {
    seen.held.map(|held| held.minus(seen.actual))
}
