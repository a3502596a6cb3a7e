//! A validated policy: what `OvercommitPolicy` resolves to.
//!
//! Wire types never enter the core; whoever builds a [`Policy`] has checked it.

mod mom;

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use mom::{Mom, Slot};

use crate::units::{Amount, Permille};

/// What the loop may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// Everything but taking: a shadow balloon follows the plan. What was taken before is given back.
    Observe,
    /// Balloons follow the plan.
    Enforce,
}

/// A policy that has been checked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    /// Observe or enforce.
    pub mode: Mode,
    /// Period of the taking loop.
    pub interval: Duration,
    /// Ordered classes; a guest's class is decided elsewhere and looked up here by name.
    pub classes: Vec<Class>,
    /// What the node keeps free.
    pub reserve: Reserve,
    /// How fast anything may be taken.
    pub limits: Limits,
    /// Whether equal pages are merged.
    #[serde(default)]
    pub ksm: Ksm,
    /// How memory is divided. What is as by default is not written, so that recordings of former builds stay as they are.
    #[serde(default, skip_serializing_if = "Adaptive::is_default")]
    pub adaptive: Adaptive,
    /// A program that decides in the place of the adaptive engine, whose measures stay those of safety.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mom: Option<Mom>,
}

/// How memory is divided among guests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Adaptive {
    /// Giving begins while this part of what a guest has is still usable.
    pub headroom: Permille,
    /// For how long a guest has all that it wants, where guests take turns, before another may take its place.
    pub turn: Duration,
}

impl Default for Adaptive {
    /// A quarter: statistics come each second at best, and an emulated guest that grew by 20 MiB/s outran 15 % of 170 MiB and was
    /// killed. Two minutes: a change costs both the time that a swap needs for what they have, 400 MiB at 20 MiB/s, twice.
    fn default() -> Self {
        Self { headroom: Permille::from_percent(25), turn: Duration::from_mins(2) }
    }
}

impl Adaptive {
    /// As where nothing is said.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Whether equal pages are merged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ksm {
    /// Off, or as it pays.
    pub mode: KsmMode,
    /// Guests of different namespaces are merged with each other.
    pub across_namespaces: bool,
}

/// What is done about merging.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum KsmMode {
    /// Nothing; what was set before is put back.
    #[default]
    Off,
    /// It runs when it pays, and only then.
    Auto,
    /// As the program says; nothing while it says nothing.
    Program,
}

impl Policy {
    /// The class of that name.
    pub fn class(&self, name: &str) -> Option<&Class> {
        self.classes.iter().find(|class| &*class.name == name)
    }
}

/// What holds for the guests of one class.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Class {
    /// Name, unique within its policy.
    pub name: Arc<str>,
    /// Guaranteed minimum.
    pub floor: Floor,
    /// Share when there is not enough for all; 1 to 10,000.
    pub weight: u32,
    /// Its guests are never touched.
    pub exclude: bool,
}

/// The guaranteed minimum of a class; the highest of all that are set holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Floor {
    /// At least this part of the guest's full size.
    pub part: Permille,
    /// At least this much.
    pub bytes: crate::units::Bytes,
    /// The pod's memory request is no floor for this class.
    pub below_request: bool,
}

/// What the node keeps free.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reserve {
    /// Minimum; 100 % is the host's memory.
    pub minimum: Amount,
    /// Which quantile of the growth of non-guest memory to survive.
    pub growth_quantile: Permille,
}

impl Reserve {
    /// Nothing kept: what holds while a policy that is going gives back. Its own reserve must not keep what it took.
    pub const NONE: Self =
        Self { minimum: Amount::Bytes(crate::units::Bytes::ZERO), growth_quantile: Permille::new(0) };
}

/// How fast anything may be taken, and what is too little to bother.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Largest take from one guest per interval; 100 % is the guest's full size.
    pub take_per_guest: Amount,
    /// Largest take from all guests of the node per interval; 100 % is the host's memory.
    pub take_per_node: Amount,
    /// Changes smaller than this are not made; 100 % is the guest's full size.
    pub dead_band: Amount,
}
