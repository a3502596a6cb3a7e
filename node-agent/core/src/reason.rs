//! Why a guest has the memory it has: one value that status, events, metrics, logs and `explain` all render.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::roster::OptOut;
use crate::sample::Untouchable;
use crate::units::Bytes;

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
    /// Seen from outside: its own process waits for memory that the host swapped out.
    HostFaults {
        /// Faults per second.
        per_second: u64,
    },
}

impl Pain {
    /// It does not hurt yet, and need not: what it fills may be page cache, which is usable still.
    pub const fn is_foreseen(self) -> bool {
        matches!(self, Self::Filling { .. })
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

/// What kept the guard from letting a take pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Hold {
    /// Statistics are too old.
    StaleStatistics {
        /// Age of the last ones.
        age: Duration,
    },
    /// The guest has never sent statistics: no balloon driver, or none that reports.
    NoStatistics,
    /// Statistics contradict themselves.
    ImpossibleStatistics,
    /// One take per new statistics: the next must come first.
    AwaitingStatistics,
    /// It is at its guaranteed minimum.
    AtFloor(FloorKind),
    /// The host does not show its process, or what its pod was promised.
    Unproven,
    /// The host's kernel has not shown its process for too long.
    OldFacts {
        /// Since it last did.
        age: Duration,
    },
    /// It has just booted.
    Booting,
    /// It is paused.
    Paused,
    /// A migration, dump or snapshot is under way.
    Busy,
    /// A migration of it is pending.
    Migrating,
    /// What the last agent left it with is not known to be in force yet.
    Adopting,
    /// Memory is being plugged into it, or out of it.
    Plugging,
    /// It does not follow its balloon target.
    NotFollowing,
    /// Its balloon says what its process denies.
    Untrusted,
    /// A take failed lately: nothing is tried before this time is over.
    BackingOff {
        /// What is left of it.
        left: Duration,
        /// Which expectation failed.
        failure: Failure,
    },
    /// This interval's take from one guest is used up.
    GuestLimit,
    /// Its balloon has yet to follow the last takes.
    BalloonLags,
    /// Somebody else moves its balloon.
    BalloonMoves,
    /// This interval's take from the whole node is used up.
    NodeLimit,
    /// Somebody paused all taking on this node.
    TakingPaused,
    /// The loop has just begun, and does not know yet what each guest holds.
    FirstLook,
    /// The policy's reserve leaves the node no memory for guests.
    ReserveTooLarge,
    /// It hurts, and no program takes from such.
    Hurts(Pain),
}

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

impl Hold {
    /// A stable name for labels and status.
    pub const fn code(self) -> &'static str {
        match self {
            Self::StaleStatistics { .. } => "StaleStatistics",
            Self::NoStatistics => "NoStatistics",
            Self::ImpossibleStatistics => "ImpossibleStatistics",
            Self::AwaitingStatistics => "AwaitingStatistics",
            Self::AtFloor(FloorKind::Part) => "AtFloorPercent",
            Self::AtFloor(FloorKind::Bytes) => "AtFloorBytes",
            Self::AtFloor(FloorKind::Request) => "AtFloorRequest",
            Self::AtFloor(FloorKind::WorkingSet) => "AtFloorWorkingSet",
            Self::AtFloor(FloorKind::Emergency) => "AtFloorEmergency",
            Self::AtFloor(FloorKind::Turn) => "AtFloorTurn",
            Self::Unproven => "Unproven",
            Self::OldFacts { .. } => "OldFacts",
            Self::Booting => "Booting",
            Self::Paused => "Paused",
            Self::Busy => "Busy",
            Self::Migrating => "Migrating",
            Self::Adopting => "Adopting",
            Self::Plugging => "Plugging",
            Self::NotFollowing => "NotFollowing",
            Self::Untrusted => "Untrusted",
            Self::BackingOff { .. } => "BackingOff",
            Self::GuestLimit => "GuestLimit",
            Self::BalloonLags => "BalloonLags",
            Self::BalloonMoves => "BalloonMoves",
            Self::NodeLimit => "NodeLimit",
            Self::TakingPaused => "TakingPaused",
            Self::FirstLook => "FirstLook",
            Self::ReserveTooLarge => "ReserveTooLarge",
            Self::Hurts(_) => "Hurts",
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
            Self::TakeTurn => f.write_str("gives what others need whole, and then it is its turn"),
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
            Self::HostFaults { per_second } => {
                write!(f, "waits for {per_second} pages/s that the host swapped out")
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

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StaleStatistics { age } => write!(f, "its statistics are {} s old", age.as_secs()),
            Self::NoStatistics => f.write_str("it sends no statistics (is its balloon driver loaded?)"),
            Self::ImpossibleStatistics => f.write_str("its statistics contradict themselves"),
            Self::AwaitingStatistics => f.write_str("the effect of the last take is not visible yet"),
            Self::AtFloor(kind) => write!(f, "it is at its floor: {kind}"),
            Self::Unproven => f.write_str("its process, or what its pod was promised, cannot be read"),
            Self::OldFacts { age } => {
                write!(f, "what the host's kernel says of its process is {} s old", age.as_secs())
            }
            Self::Booting => f.write_str("it has just booted"),
            Self::Paused => f.write_str("it is paused"),
            Self::Busy => f.write_str("a migration, dump or snapshot is under way"),
            Self::Migrating => f.write_str("a migration of it is pending"),
            Self::Adopting => f.write_str("what the last agent left it with is being made sure of"),
            Self::Plugging => f.write_str("memory is being plugged into it or out of it"),
            Self::NotFollowing => f.write_str("it does not follow its balloon target"),
            Self::Untrusted => f.write_str(
                "its process kept what its balloon said it gave; it is tried again once its QEMU or the agent is started anew",
            ),
            Self::BackingOff { left, failure } => {
                write!(f, "not tried again for {} s, because {failure}", left.as_secs())
            }
            Self::GuestLimit => f.write_str("this interval's limit for one guest is used up"),
            Self::BalloonLags => f.write_str("its balloon has yet to follow the last takes"),
            Self::BalloonMoves => f.write_str("somebody else moves its balloon"),
            Self::NodeLimit => f.write_str("this interval's limit for the node is used up"),
            Self::TakingPaused => f.write_str("taking is paused on this node"),
            Self::FirstLook => {
                f.write_str("the agent has just begun, and the kernel has not shown all guests yet")
            }
            Self::ReserveTooLarge => f.write_str("the policy's reserve.minimum is all that the node has"),
            Self::Hurts(pain) => write!(f, "it hurts ({pain})"),
        }
    }
}

impl fmt::Display for FloorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Part => "its class's part of its size",
            Self::Bytes => "its class's bytes",
            Self::Request => "its pod's memory request",
            Self::WorkingSet => "its working set with headroom",
            Self::Emergency => "what it keeps in an emergency",
            Self::Turn => "what it keeps while it waits its turn",
        })
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
