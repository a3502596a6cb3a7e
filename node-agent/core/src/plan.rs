//! What is to be done: proposed by an engine, checked by the guard, carried out by an actuator.
//!
//! An actuator accepts only [`Plan<Guarded>`]; only the guard can make one.

use std::collections::BTreeMap;
use std::marker::PhantomData;

use serde::{Deserialize, Serialize};

use crate::reason::Reason;
use crate::sample::{GuestId, GuestName};
use crate::units::Bytes;

/// Marks a plan that no guard has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proposed {}

/// Marks a plan that passed the guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guarded {}

/// A change of one guest's balloon target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// Which guest.
    pub id: GuestId,
    /// Its name.
    pub name: GuestName,
    /// The target before.
    pub from: Bytes,
    /// The target after.
    pub to: Bytes,
    /// Why.
    pub reason: Reason,
}

impl Move {
    /// True if the guest gets less.
    pub fn takes(&self) -> bool {
        self.to < self.from
    }
}

/// Moves in the order in which they are to be carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan<Stage> {
    moves: Vec<Move>,
    /// Where each guest's move stands: every guest is looked up, and there may be thousands.
    places: BTreeMap<GuestId, usize>,
    stage: PhantomData<Stage>,
}

/// What an engine wants.
pub type Proposal = Plan<Proposed>;

impl<Stage> Plan<Stage> {
    fn new(moves: Vec<Move>) -> Self {
        let mut places = BTreeMap::new();
        for (place, step) in moves.iter().enumerate() {
            places.entry(step.id.clone()).or_insert(place);
        }
        Self { moves, places, stage: PhantomData }
    }

    /// The moves.
    pub fn moves(&self) -> &[Move] {
        &self.moves
    }
    /// The move of one guest.
    pub fn of(&self, id: &GuestId) -> Option<&Move> {
        self.moves.get(*self.places.get(id)?)
    }
    /// True when nothing is to be done.
    pub fn is_empty(&self) -> bool {
        self.moves.is_empty()
    }
}

impl Plan<Proposed> {
    /// What an engine wants.
    pub fn proposed(moves: Vec<Move>) -> Self {
        Self::new(moves)
    }
}

impl Plan<Guarded> {
    /// Only the guard vouches for a plan.
    pub(crate) fn vouched(moves: Vec<Move>) -> Self {
        Self::new(moves)
    }

    /// The calls that carry the plan out: gives first, because they relieve and cannot fail for want of memory
    /// that the plan itself takes (donors have paid before takers are promised).
    pub fn commands(&self) -> Vec<Command> {
        let command = |m: &Move| Command::SetTarget { id: m.id.clone(), from: m.from, to: m.to };
        let (takes, gives): (Vec<&Move>, Vec<&Move>) = self.moves.iter().partition(|m| m.takes());
        gives.into_iter().chain(takes).map(command).collect()
    }
}

/// One call to a hypervisor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Set the balloon target, live only.
    SetTarget {
        /// Which guest.
        id: GuestId,
        /// Target before; what a journal needs.
        from: Bytes,
        /// Target after.
        to: Bytes,
    },
    /// Set the period at which the guest pushes statistics.
    SetPeriod {
        /// Which guest.
        id: GuestId,
        /// Seconds; 0 turns statistics off.
        seconds: u32,
    },
}

impl Command {
    /// The guest that it concerns.
    pub fn id(&self) -> &GuestId {
        match self {
            Self::SetTarget { id, .. } | Self::SetPeriod { id, .. } => id,
        }
    }
    /// True if a guest gets less memory.
    pub fn takes(&self) -> bool {
        matches!(self, Self::SetTarget { from, to, .. } if to < from)
    }
}

/// What became of a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The command.
    pub command: Command,
    /// Done, or why not.
    pub result: Result<(), String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_are_commanded_before_takes() {
        let step = |id: &str, from, to| Move {
            id: GuestId::new(id),
            name: GuestName::standalone(id),
            from: Bytes::from_mib(from),
            to: Bytes::from_mib(to),
            reason: Reason::Enough,
        };
        let plan = Plan::vouched(vec![step("donor", 512, 400), step("taker", 300, 412)]);
        let order: Vec<String> = plan.commands().iter().map(|c| c.id().to_string()).collect();
        assert_eq!(order, ["taker", "donor"]);
    }
}
