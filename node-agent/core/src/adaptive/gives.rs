//! Who is given what, of what is spare.

use bumpalo::collections::Vec;

use super::division::share;
use super::seat::Seat;
use super::{Purpose, give};
use crate::guard::Scene;
use crate::model::Origin;
use crate::plan::Proposal;
use crate::units::{Bytes, Permille};

/// Slack is handed out only above this part of the host's memory, or when it is enough for all.
const SLACK_LINE: Permille = Permille::new(10);

/// Proposes gives from what is spare after what is owed to those who must not be touched; returns what the urgent ones
/// lack, and what those that go on reading files do.
pub(super) fn gives(
    seats: &[Seat<'_>],
    owed: Bytes,
    scene: &Scene<'_>,
    purpose: Purpose,
    moves: &mut Proposal,
) -> (Bytes, Bytes) {
    let Scene { ledger, policy, arena, .. } = *scene;
    let all = ledger.spare.minus(owed);
    // What is needed may be promised beyond what is spare while the node can swap.
    let backed = ledger.backed();
    let mut spare = all.plus(backed);
    // Nothing can be given to a guest out of reach: its part is the others'.
    let within_reach = || seats.iter().filter(|seat| seat.track.is_reachable());
    let urgent = Vec::from_iter_in(within_reach().filter(|s| s.is_urgent()), arena);
    // What a target in doubt adds to would be more than the slack that is there.
    let other = within_reach().filter(|s| !s.is_urgent() && s.track.origin != Origin::Supposed);
    let other = Vec::from_iter_in(other, arena);
    let wanted: Bytes = urgent.iter().filter(|s| s.is_worth_a_take(policy)).map(|s| s.cost()).sum();
    // Who takes no part in turns is not made to hurt by them; then whose turn it is gets all that it needs before the next
    // gets anything.
    let calm = |seat: &&Seat<'_>| seat.track.turn.is_none() && seat.track.evidence.fresh().is_some();
    if scene.turns {
        let first = Vec::from_iter_in(urgent.iter().copied().filter(calm), arena);
        spare = spare.minus(hand_out(&first, spare, Bytes::ZERO, scene, moves));
    }
    let mut served = Vec::from_iter_in(urgent.iter().copied().filter(|seat| seat.rank().is_some()), arena);
    served.sort_unstable_by_key(|seat| seat.rank());
    for seat in served {
        spare = spare.minus(hand_out(&[seat], spare, Bytes::ZERO, scene, moves));
    }
    let others = |seat: &&Seat<'_>| seat.rank().is_none() && !(scene.turns && calm(seat));
    let urgent = Vec::from_iter_in(urgent.iter().copied().filter(others), arena);
    spare = spare.minus(hand_out(&urgent, spare, Bytes::ZERO, scene, moves));
    let spare = spare.minus(backed);
    let slack: Bytes = other.iter().map(|s| s.cost()).sum();
    let (worthwhile, band) = match purpose {
        // What is left of too little for the urgent is what whole pages make of their parts.
        Purpose::Handover => {
            let lack: Bytes = within_reach().filter(|s| s.is_urgent()).map(Seat::cost).sum();
            (lack <= all, Bytes::ZERO)
        }
        Purpose::Control => (spare >= slack || spare >= ledger.total.share(SLACK_LINE), Bytes::new(1)),
    };
    if worthwhile {
        hand_out(&other, spare, band, scene, moves);
    }
    let rereads = other.iter().filter(|seat| seat.rereads && seat.is_worth_a_take(policy));
    let for_files: Bytes = rereads.map(|seat| seat.cost()).sum();
    (wanted.plus(owed).minus(ledger.spare), for_files.minus(spare))
}

fn hand_out(
    seats: &[&Seat<'_>],
    spare: Bytes,
    band: Bytes,
    scene: &Scene<'_>,
    moves: &mut Proposal,
) -> Bytes {
    let Scene { policy, arena, .. } = *scene;
    let gaps = Vec::from_iter_in(seats.iter().map(|s| (s.cost(), s.class.weight)), arena);
    let mut given = Bytes::ZERO;
    for (seat, part) in seats.iter().zip(share(spare, &gaps, arena)) {
        let reach = seat.track.reach();
        let to = seat.desired.min(reach.plus(part));
        let gain = to.minus(seat.track.target);
        let dead = policy.limits.dead_band.of(seat.track.sample.config.full);
        let too_little = !band.is_zero() && gain < dead && to < seat.ceiling;
        if !too_little && let Some(step) = give(seat.track, to, seat.give_reason()) {
            given = given.plus(step.to.minus(reach));
            seat.moves.set(true);
            moves.push(step);
        }
    }
    given
}
