//! A guest in the division: its levels, and what it may have of them.

use std::cell::Cell;

use crate::conduct::Trust;
use crate::evidence::Evidence;
use crate::floor::{self, Headroom};
use crate::guard::Scene;
use crate::model::Track;
use crate::plan::Move;
use crate::policy::{Class, Policy};
use crate::reason::{FloorKind, Reason};
use crate::turns::Place;
use crate::units::Bytes;

/// A guest has room to breathe above what it has filled, as filled × 100 / 95.
const COMFORT: (u64, u64) = (100, 95);

pub(super) struct Seat<'a> {
    pub(super) track: &'a Track,
    pub(super) class: &'a Class,
    pub(super) floor: Bytes,
    pub(super) kind: FloorKind,
    pub(super) need: Bytes,
    pub(super) comfort: Bytes,
    pub(super) ceiling: Bytes,
    pub(super) desired: Bytes,
    /// What is left to it in any case: its floor, and what its own kernel killed for lately, of which its words say nothing.
    pub(super) spared: Bytes,
    pub(super) belief: Belief,
    /// It goes on reading files for which it has no room: what others have nothing in is for it first.
    pub(super) rereads: bool,
    /// Its move is among those that are proposed.
    pub(super) moves: Cell<bool>,
}

/// Whether the division counts on a guest's balloon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Belief {
    /// It does, or nothing may be taken anyway: now, or from a guest that lies, for what a trial frees is less than what
    /// huge pages blur.
    Settled,
    /// It does not, for the balloon did not follow; it may be tried again.
    Open,
    /// It does not, and the guest is being tried.
    OnTrial,
}

impl<'a> Seat<'a> {
    pub(super) fn new(track: &'a Track, class: &'a Class, scene: &Scene<'_>, open: bool) -> Self {
        let (floor, kind) = scene.floor(track, class);
        // What its cgroup forbids it to have must not wait for it, nor be counted as what it could give.
        let has = if track.idle().is_zero() { track.target } else { track.reach() };
        // Nothing can be given to a guest out of reach: the others have its part.
        let most = if track.is_reachable() { track.cap() } else { track.reach() };
        let ceiling = most.max(has).min(track.ceiling);
        // What cannot be taken now stays promised: the others make room for it.
        let gives = open && track.conduct.trust() == Trust::Trusted;
        let belief = match track.conduct.underway(scene.now) {
            _ if !open || track.conduct.trust() != Trust::Unresponsive => Belief::Settled,
            None => Belief::Open,
            Some(_) => Belief::OnTrial,
        };
        let own = floor;
        let floor = if gives { floor } else { floor.max(track.reach()) }.min(ceiling);
        let blind = track.evidence.fresh().is_none();
        // Going stale while squeezed means giving; a guest that was never squeezed keeps what it has.
        let least = if belief == Belief::Settled { floor } else { own.min(ceiling) };
        let need = match track.turn {
            Some(Place::Waits) => floor,
            Some(Place::Keeps) => track.reach().clamp(least, ceiling),
            Some(Place::Served { want, .. }) => want.clamp(least, ceiling),
            None if blind || track.pain.is_some() => ceiling,
            None => track.demand.clamp(least, ceiling),
        };
        let filled = track.filled().map_or(ceiling, |f| f.scaled(COMFORT.0, COMFORT.1));
        // What one has filled that waits is what the others lack.
        let behind = track.turn.is_some_and(Place::is_behind);
        let comfort = if behind { need } else { filled.clamp(need, ceiling) };
        // In an emergency, and while others wait their turn, everybody but those in distress comes down to what it cannot do
        // without.
        let calm = track.pain.is_none() && track.turn.is_none();
        let lost = track.lost(scene.now);
        let need = match () {
            () if calm && kind == FloorKind::Emergency => floor,
            () if calm && scene.turns => {
                track.foreseen(Headroom::Close).max(lost).min(need).max(least.min(need))
            }
            () => need,
        };
        let moves = Cell::new(false);
        let spared = floor.max(lost.min(need));
        let rereads = !scene.emergency && !scene.turns && track.rereads(scene.now);
        Self {
            track,
            class,
            floor,
            kind,
            need,
            comfort,
            ceiling,
            desired: floor,
            spared,
            belief,
            rereads,
            moves,
        }
    }

    /// What is taken on trial is charged all the same, so it could be given back at once and for nothing: then nobody
    /// would ever know.
    pub(super) fn wait_for_verdict(&mut self) {
        if self.belief == Belief::OnTrial {
            self.desired = self.desired.min(self.track.target.max(self.need));
        }
    }

    /// What its wish adds to the promises: up to its reach it may touch everything already.
    pub(super) fn cost(&self) -> Bytes {
        self.desired.minus(self.track.reach())
    }

    /// When it is served, while turns are taken.
    pub(super) fn rank(&self) -> Option<usize> {
        match self.track.turn? {
            Place::Served { rank, .. } => Some(rank),
            Place::Waits | Place::Keeps => None,
        }
    }

    /// What it needs, if it hurts or its kernel killed in it, and there are no turns for that: the others need theirs so that they
    /// will not hurt.
    pub(super) fn relief(&self) -> Bytes {
        match self.track.pain {
            _ if self.track.turn.is_some() => Bytes::ZERO,
            Some(_) => self.need,
            None if self.spared > self.floor => self.spared,
            None => Bytes::ZERO,
        }
    }

    /// What of that keeps its kernel from killing, before anybody has all that it ever had; and what keeps one that grows from that: by
    /// the time its balloon has followed it will use what it grows by until then.
    pub(super) fn least_relief(&self) -> Bytes {
        let grows = self.track.turn.is_none() && self.track.pain.is_none();
        let most = if grows { self.relief().max(self.need) } else { self.relief() };
        self.spared.max(self.track.foreseen(Headroom::Regular)).min(most)
    }

    pub(super) fn is_urgent(&self) -> bool {
        self.track.target < self.need && self.track.is_squeezed()
    }

    /// Whether others are to make room for what it lacks of its part: a division that is met but for the dead band is met, for
    /// who gave a whole band to somebody in distress would have it taken back from the next.
    pub(super) fn is_worth_a_take(&self, policy: &Policy) -> bool {
        let apart = self.desired.minus(self.track.target);
        let hurts = self.track.pain.is_some() || self.track.target < self.spared;
        hurts || apart >= policy.limits.dead_band.of(self.track.sample.config.full)
    }

    pub(super) fn give_reason(&self) -> Reason {
        match (self.track.pain, self.track.evidence) {
            _ if self.track.rebooted => Reason::GiveReboot,
            (Some(pain), _) => Reason::GiveDistress(pain),
            (None, Evidence::Fresh(_)) if self.is_urgent() => Reason::GiveNeed,
            (None, Evidence::Fresh(_)) => Reason::GiveSlack,
            (None, _) => Reason::GiveBlind,
        }
    }

    pub(super) fn rest_reason(&self) -> Reason {
        if !self.track.is_reachable() {
            Reason::Unreachable
        } else if !self.track.is_squeezed() {
            Reason::FullSize
        } else if self.track.turn.is_some_and(Place::is_behind) {
            Reason::WaitsItsTurn
        } else if self.is_urgent() {
            Reason::Waiting
        } else {
            Reason::Enough
        }
    }

    pub(super) fn comfort_level(&self) -> Bytes {
        self.comfort.max(self.desired)
    }

    pub(super) fn regular_floor(&self) -> Bytes {
        floor::of(self.track, self.class).0
    }

    pub(super) fn take_to(&self, to: Bytes) -> Move {
        let reason = match self.kind {
            FloorKind::Emergency if to < self.regular_floor() => Reason::TakeEmergency,
            FloorKind::Turn if to < self.regular_floor() => Reason::TakeTurn,
            _ if self.track.waits() => Reason::TakeTurn,
            _ if to >= self.comfort => Reason::TakeUnused,
            _ => Reason::TakeCache,
        };
        Move::of(self.track, to, reason)
    }
}
