//! What a guest's own words are worth: fresh, stale, missing, or impossible.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::sample::Balloon;
use crate::units::Bytes;

/// Statistics that may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statistics {
    /// The guest's `MemTotal`.
    pub total: Bytes,
    /// The guest's `MemFree`.
    pub unused: Bytes,
    /// The guest's `MemAvailable`; `MemFree` where an old guest does not say.
    pub usable: Bytes,
}

/// What is known of a guest from its own statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Evidence {
    /// Recent and consistent.
    Fresh(Statistics),
    /// Consistent, but too old.
    Stale {
        /// Time since they came.
        age: Duration,
    },
    /// None ever came since this guest booted.
    Missing,
    /// They contradict themselves.
    Impossible,
}

impl Evidence {
    /// The statistics, if fresh.
    pub fn fresh(&self) -> Option<&Statistics> {
        match self {
            Self::Fresh(statistics) => Some(statistics),
            _ => None,
        }
    }
}

/// Period that KubeVirt sets when nobody says otherwise (`memBalloonStatsPeriod`, kubevirt/kubevirt
/// pkg/virt-config/configuration.go).
pub(crate) const DEFAULT_PERIOD_SECONDS: u32 = 10;
/// Missing three updates in a row is no accident; two seconds more for whole-second stamps at both ends.
const MISSED_UPDATES: u32 = 3;
const STAMP_SLACK_SECONDS: u32 = 2;
/// However short the period, a busy guest may be late by some seconds.
const SHORTEST_PATIENCE: Duration = Duration::from_secs(10);
/// However long the period: what a guest used some minutes ago says little of what it uses now.
const LONGEST_PATIENCE: Duration = Duration::from_mins(2);

/// How old statistics may be at the given period.
pub fn patience(period: Option<u32>) -> Duration {
    let period = period.filter(|p| *p > 0).unwrap_or(DEFAULT_PERIOD_SECONDS);
    let seconds = period.saturating_mul(MISSED_UPDATES).saturating_add(STAMP_SLACK_SECONDS);
    Duration::from_secs(u64::from(seconds)).clamp(SHORTEST_PATIENCE, LONGEST_PATIENCE)
}

/// No machine addresses more: 52 bits of physical address on x86-64 (Intel SDM, `MAXPHYADDR`) and arm64
/// (`CONFIG_ARM64_PA_BITS_52`). The full size is no bound, for it leaves pluggable memory out.
const ADDRESSABLE: Bytes = Bytes::new(1 << 52);

/// Judges statistics that came `age` ago; `age` is absent if none came.
pub fn judge(balloon: &Balloon, age: Option<Duration>) -> Evidence {
    let stamped = age.filter(|_| balloon.last_update.is_some_and(|stamp| stamp > 0));
    let (Some(age), Some(total), Some(unused)) = (stamped, balloon.available, balloon.unused) else {
        return Evidence::Missing;
    };
    let usable = balloon.usable.unwrap_or(unused);
    if total.is_zero() || total > ADDRESSABLE || unused > total || usable > total {
        return Evidence::Impossible;
    }
    if age > patience(balloon.period) {
        return Evidence::Stale { age };
    }
    Evidence::Fresh(Statistics { total, unused, usable })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn balloon(total: u64, unused: u64, usable: u64) -> Balloon {
        Balloon {
            actual: Bytes::from_mib(512),
            last_update: Some(1),
            available: Some(Bytes::from_mib(total)),
            unused: Some(Bytes::from_mib(unused)),
            usable: Some(Bytes::from_mib(usable)),
            period: Some(2),
            ..Balloon::default()
        }
    }

    #[test]
    fn statistics_that_contradict_themselves_are_impossible() {
        let now = Some(Duration::ZERO);
        assert_eq!(judge(&balloon(500, 600, 100), now), Evidence::Impossible);
        assert_eq!(judge(&balloon(500, 100, 600), now), Evidence::Impossible);
        assert_eq!(judge(&balloon(0, 0, 0), now), Evidence::Impossible);
        assert_eq!(judge(&balloon(u64::MAX, u64::MAX, u64::MAX), now), Evidence::Impossible);
    }

    #[test]
    fn statistics_grow_stale_by_their_period() {
        let good = balloon(500, 100, 200);
        assert!(matches!(judge(&good, Some(Duration::from_secs(10))), Evidence::Fresh(_)));
        assert!(matches!(judge(&good, Some(Duration::from_secs(11))), Evidence::Stale { .. }));
        assert_eq!(patience(Some(10)), Duration::from_secs(32));
        assert_eq!(patience(None), patience(Some(0)));
        assert_eq!(patience(Some(3600)), Duration::from_mins(2));
        assert_eq!(patience(Some(u32::MAX)), Duration::from_mins(2));
    }

    #[test]
    fn a_guest_that_never_reported_has_no_evidence() {
        assert_eq!(judge(&Balloon::default(), None), Evidence::Missing);
        assert_eq!(judge(&balloon(500, 1, 1), None), Evidence::Missing);
        for stamp in [None, Some(0)] {
            let unstamped = Balloon { last_update: stamp, ..balloon(500, 1, 1) };
            assert_eq!(judge(&unstamped, Some(Duration::ZERO)), Evidence::Missing);
        }
    }
}
