//! From whom how much is taken, for what is short.

use bumpalo::collections::Vec;

use super::seat::{Belief, Seat};
use crate::conduct::FOLLOW_TOLERANCE;
use crate::guard::Scene;
use crate::model::Track;
use crate::plan::Proposal;
use crate::policy::Policy;
use crate::units::Bytes;

/// A balloon that is not believed is tried with this much: some times what is no disobedience.
const PROBE: Bytes = Bytes::from_mib(16);
/// Of a dead band this part is worth a take while somebody hurts, or more is promised than there is.
const PRESSING_BAND: u64 = 8;

/// Proposes takes for the shortfall and for what the urgent ones lack, from the idlest first; for files that some go on reading nothing
/// but what others have nothing in.
pub(super) fn takes(
    seats: &[Seat<'_>],
    scene: &Scene<'_>,
    (short_of_need, for_files): (Bytes, Bytes),
    moves: &mut Proposal,
) {
    let Scene { ledger, policy, arena, .. } = *scene;
    let pending: Bytes = seats.iter().map(|s| s.track.pending()).sum();
    let needed = ledger.shortfall.plus(short_of_need);
    let mut deficit = needed.minus(pending);
    let mut with_files = needed.plus(for_files).minus(pending);
    let donors = seats.iter().filter(|s| s.track.target > s.desired);
    let mut donors = Vec::from_iter_in(donors, arena);
    donors.sort_unstable_by(|a, b| {
        unused(b).cmp(&unused(a)).then_with(|| a.track.sample.id.cmp(&b.track.sample.id))
    });
    let lacking = deficit;
    for seat in &donors {
        let taken = take(seat, seat.comfort_level(), (with_files, false), policy, moves);
        (deficit, with_files) = (deficit.minus(taken), with_files.minus(taken));
    }
    for seat in &donors {
        deficit = deficit.minus(take(seat, seat.desired, (deficit, false), policy, moves));
    }
    // Of many who make room for one each has less to give than a take is worth: then some of them give that.
    let hurts = || seats.iter().any(|seat| !seat.relief().is_zero() && seat.is_urgent());
    if deficit == lacking && (!ledger.shortfall.is_zero() || hurts()) {
        for seat in &donors {
            deficit = deficit.minus(take(seat, seat.desired, (deficit, true), policy, moves));
        }
    }
    for seat in seats.iter().filter(|seat| seat.belief == Belief::Open) {
        let others = seats.iter().filter(|other| other.track.sample.id != seat.track.sample.id);
        if !deficit.is_zero() || others.map(|other| other.track).any(Track::is_squeezed) {
            probe(seat, policy, moves);
        }
    }
}

/// Tries a guest that is not believed while others pay for it. That counts for nothing until it has obeyed.
fn probe(seat: &Seat<'_>, policy: &Policy, moves: &mut Proposal) {
    let most = policy.limits.take_per_guest.of(seat.track.sample.config.full).min(PROBE);
    let level = seat.need.max(seat.track.target.minus(most)).to_balloon_page_ceil();
    // A smaller one could not be told from none.
    if !seat.moves.get() && seat.track.target.minus(level) > FOLLOW_TOLERANCE {
        seat.moves.set(true);
        moves.push(seat.take_to(level));
    }
}

fn unused(seat: &Seat<'_>) -> Bytes {
    seat.track.target.minus(seat.comfort_level())
}

/// Takes at most `deficit` down to `level`; no less than the dead band, so that a small shortfall ends. Where it is pressing,
/// that goes down to the floor, and whoever has less than a whole band above it gives a part.
fn take(
    seat: &Seat<'_>,
    level: Bytes,
    (deficit, pressing): (Bytes, bool),
    policy: &Policy,
    moves: &mut Proposal,
) -> Bytes {
    let full = seat.track.sample.config.full;
    let dead = policy.limits.dead_band.of(full).max(Bytes::from_kib(4));
    let (spared, least) = if pressing {
        (seat.spared, dead.scaled(1, PRESSING_BAND))
    } else {
        (seat.need.max(seat.floor), dead)
    };
    // The last step to a division may be smaller than the dead band: then it overshoots.
    let last_step = dead.min(seat.track.target.minus(spared));
    let room = seat.track.target.minus(level).max(last_step).min(policy.limits.take_per_guest.of(full));
    // What its pod's limit keeps it from is promised to nobody: taking that frees nothing, but comes before what does.
    let idle = seat.track.idle();
    let amount = deficit.plus(idle).max(dead).min(room);
    if deficit.is_zero()
        || seat.moves.get()
        || amount < least
        || (!idle.is_zero() && level >= seat.track.reach())
    {
        return Bytes::ZERO;
    }
    seat.moves.set(true);
    let to = seat.track.target.minus(amount).to_balloon_page_floor();
    moves.push(seat.take_to(to.max(seat.floor.to_balloon_page_ceil())));
    amount.minus(idle)
}
