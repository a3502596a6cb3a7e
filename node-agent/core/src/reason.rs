//! Why a guest has the memory it has: one value that status, events, metrics, logs and `explain` all render.

mod cut;
mod hold;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::roster::OptOut;
use crate::sample::Untouchable;
use crate::units::Bytes;

pub use cut::{Cut, FloorKind};
pub use hold::Hold;

/// The reason for what happened, or did not happen, to one guest in one turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    /// It has its full size and nobody is short.
    FullSize,
    /// It has less than its full size, and what it needs.
    Enough,
    /// Memory that nobody in the guest uses is taken.
    TakeUnused,
    /// The guest's page cache is taken; its working set stays.
    TakeCache,
    /// The node is about to kill: memory is taken below the regular floor.
    TakeEmergency,
    /// Guests need more than there is: it waits while others have all that they need.
    TakeTurn,
    /// It hurts, and gets all that the budget can give.
    GiveDistress(Pain),
    /// It needs more than it has.
    GiveNeed,
    /// There is memory to spare.
    GiveSlack,
    /// It is squeezed and its statistics stopped coming.
    GiveBlind,
    /// It rebooted: until its balloon is back it may touch everything.
    GiveReboot,
    /// The policy is gone or only observes: everything taken is given back.
    GiveRelease,
    /// It must no longer be touched: everything taken is given back.
    GiveExempt,
    /// A take did not do what was expected of it: it is undone.
    Undo(Failure),
    /// A take was wanted and not made.
    Held(Hold),
    /// A give was wanted and there was nothing to give.
    Waiting,
    /// Guests need more than there is: others have all that they need, and then it is its turn.
    WaitsItsTurn,
    /// The API says that it must not be touched.
    OptOut(OptOut),
    /// Its definition says that it must not be touched.
    Untouchable(Untouchable),
    /// The operator lists its pod no more, or in no class of the policy: left alone, and given back what was taken.
    Unlisted,
    /// It has no balloon device.
    NoBalloon,
    /// Its hypervisor does not answer.
    Unreachable,
    /// The policy's program takes from it.
    TakeProgram(Spot),
    /// The policy's program gives to it.
    GiveProgram(Spot),
    /// What the policy's program has for it failed: nothing was proposed.
    ProgramFailed(Spot),
    /// The policy's program proposed something that is no size.
    ProgramRefused(Spot),
}

/// A place in the program of a policy. What its parts are called stands in the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spot {
    /// Which of its slots, from 1.
    pub slot: u32,
    /// From 1.
    pub line: u32,
}

impl fmt::Display for Spot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { slot, line } = self;
        if *slot == 1 { write!(f, "line {line}") } else { write!(f, "line {line} of its slot {slot}") }
    }
}

/// How a guest shows that it hurts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Pain {
    /// Usable memory is under its line.
    LowUsable {
        /// What is usable.
        usable: Bytes,
    },
    /// It reads back what it swapped out.
    SwapIn {
        /// Bytes per second.
        per_second: Bytes,
    },
    /// It reads back what it dropped from memory.
    MajorFaults {
        /// Faults per second.
        per_second: u64,
    },
    /// Seen from outside: it has touched all it has, and reads from its disks.
    DiskReads {
        /// Bytes per second.
        per_second: Bytes,
    },
    /// Seen from outside: it fills what it has so fast that nothing would be usable a second later, unless it is page
    /// cache that it writes or receives.
    Filling {
        /// Bytes per second.
        per_second: Bytes,
    },
    /// Seen from outside: it goes on reading files, of which it has all the memory full. It lacks nothing that anybody else should be
    /// hurt for; what others have nothing in is of use there.
    Rereads {
        /// Bytes per second.
        per_second: Bytes,
    },
}

impl Pain {
    /// It does not hurt yet, and need not: what it fills may be page cache, which is usable still, as is what it reads.
    pub const fn is_foreseen(self) -> bool {
        matches!(self, Self::Filling { .. } | Self::Rereads { .. })
    }
}

/// Which expectation of a take failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Failure {
    /// The balloon did not follow its target.
    NotFollowed {
        /// What it did not give.
        missing: Bytes,
    },
    /// The balloon had followed and gave memory back to the guest by itself.
    Deflated {
        /// How much.
        by: Bytes,
    },
    /// The balloon says that it gave, its process still holds the memory.
    NotFreed {
        /// What the process holds too much.
        excess: Bytes,
    },
    /// The guest's statistics stopped, or contradict themselves.
    Silent,
    /// The guest began to hurt.
    Hurt(Pain),
}

impl Reason {
    /// A stable name for labels and status: letters only, at most 32.
    pub const fn code(self) -> &'static str {
        match self {
            Self::FullSize => "FullSize",
            Self::Enough => "Enough",
            Self::TakeUnused => "TakeUnused",
            Self::TakeCache => "TakeCache",
            Self::TakeEmergency => "TakeEmergency",
            Self::TakeTurn => "TakeTurn",
            Self::GiveDistress(_) => "GiveDistress",
            Self::GiveNeed => "GiveNeed",
            Self::GiveSlack => "GiveSlack",
            Self::GiveBlind => "GiveBlind",
            Self::GiveReboot => "GiveReboot",
            Self::GiveRelease => "GiveRelease",
            Self::GiveExempt => "GiveExempt",
            Self::Undo(failure) => failure.code(),
            Self::Held(hold) => hold.code(),
            Self::Waiting => "Waiting",
            Self::WaitsItsTurn => "WaitsItsTurn",
            Self::OptOut(OptOut::Annotation) => "OptedOut",
            Self::OptOut(OptOut::Class) => "ClassExcluded",
            Self::OptOut(OptOut::NoClass) => "NoClass",
            Self::Untouchable(fact) => untouchable_code(fact),
            Self::Unlisted => "Unlisted",
            Self::NoBalloon => "NoBalloon",
            Self::Unreachable => "Unreachable",
            Self::TakeProgram(_) => "TakeProgram",
            Self::GiveProgram(_) => "GiveProgram",
            Self::ProgramFailed(_) => "ProgramFailed",
            Self::ProgramRefused(_) => "ProgramRefused",
        }
    }
}

impl Failure {
    /// A stable name for labels and status.
    pub const fn code(self) -> &'static str {
        match self {
            Self::NotFollowed { .. } => "UndoNotFollowed",
            Self::Deflated { .. } => "UndoDeflated",
            Self::NotFreed { .. } => "UndoNotFreed",
            Self::Silent => "UndoSilent",
            Self::Hurt(_) => "UndoHurt",
        }
    }
}

const fn untouchable_code(fact: Untouchable) -> &'static str {
    match fact {
        Untouchable::HugePages => "HugePages",
        Untouchable::DedicatedCpus => "DedicatedCpus",
        Untouchable::Realtime => "Realtime",
        Untouchable::HostDevice => "HostDevice",
        Untouchable::LaunchSecurity => "LaunchSecurity",
        Untouchable::LockedMemory => "LockedMemory",
        Untouchable::Guaranteed => "Guaranteed",
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FullSize => f.write_str("has its full size"),
            Self::Enough => f.write_str("has less than its full size, and what it needs"),
            Self::TakeUnused => f.write_str("gives memory that nothing in it uses"),
            Self::TakeCache => f.write_str("gives page cache; its working set stays"),
            Self::TakeEmergency => f.write_str("gives below its floor, for the node is about to kill guests"),
            Self::TakeTurn => f.write_str("gives what others lack, for turns are taken"),
            Self::GiveDistress(pain) => write!(f, "in distress ({pain}): gets all that the budget can give"),
            Self::GiveNeed => f.write_str("needs more than it has"),
            Self::GiveSlack => f.write_str("gets what the node has to spare"),
            Self::GiveBlind => f.write_str("is squeezed and its statistics stopped: gets its memory back"),
            Self::GiveReboot => f.write_str("rebooted: gets its memory back until its balloon is up"),
            Self::GiveRelease => f.write_str("is released: gets everything back"),
            Self::GiveExempt => f.write_str("must not be touched any more: gets everything back"),
            Self::Undo(failure) => write!(f, "the last take is undone: {failure}"),
            Self::Held(hold) => write!(f, "nothing taken: {hold}"),
            Self::Waiting => f.write_str("waits for memory that others have yet to give"),
            Self::WaitsItsTurn => {
                f.write_str("waits its turn: guests need more than the node has, and others are served whole")
            }
            Self::OptOut(OptOut::Annotation) => f.write_str("opted out by annotation"),
            Self::OptOut(OptOut::Class) => f.write_str("excluded by its class"),
            Self::OptOut(OptOut::NoClass) => f.write_str("matched by no class of the policy"),
            Self::Untouchable(fact) => write!(f, "never touched: {fact}"),
            Self::Unlisted => {
                f.write_str("not listed by the operator: left alone, and given back what was taken")
            }
            Self::NoBalloon => f.write_str("has no balloon device"),
            Self::Unreachable => f.write_str("its hypervisor does not answer"),
            Self::TakeProgram(at) => write!(f, "gives what the policy's program takes, {at}"),
            Self::GiveProgram(at) => write!(f, "gets what the policy's program gives, {at}"),
            Self::ProgramFailed(at) => write!(f, "left as it is: the policy's program failed on it, {at}"),
            Self::ProgramRefused(at) => {
                write!(f, "left as it is: what the policy's program wants for it is no size, {at}")
            }
        }
    }
}

impl fmt::Display for Pain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LowUsable { usable } => write!(f, "only {usable} usable"),
            Self::SwapIn { per_second } => write!(f, "swaps in {per_second}/s"),
            Self::MajorFaults { per_second } => write!(f, "{per_second} major faults/s"),
            Self::DiskReads { per_second } => {
                write!(f, "has touched all it has and reads {per_second}/s from its disks")
            }
            Self::Filling { per_second } => {
                write!(f, "fills {per_second}/s, and has hardly a second's worth left")
            }
            Self::Rereads { per_second } => {
                write!(f, "goes on reading {per_second}/s of files with all its memory full")
            }
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFollowed { missing } => {
                write!(f, "its balloon did not give {missing} that it was asked for")
            }
            Self::Deflated { by } => {
                write!(f, "its balloon gave {by} back unasked: by itself, or at the word of somebody else")
            }
            Self::NotFreed { excess } => {
                write!(f, "its balloon says that it gave, and its process holds {excess} more than that")
            }
            Self::Silent => f.write_str("it sent no statistics that can be used after it"),
            Self::Hurt(pain) => write!(f, "it began to hurt ({pain})"),
        }
    }
}

impl fmt::Display for Untouchable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HugePages => "backed by huge pages",
            Self::DedicatedCpus => "dedicated CPUs",
            Self::Realtime => "realtime",
            Self::HostDevice => "a host device pins its memory",
            Self::LaunchSecurity => "confidential guest",
            Self::LockedMemory => "its memory is locked",
            Self::Guaranteed => "QoS class Guaranteed",
        })
    }
}
