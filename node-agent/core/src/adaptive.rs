//! The adaptive engine, first version: keeps `promised ≤ budget`, takes unused memory first, gives at once.
//!
//! Every guest has four levels: floor ≤ need (its working set with headroom) ≤ comfort (nothing it has filled is
//! lost) ≤ ceiling. The allowed sum fills them stage by stage, the need of those that hurt before that of all; a stage
//! that cannot be filled for all is shared by weight. Targets then move towards that division, and only where somebody is
//! short: where nothing is to be won, nothing is done.

mod division;
mod gives;
mod seat;
mod takes;

use bumpalo::collections::Vec;

use crate::by_guest::ByGuest;
use crate::eligibility::{Standing, standing};
use crate::guard::Scene;
use crate::model::{Model, Track};
use crate::plan::{Move, Proposal};
use crate::reason::Reason;
use crate::units::Bytes;

use division::divide;
use gives::gives;
use seat::Seat;
use takes::takes;

/// What the engine wants, and its reason for every guest that it leaves as it is.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// The moves.
    pub proposal: Proposal,
    /// Reasons of guests that do not move.
    pub rest: ByGuest<Reason>,
}

impl Wish {
    pub(crate) fn clear(&mut self) {
        self.proposal.clear();
        self.rest.clear();
    }
}

/// How to divide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The regular decision.
    Control,
    /// The loop goes away: spread all that is spare, take nothing.
    Handover,
}

/// The division that the engine wants, into an empty wish.
pub fn propose(scene: &Scene<'_>, purpose: Purpose, wish: &mut Wish) {
    let Scene { model, ledger, policy, now, arena, .. } = *scene;
    let Wish { proposal: moves, rest } = wish;
    let mut seats = Vec::new_in(arena);
    let (mut exempt, mut owed) = (Bytes::ZERO, Bytes::ZERO);
    for track in model.tracks() {
        match standing(track, policy, now) {
            Standing::Exempt(reason) => {
                rest.insert(track.sample.id.clone(), reason);
                // Only what we took: how it was found is its owner's doing. What cannot be given now is the others' meanwhile.
                let give = give(track, track.ceiling, Reason::GiveExempt)
                    .filter(|_| track.is_ours() && track.is_reachable());
                let due = give.as_ref().map_or(Bytes::ZERO, |m| track.cost(m.to));
                exempt = exempt.plus(track.charge()).plus(due);
                owed = owed.plus(due);
                moves.extend(give);
            }
            Standing::GiveOnly(class, _) => seats.push(Seat::new(track, class, scene, false)),
            Standing::Open(class) => seats.push(Seat::new(track, class, scene, true)),
        }
    }
    divide(&mut seats, [ledger.allowed_with_swap(), ledger.allowed()].map(|sum| sum.minus(exempt)), arena);
    seats.iter_mut().for_each(Seat::wait_for_verdict);
    let lacks = gives(&seats, owed, scene, purpose, moves);
    if purpose == Purpose::Control {
        takes(&seats, scene, lacks, moves);
    }
    for seat in seats.iter().filter(|seat| !seat.moves.get()) {
        rest.insert(seat.track.sample.id.clone(), seat.rest_reason());
    }
}

/// Gives everything back.
pub fn release(model: &Model, wish: &mut Wish) {
    let Wish { proposal: moves, rest } = wish;
    for track in model.tracks().filter(|t| t.is_ours() || t.membership.is_some()) {
        let give = give(track, track.ceiling, Reason::GiveRelease);
        if give.is_none() {
            rest.insert(track.sample.id.clone(), Reason::FullSize);
        }
        moves.extend(give);
    }
}

fn give(track: &Track, to: Bytes, reason: Reason) -> Option<Move> {
    let step = Move::of(track, to.to_balloon_page_floor(), reason);
    (step.to > step.from).then_some(step)
}
