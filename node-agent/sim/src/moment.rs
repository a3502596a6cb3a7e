//! A guest at one moment, as a plant or a recording shows it: what scores and series are made of.

use overcommit_core::units::Bytes;

/// Whether a guest runs on the node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Presence {
    /// It does.
    Here,
    /// It has not started, or its owner stopped it.
    #[default]
    Away,
    /// The node ended it, and it is not back.
    Ended,
}

/// One guest now.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Moment {
    /// Whether it runs.
    pub(crate) presence: Presence,
    /// Its full size.
    pub(crate) size: Bytes,
    /// What it needs to have in memory.
    pub(crate) need: Bytes,
    /// What its balloon leaves it.
    pub(crate) holds: Bytes,
    /// What its balloon was told last.
    pub(crate) target: Bytes,
    /// What it holds of the host's memory.
    pub(crate) resident: Bytes,
    /// It lacks memory that it needs.
    pub(crate) distress: bool,
    /// Its own kernel killed.
    pub(crate) killed_within: bool,
}

impl Moment {
    /// What its balloon holds.
    pub(crate) fn inflated(&self) -> Bytes {
        if self.presence == Presence::Here { self.size.minus(self.holds) } else { Bytes::ZERO }
    }
}
