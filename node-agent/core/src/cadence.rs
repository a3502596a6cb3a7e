//! When a guest's next statistics are worth asking for.
//!
//! The guest pushes them each period after it was asked (`balloon_stats_poll_cb`, `virtio_balloon_receive_stats`,
//! hw/virtio/virtio-balloon.c in QEMU), so they arrive a little later each time; nobody tells. Asking often costs libvirt
//! and QEMU; asking in step costs little and sees them within [`RETRY`].

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::units::Monotonic;

/// After a look that came too early: the bound on how late fresh statistics are seen, once in step.
pub const RETRY: Duration = Duration::from_millis(40);
/// A guest that is late by more than that is asked less and less often, up to this.
const PATIENT_RETRY: Duration = Duration::from_millis(640);
/// A look that is in step comes this much earlier than the last that saw any, until one comes too early: the arrival is
/// always between the two.
const EARLIER: Duration = Duration::from_millis(15);

/// One guest's rhythm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cadence {
    stamp: Option<u64>,
    due: Monotonic,
    misses: u32,
    /// When new ones were seen last.
    seen: Monotonic,
    /// They had come no longer before that than this; absent until some were seen.
    slack: Option<Duration>,
    /// The last look.
    last: Monotonic,
}

impl Cadence {
    /// When to look next.
    pub fn due(&self) -> Monotonic {
        self.due
    }

    /// A look at `at` saw statistics of `stamp`; they come each `period`.
    pub fn looked(&mut self, at: Monotonic, stamp: Option<u64>, period: Duration) {
        let before = std::mem::replace(&mut self.last, at);
        if stamp.is_none() || stamp == self.stamp {
            self.due = at.after(self.again(at, period));
            self.misses = self.misses.saturating_add(1);
            return;
        }
        // The arrival is after the look before, and where that saw some, not much before the same time of this period.
        let slack = match self.slack {
            _ if self.misses > 0 => at.since(before),
            Some(slack) => at.after(slack).since(self.seen.after(period)),
            None => period,
        };
        let slack = slack.min(period);
        // Halved each time, so that any phase is found within a few periods.
        self.due = at.after(period.saturating_sub(half(slack).max(EARLIER)));
        (self.stamp, self.seen, self.slack, self.misses) = (stamp, at, Some(slack), 0);
    }

    /// How long to wait after a look that saw nothing new.
    fn again(&self, at: Monotonic, period: Duration) -> Duration {
        // Half of what is left of the time in which they are expected: they may come at any moment of it.
        let left = self.slack.map_or(Duration::ZERO, |_| self.seen.after(period).since(at));
        if left > RETRY {
            return half(left).max(RETRY);
        }
        // The first retries tell where in time the arrival is; later ones only that the guest is slow.
        if self.misses < 3 {
            return RETRY;
        }
        RETRY.saturating_mul(1 << self.misses.min(8)).min(PATIENT_RETRY)
    }
}

fn half(time: Duration) -> Duration {
    time.checked_div(2).unwrap_or_default()
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)] // of test courses
mod tests {
    use super::*;

    fn at(millis: u64) -> Monotonic {
        Monotonic::new(Duration::from_millis(millis))
    }

    /// Looks for a minute, from `phase` after a push on, at a guest that pushes each `period` ms; returns looks and the worst
    /// delay in milliseconds after the first six periods.
    fn course(period: u64, phase: u64) -> (u64, u64) {
        let mut cadence = Cadence { due: at(period + phase), ..Cadence::default() };
        let (mut looks, mut worst, mut seen) = (0, 0, 0);
        while cadence.due() < at(60_000) {
            let now = u64::try_from(cadence.due().since_origin().as_millis()).unwrap();
            let pushes = now / period;
            if pushes != seen && pushes > 7 {
                worst = worst.max(now - pushes * period);
            }
            seen = pushes;
            cadence.looked(at(now), Some(pushes), Duration::from_secs(1));
            looks += 1;
        }
        (looks, worst)
    }

    #[test]
    fn fresh_statistics_are_seen_within_a_retry_at_few_looks_whenever_the_first_look_was() {
        for period in [1000, 1002, 1007, 1030] {
            for phase in (0..1000).step_by(9) {
                let (looks, worst) = course(period, phase);
                assert!(worst <= 41, "{worst} ms late, period {period}, phase {phase}");
                assert!(looks <= 140, "{looks} looks for 60 statistics, period {period}, phase {phase}");
            }
        }
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
