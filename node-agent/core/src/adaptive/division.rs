//! What is allowed, divided: stage by stage, and within a stage by weight.

use bumpalo::collections::Vec;
use bumpalo::{Bump, vec};

use super::seat::Seat;
use crate::units::Bytes;

/// Fills the levels stage by stage with what is left of `allowed` after what no balloon can take.
pub(super) fn divide(seats: &mut [Seat<'_>], allowed: Bytes, arena: &Bump) {
    let beside: Bytes = seats.iter().map(|s| s.track.beside()).sum();
    let floors: Bytes = seats.iter().map(|s| s.floor).sum();
    let mut left = allowed.minus(beside).minus(floors);
    let stages: [fn(&Seat<'_>) -> Bytes; 5] =
        [|s| s.least_relief(), |s| s.relief(), |s| s.need, |s| s.comfort, |s| s.ceiling];
    for level in stages {
        let gaps = seats.iter().map(|s| (level(s).minus(s.desired), s.class.weight));
        let gaps = Vec::from_iter_in(gaps, arena);
        for (seat, share) in seats.iter_mut().zip(share(left, &gaps, arena)) {
            seat.desired = seat.desired.plus(share);
            left = left.minus(share);
        }
    }
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
