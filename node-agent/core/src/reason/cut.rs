//! Why less was taken or given than was wanted: limits, and what a guest keeps in any case.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why the guard allowed less than was wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cut {
    /// The interval's limit for one guest.
    GuestLimit,
    /// The interval's limit for the node.
    NodeLimit,
    /// The guest's floor.
    Floor(FloorKind),
    /// There is no more to spare.
    Spare,
    /// Its pod may hold no more.
    PodLimit,
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::GuestLimit => f.write_str("limits.takePerGuest leaves no more for this interval"),
            Self::NodeLimit => f.write_str("limits.takePerNode leaves no more for this interval"),
            Self::Floor(kind) => write!(f, "it keeps {kind}"),
            Self::Spare => f.write_str("there is no more to spare"),
            Self::PodLimit => f.write_str("its pod may hold no more"),
        }
    }
}

/// Which guaranteed minimum is the highest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FloorKind {
    /// Percent of the full size.
    Part,
    /// Bytes.
    Bytes,
    /// What the scheduler promised the pod.
    Request,
    /// The guest's own working set with headroom.
    WorkingSet,
    /// What it keeps in a declared emergency.
    Emergency,
    /// What it keeps while it waits its turn.
    Turn,
}

impl fmt::Display for FloorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Part => "its class's part of its size",
            Self::Bytes => "its class's bytes",
            Self::Request => "its pod's memory request",
            Self::WorkingSet => "its working set with headroom",
            Self::Emergency => "what it keeps in an emergency",
            Self::Turn => "what it keeps while turns are taken",
        })
    }
}
