//! Whether a loop still turns.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A loop says at each turn when it will be back; it hangs once it is later than that by more than its slack. A loop
/// may wait for minutes by design, so the age of its last turn alone says nothing.
#[derive(Debug)]
pub struct Beat {
    start: Instant,
    slack: Duration,
    /// Milliseconds after `start`.
    due: AtomicU64,
}

impl Beat {
    /// Of a loop that turns at once, and may be later than it said by `slack`.
    pub fn new(slack: Duration) -> Self {
        Self { start: Instant::now(), slack, due: AtomicU64::new(0) }
    }

    /// The loop turns, and will again within this time.
    pub fn back_within(&self, wait: Duration) {
        let due = self.start.elapsed().saturating_add(wait).as_millis();
        self.due.store(u64::try_from(due).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// By how much the loop is late, if by more than its slack.
    pub fn late(&self) -> Option<Duration> {
        let due = Duration::from_millis(self.due.load(Ordering::Relaxed));
        self.start.elapsed().checked_sub(due).filter(|late| *late > self.slack)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_is_late_once_its_slack_is_used_up() {
        let beat = Beat {
            start: Instant::now().checked_sub(Duration::from_secs(100)).unwrap(),
            ..Beat::new(Duration::from_secs(30))
        };
        assert!(beat.late().unwrap() >= Duration::from_secs(100));
        beat.due.store(69_000, Ordering::Relaxed);
        assert!(beat.late().is_some());
        beat.due.store(75_000, Ordering::Relaxed);
        assert_eq!(beat.late(), None);
        beat.back_within(Duration::from_mins(5));
        assert_eq!(beat.late(), None, "a loop that waits by design is not late");
        assert!(beat.due.load(Ordering::Relaxed) >= 400_000);
    }
}
