//! What is allowed, divided: stage by stage, and within a stage by weight.

use bumpalo::collections::Vec;
use bumpalo::{Bump, vec};

use super::seat::Seat;
use crate::units::Bytes;

/// Fills the levels stage by stage with what is left of what is allowed after what no balloon can take: what guests need of `for_needs`,
/// and what they can do without of `allowed`, if their needs left any.
pub(super) fn divide(seats: &mut [Seat<'_>], [for_needs, allowed]: [Bytes; 2], arena: &Bump) {
    let beside: Bytes = seats.iter().map(|s| s.track.beside()).sum();
    let floors: Bytes = seats.iter().map(|s| s.floor).sum();
    let needs: [Level; 3] = [|s| s.least_relief(), |s| s.relief(), |s| s.need];
    let rest: [Level; 2] = [|s| s.comfort, |s| s.ceiling];
    let kept = beside.plus(floors);
    let left = fill(seats, for_needs.minus(kept), &needs, arena);
    let used = for_needs.minus(kept).minus(left);
    fill(seats, allowed.minus(kept).minus(used), &rest, arena);
}

/// A level of a guest.
type Level = fn(&Seat<'_>) -> Bytes;

/// Fills these levels, and returns what is left.
fn fill(seats: &mut [Seat<'_>], mut left: Bytes, levels: &[Level], arena: &Bump) -> Bytes {
    for level in levels {
        let gaps = seats.iter().map(|s| (level(s).minus(s.desired), s.class.weight));
        let gaps = Vec::from_iter_in(gaps, arena);
        for (seat, share) in seats.iter_mut().zip(share(left, &gaps, arena)) {
            seat.desired = seat.desired.plus(share);
            left = left.minus(share);
        }
    }
    left
}

/// Divides `amount` over the gaps in proportion to their weights, none getting more than its gap. A weight of 0 counts
/// as 1: whatever a policy says, nobody in need is left out.
pub(super) fn share<'a>(amount: Bytes, gaps: &[(Bytes, u32)], arena: &'a Bump) -> Vec<'a, Bytes> {
    let mut granted = vec![in arena; Bytes::ZERO; gaps.len()];
    let mut left = amount;
    loop {
        let open = |(gap, got): (&(Bytes, u32), &Bytes)| *got < gap.0;
        let weights: u64 = gaps
            .iter()
            .zip(&granted)
            .filter(|(g, got)| open((g, got)))
            .map(|(g, _)| u64::from(g.1.max(1)))
            .sum();
        if weights == 0 || left.is_zero() {
            return granted;
        }
        let round = left;
        let mut moved = Bytes::ZERO;
        for ((gap, weight), got) in gaps.iter().zip(granted.iter_mut()) {
            let part = round.scaled(u64::from((*weight).max(1)), weights).min(gap.minus(*got));
            *got = got.plus(part);
            moved = moved.plus(part);
        }
        left = left.minus(moved);
        if moved.is_zero() {
            return granted;
        }
    }
}
