//! What a journal holds; on disk it lies in an envelope.
//!
//! Names nothing of this crate but what it is given: `tests/fuzz` takes this very file in.

use std::collections::BTreeMap;

use overcommit_core::dealings::Original;
use overcommit_core::ksm::Held;
use overcommit_core::sample::{GuestId, GuestName, Incarnation};
use overcommit_core::units::{Bytes, Monotonic};
use serde::{Deserialize, Serialize};

/// One guest's entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// Its process.
    pub(crate) incarnation: Option<Incarnation>,
    /// What it had.
    pub(crate) original: Original,
    /// The target in force, or about to be.
    pub(crate) target: Bytes,
    /// It was seen to have all that it had, and nothing of it was an agent's doing any more: what it holds later is its owner's.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) whole: bool,
    /// What it was called, for people; absent where an older agent wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<GuestName>,
}

impl Entry {
    /// It holds less than it had, by an agent's doing.
    pub(crate) fn lacks(&self) -> bool {
        self.target < self.original.target
    }
}

/// All entries of one boot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Content {
    /// Which boot.
    pub(crate) boot_id: String,
    /// By guest.
    pub(crate) guests: BTreeMap<GuestId, Entry>,
    /// The kernel's knobs for merging; absent while nothing of them is held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ksm: Option<Held>,
    /// When an older journal of this boot could not be read; absent once everybody who ran then was seen. Until then what
    /// guests lack that are not in here may be owed to them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) lost_at: Option<Monotonic>,
    /// Guests that ended while they lacked something, of this boot or one before it, the last one last. One that is restored
    /// from a file goes on with its balloon as it was.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) ended: Vec<(GuestId, Entry)>,
}

impl Content {
    /// Written in this boot, as far as is known: one whose boot could not be told is taken for this one, for a process of another
    /// boot has hardly the same number and the same start, and what guests had is worth more.
    pub(crate) fn is_of(&self, boot_id: &str) -> bool {
        self.boot_id == boot_id || self.boot_id.is_empty() || boot_id.is_empty()
    }
}
