//! When a guest's next statistics are worth asking for.
//!
//! The guest pushes them each period after it was asked (`balloon_stats_poll_cb`, `virtio_balloon_receive_stats`,
//! hw/virtio/virtio-balloon.c in QEMU), so they arrive a little later each time; nobody tells. Asking often costs libvirt
//! and QEMU; asking in step costs little and sees them within [`RETRY`].

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::units::Monotonic;

/// After a look that came too early: the bound on how late fresh statistics are seen.
pub const RETRY: Duration = Duration::from_millis(40);
/// A guest that is late by more than that is asked less and less often, up to this.
const PATIENT_RETRY: Duration = Duration::from_millis(640);
/// Each look that came in time makes the next one this much earlier, until one comes too early: the arrival is always
/// between the two.
const EARLIER: Duration = Duration::from_millis(15);

/// One guest's rhythm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cadence {
    stamp: Option<u64>,
    due: Monotonic,
    misses: u32,
}

impl Cadence {
    /// When to look next.
    pub fn due(&self) -> Monotonic {
        self.due
    }

    /// A look at `at` saw statistics of `stamp`; they come each `period`.
    pub fn looked(&mut self, at: Monotonic, stamp: Option<u64>, period: Duration) {
        if stamp.is_none() || stamp == self.stamp {
            let patience = RETRY.saturating_mul(1 << self.misses.min(8)).min(PATIENT_RETRY);
            // The first retries tell where in time the arrival is; later ones only that the guest is slow.
            let wait = if self.misses < 3 { RETRY } else { patience };
            self.misses = self.misses.saturating_add(1);
            self.due = at.after(wait);
            return;
        }
        let earlier = if self.misses == 0 { EARLIER } else { Duration::ZERO };
        self.due = at.after(period.saturating_sub(earlier));
        self.stamp = stamp;
        self.misses = 0;
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)] // of test courses
mod tests {
    use super::*;

    fn at(millis: u64) -> Monotonic {
        Monotonic::new(Duration::from_millis(millis))
    }

    /// Looks for a minute at a guest that pushes each 1,007 ms; returns looks and the worst delay in milliseconds once
    /// in step.
    fn course(period: u64) -> (u64, u64) {
        let mut cadence = Cadence::default();
        let (mut looks, mut worst, mut seen) = (0, 0, 0);
        while cadence.due() < at(60_000) {
            let now = u64::try_from(cadence.due().since_origin().as_millis()).unwrap();
            let pushes = now / period;
            if pushes != seen && now > 10_000 {
                worst = worst.max(now - pushes * period);
            }
            seen = pushes;
            cadence.looked(at(now), Some(pushes), Duration::from_secs(1));
            looks += 1;
        }
        (looks, worst)
    }

    #[test]
    fn fresh_statistics_are_seen_within_a_retry_at_few_looks() {
        let (looks, worst) = course(1007);
        assert!(worst <= 41, "{worst} ms");
        assert!(looks <= 120, "{looks} looks for 60 statistics");
    }

    #[test]
    fn a_silent_guest_is_asked_less_and_less() {
        let mut cadence = Cadence::default();
        cadence.looked(at(0), Some(1), Duration::from_secs(1));
        let mut looks = 0;
        while cadence.due() < at(60_000) {
            let now = cadence.due();
            cadence.looked(now, Some(1), Duration::from_secs(1));
            looks += 1;
        }
        assert!(looks < 110, "{looks}");
    }
}
