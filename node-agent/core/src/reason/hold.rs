//! Why nothing was taken from a guest.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Failure, FloorKind, Pain};

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
