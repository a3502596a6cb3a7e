//! What a policy's program asks of merging; who may have it, and what is kept from it.

use serde::{Deserialize, Serialize};

use super::knobs::{Advisor, Knobs};

/// Pages between two sleeps: a batch holds the lock that a write to `run` waits for.
const PAGES: std::ops::RangeInclusive<u64> = 10..=30_000;
/// Milliseconds of a sleep: MOM's and ksmtuned's least, without which ksmd takes a whole CPU, and a minute, after which a new
/// value takes effect at the latest.
const SLEEP: std::ops::RangeInclusive<u64> = 10..=60_000;

/// Knobs as a program wants them; what it does not name stays as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// `ksm_run`: 0 or 1.
    pub run: Option<u64>,
    /// `ksm_pages_to_scan`.
    pub pages_to_scan: Option<u64>,
    /// `ksm_sleep_millisecs`.
    pub sleep_millisecs: Option<u64>,
}

impl Asked {
    /// Nothing is asked.
    pub fn is_silent(&self) -> bool {
        *self == Self::default()
    }

    /// ksmd is to scan; where the program does not say it goes on as it is.
    pub(super) fn scans(&self, now: &Knobs) -> bool {
        self.run.map_or(now.run == 1, |run| run == 1)
    }

    /// The knobs for a scan, within what is safe.
    pub(super) fn knobs(&self, now: &Knobs) -> Knobs {
        let within = |asked: Option<u64>, now: u64, bounds: std::ops::RangeInclusive<u64>| {
            asked.map_or(now, |value| value.clamp(*bounds.start(), *bounds.end()))
        };
        Knobs {
            run: 1,
            pages_to_scan: within(self.pages_to_scan, now.pages_to_scan, PAGES),
            sleep_millisecs: within(self.sleep_millisecs, now.sleep_millisecs, SLEEP),
            advisor: Advisor::None,
        }
    }
}
