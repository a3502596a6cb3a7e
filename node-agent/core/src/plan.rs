//! What is to be done: proposed by an engine, checked by the guard, carried out by an actuator.
//!
//! Only the guard can make a [`Plan<Guarded>`], and a decision has no other plan. Ports take plain [`Command`]s, for what takes nothing
//! goes to them as well: periods, targets that are set again, and what is given back without a decision.

use std::fmt;
use std::marker::PhantomData;

use serde::{Deserialize, Serialize, Serializer};

use crate::by_guest::ByGuest;
use crate::model::Track;
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
    /// Of this guest, from the target in force.
    pub(crate) fn of(track: &Track, to: Bytes, reason: Reason) -> Self {
        let (id, name) = (track.sample.id.clone(), track.sample.name.clone());
        Self { id, name, from: track.target, to, reason }
    }

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
    places: ByGuest<usize>,
    stage: PhantomData<Stage>,
}

impl<Stage> Default for Plan<Stage> {
    fn default() -> Self {
        Self { moves: Vec::new(), places: ByGuest::default(), stage: PhantomData }
    }
}

/// What an engine wants.
pub type Proposal = Plan<Proposed>;

/// As its moves: where each stands follows from them.
impl<Stage> Serialize for Plan<Stage> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.moves.serialize(serializer)
    }
}

impl<Stage> Plan<Stage> {
    fn add(&mut self, step: Move) {
        if self.places.get(&step.id).is_none() {
            self.places.insert(step.id.clone(), self.moves.len());
        }
        self.moves.push(step);
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
    /// Forgets all moves, and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.moves.clear();
        self.places.clear();
    }
}

impl Plan<Proposed> {
    /// What an engine wants besides.
    pub fn push(&mut self, step: Move) {
        self.add(step);
    }

    /// What an engine wants of a guest, in the place of what it wanted before.
    pub(crate) fn set(&mut self, step: Move) {
        let place = self.places.get(&step.id).copied();
        match place.and_then(|place| self.moves.get_mut(place)) {
            Some(known) => *known = step,
            None => self.add(step),
        }
    }

    /// Only those moves stay of which `wanted` holds.
    pub(crate) fn retain(&mut self, wanted: impl FnMut(&Move) -> bool) {
        self.moves.retain(wanted);
        self.places.clear();
        for (place, step) in self.moves.iter().enumerate().rev() {
            self.places.insert(step.id.clone(), place);
        }
    }
}

impl Extend<Move> for Plan<Proposed> {
    fn extend<T: IntoIterator<Item = Move>>(&mut self, moves: T) {
        for step in moves {
            self.add(step);
        }
    }
}

impl Plan<Guarded> {
    /// Only the guard vouches for a move.
    pub(crate) fn vouch(&mut self, step: Move) {
        self.add(step);
    }

    /// The calls that carry the plan out: gives first, because they relieve and cannot fail for want of memory
    /// that the plan itself takes (donors have paid before takers are promised).
    pub fn commands(&self) -> impl Iterator<Item = Command> {
        let (gives, takes) =
            (self.moves.iter().filter(|m| !m.takes()), self.moves.iter().filter(|m| m.takes()));
        gives.chain(takes).map(|m| Command::SetTarget { id: m.id.clone(), from: m.from, to: m.to })
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
    /// Done, or why that is not known.
    pub result: Result<(), Failed>,
}

/// Why a command is not known to be carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Failed {
    /// It was refused, or never sent: all is as it was.
    Refused(String),
    /// Nobody answered: it may have taken effect, and may yet.
    Unanswered {
        /// In words.
        unanswered: String,
    },
}

impl Failed {
    /// Nobody answered.
    pub fn unanswered(why: impl Into<String>) -> Self {
        Self::Unanswered { unanswered: why.into() }
    }
}

impl From<String> for Failed {
    fn from(why: String) -> Self {
        Self::Refused(why)
    }
}

impl From<&str> for Failed {
    fn from(why: &str) -> Self {
        Self::Refused(why.to_owned())
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(why) => f.write_str(why),
            Self::Unanswered { unanswered } => f.write_str(unanswered),
        }
    }
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
        let mut plan = Plan::default();
        plan.vouch(step("donor", 512, 400));
        plan.vouch(step("taker", 300, 412));
        let order: Vec<String> = plan.commands().map(|c| c.id().to_string()).collect();
        assert_eq!(order, ["taker", "donor"]);
    }
}
