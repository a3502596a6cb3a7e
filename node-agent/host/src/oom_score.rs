//! The memory request of a container, as far as its processes' `oom_score_adj` tells.
//!
//! The kubelet gives a Burstable container the score `1000 − 1000 × request / capacity` (integer division), at
//! least 3 and at most 999; Guaranteed and node-critical pods get −997, `BestEffort` 1000
//! (`GetContainerOOMScoreAdjust`, pkg/kubelet/qos/policy.go, Kubernetes 1.36). No other file on the node tells the
//! request without rights in the API.

use overcommit_core::units::Bytes;

/// What every Guaranteed container gets (`guaranteedOOMScoreAdj`, pkg/kubelet/qos/policy.go).
pub(crate) const GUARANTEED: i32 = -997;
/// What every `BestEffort` container gets (`besteffortOOMScoreAdj`, same file).
const BEST_EFFORT: i32 = 1000;
/// Lowest score of a Burstable container: `1000 + guaranteedOOMScoreAdj`.
const LOWEST_BURSTABLE: i32 = 1000 + GUARANTEED;

/// The largest request that gives `score` on a node with `capacity`: the true one may be up to 0.1 % of the
/// capacity smaller, never larger, so a floor made of it is safe. Zero for `BestEffort`; absent for scores that no
/// Burstable container gets (a Guaranteed one's request is its limit).
pub fn request_from_score(score: i32, capacity: Bytes) -> Option<Bytes> {
    if score == BEST_EFFORT {
        return Some(Bytes::ZERO);
    }
    if score == LOWEST_BURSTABLE {
        return Some(capacity); // clamped: anything from 99.7 % up
    }
    let above = u64::try_from(1001_i32.checked_sub(score)?).ok()?;
    (LOWEST_BURSTABLE..BEST_EFFORT)
        .contains(&score)
        .then(|| capacity.scaled(above, 1000).minus(Bytes::new(1)))
}

/// The smallest request that gives `score`: what others certainly lose by it. The highest score of a Burstable container may
/// mean none at all.
pub(crate) fn least_request(score: i32, capacity: Bytes) -> Option<Bytes> {
    if score == BEST_EFFORT - 1 {
        return Some(Bytes::ZERO);
    }
    let above = u64::try_from(BEST_EFFORT.checked_sub(score)?).ok()?;
    (LOWEST_BURSTABLE..=BEST_EFFORT).contains(&score).then(|| capacity.scaled(above, 1000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_request_is_never_above_the_true_one() {
        let capacity = 64 << 30;
        for request in [1, 1 << 20, 64 << 20, 131 << 20, 1 << 30, 3_000_000_000, 60 << 30, 64 << 30] {
            let score = score(request, capacity);
            let least = least_request(score, Bytes::new(capacity)).unwrap();
            assert!(least.get() <= request, "{request}: {least}");
            assert!(least.get() + capacity / 250 >= request, "{request}: {least}");
        }
        for (score, least) in [(BEST_EFFORT, Some(0)), (0, None), (GUARANTEED, None), (1001, None)] {
            assert_eq!(least_request(score, Bytes::new(1 << 30)).map(Bytes::get), least, "{score}");
        }
    }

    /// The kubelet's formula for a Burstable container.
    fn score(request: u64, capacity: u64) -> i32 {
        let raw = 1000 - i32::try_from(1000 * u128::from(request) / u128::from(capacity)).unwrap();
        raw.clamp(3, 999)
    }

    #[test]
    fn the_request_is_never_guessed_too_small_nor_more_than_two_thousandths_too_large() {
        let capacity = Bytes::from_mib(24_105);
        for mib in (1..24_105).step_by(97) {
            let request = Bytes::from_mib(mib);
            let guess = request_from_score(score(request.get(), capacity.get()), capacity).unwrap();
            assert!(guess.plus(Bytes::new(1)) >= request, "{mib} MiB read as {guess}");
            assert!(guess.minus(request) <= capacity.scaled(3, 1000), "{mib} MiB read as {guess}");
        }
    }

    #[test]
    fn classes_without_a_burstable_score_are_told_apart() {
        let capacity = Bytes::from_gib(24);
        assert_eq!(request_from_score(1000, capacity), Some(Bytes::ZERO));
        assert_eq!(request_from_score(3, capacity), Some(capacity));
        for score in [GUARANTEED, -1000, 0, 2, 1001, i32::MIN, i32::MAX] {
            assert_eq!(request_from_score(score, capacity), None, "{score}");
        }
    }
}
