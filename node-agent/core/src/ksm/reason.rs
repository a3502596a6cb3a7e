//! Why ksmd scans or not; docs/reasons.md explains each.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::knobs::Foreign;
use crate::roster::KsmManager;
use crate::units::Bytes;

/// Why merging is as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    /// The policy does not ask for it.
    #[default]
    Off,
    /// The kernel has no KSM.
    NoKsm,
    /// The kernel's knobs cannot be read.
    NoKnobs,
    /// Somebody else manages it on this node.
    Managed {
        /// Who.
        by: KsmManager,
    },
    /// Somebody else wrote a knob.
    Yielded(Foreign),
    /// Somebody had everything unmerged.
    Unmerged,
    /// Everything is given back.
    Released,
    /// The agent goes away.
    HandedOver,
    /// The node is paused, or the orders are withdrawn, or the journal cannot be written.
    Paused,
    /// There is no guest whose memory can be merged.
    NoGuests,
    /// Guests are of several namespaces.
    TenantsDiffer {
        /// So many.
        namespaces: usize,
    },
    /// Of some guests nobody said whose they are.
    TenantUnknown {
        /// So many pods.
        pods: usize,
    },
    /// Guests are of one namespace, but not for long.
    TenantsSettle,
    /// There is memory enough.
    NotNeeded,
    /// What it saves is not known yet.
    Measuring,
    /// It saves more than it costs.
    Pays {
        /// Saved per second of ksmd's CPU time.
        per_cpu: Bytes,
    },
    /// The same, and it may not cost more.
    AtCeiling {
        /// Saved per second of ksmd's CPU time.
        per_cpu: Bytes,
    },
    /// The last pass saved too little for what it cost; slower, it may save as much for less.
    Slower {
        /// Saved per second of ksmd's CPU time.
        per_cpu: Bytes,
    },
    /// The last pass saved too little for what it cost: what is merged stays.
    Exhausted {
        /// Saved per second of ksmd's CPU time.
        per_cpu: Bytes,
    },
    /// Keeping track of pages takes more memory than merging saves.
    DoesNotPay,
    /// As the policy's program says.
    Program,
    /// It is the policy's program's to say, and it says nothing.
    ProgramSilent,
}

impl Reason {
    /// In one word.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Off => "KsmOff",
            Self::NoKsm => "KsmMissing",
            Self::NoKnobs => "KsmUnreadable",
            Self::Managed { .. } => "KsmManaged",
            Self::Yielded(foreign) if foreign.is_advisor() => "KsmAdvised",
            Self::Yielded(_) => "KsmYielded",
            Self::Unmerged => "KsmUnmerged",
            Self::Released => "KsmReleased",
            Self::HandedOver => "KsmHandedOver",
            Self::Paused => "KsmPaused",
            Self::NoGuests => "KsmNoGuests",
            Self::TenantsDiffer { .. } => "KsmTenantsDiffer",
            Self::TenantUnknown { .. } => "KsmTenantUnknown",
            Self::TenantsSettle => "KsmTenantsSettle",
            Self::NotNeeded => "KsmNotNeeded",
            Self::Measuring => "KsmMeasuring",
            Self::Pays { .. } => "KsmPays",
            Self::AtCeiling { .. } => "KsmAtCeiling",
            Self::Slower { .. } => "KsmSlower",
            Self::Exhausted { .. } => "KsmExhausted",
            Self::DoesNotPay => "KsmDoesNotPay",
            Self::Program => "KsmProgram",
            Self::ProgramSilent => "KsmProgramSilent",
        }
    }

    /// Something that somebody has to decide: the policy asks for merging, and others keep it from that.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Yielded(_) | Self::Unmerged | Self::NoKsm | Self::NoKnobs)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("the policy leaves KSM alone"),
            Self::NoKsm => f.write_str("the kernel has no KSM"),
            Self::NoKnobs => f.write_str("the kernel's knobs cannot be read"),
            Self::Managed { by } => write!(f, "{by} manages KSM on this node"),
            Self::Yielded(foreign) if foreign.is_advisor() => write!(
                f,
                "somebody turned the kernel's advisor on ({foreign}): the knobs are theirs until ksm.mode was Off once"
            ),
            Self::Yielded(foreign) => {
                write!(f, "somebody else writes the knobs ({foreign}): theirs until ksm.mode was Off once")
            }
            Self::Unmerged => {
                f.write_str("run is 2: somebody had everything unmerged; write 0 there to allow it again")
            }
            Self::Released => f.write_str("everything is given back, the knobs too"),
            Self::HandedOver => {
                f.write_str("the agent ends: the knobs are as they were found, what is merged stays")
            }
            Self::Paused => f.write_str("paused, or the journal cannot be written: what is merged stays"),
            Self::NoGuests => f.write_str("no guest has memory that can be merged"),
            Self::TenantsDiffer { namespaces } => {
                write!(f, "guests are of {namespaces} namespaces, and ksm.acrossNamespaces is false")
            }
            Self::TenantUnknown { pods } => {
                write!(
                    f,
                    "pods of which nobody said whose guest they are: {pods}; ksm.acrossNamespaces is false"
                )
            }
            Self::TenantsSettle => f.write_str("guests are of one namespace, but not for long enough"),
            Self::NotNeeded => f.write_str("there is memory enough: what is merged stays"),
            Self::Measuring => f.write_str("the first passes: what they save is not known yet"),
            Self::Pays { per_cpu } => write!(f, "saves {per_cpu} per second of CPU"),
            Self::AtCeiling { per_cpu } => {
                write!(f, "saves {per_cpu} per second of CPU, and may take no more CPU")
            }
            Self::Slower { per_cpu } => {
                write!(f, "saves {per_cpu} per second of CPU, too little: goes slower")
            }
            Self::Exhausted { per_cpu } => {
                write!(f, "saved {per_cpu} per second of CPU, too little: rests, what is merged stays")
            }
            Self::DoesNotPay => f.write_str("takes more memory to keep track of than it saves: rests"),
            Self::Program => f.write_str("as the policy's program says"),
            Self::ProgramSilent => f.write_str("the policy's program says nothing of it: as it was found"),
        }
    }
}
