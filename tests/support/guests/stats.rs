//! Balloon statistics as `virsh dommemstat` prints them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

/// Statistics of a guest's memory; sizes in KiB. What the guest does not report is absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemoryStats {
    /// What the balloon leaves the guest.
    pub actual_kib: u64,
    /// Resident size of QEMU.
    pub rss_kib: Option<u64>,
    /// The guest's `MemTotal`.
    pub available_kib: Option<u64>,
    /// The guest's `MemFree`.
    pub unused_kib: Option<u64>,
    /// The guest's `MemAvailable`.
    pub usable_kib: Option<u64>,
    /// Swapped in since boot.
    pub swap_in_kib: Option<u64>,
    /// Swapped out since boot.
    pub swap_out_kib: Option<u64>,
    /// Major faults since boot.
    pub major_faults: Option<u64>,
    /// When the guest last reported, in seconds of Unix time; absent when it never did.
    pub last_update: Option<u64>,
}

impl MemoryStats {
    pub(super) fn parse(text: &str) -> Result<Self> {
        let value = |key: &str| {
            let row = text.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(' '));
            row.and_then(|v| v.trim().parse::<u64>().ok())
        };
        Ok(Self {
            actual_kib: value("actual").with_context(|| format!("no `actual` in the statistics: {text}"))?,
            rss_kib: value("rss"),
            available_kib: value("available"),
            unused_kib: value("unused"),
            usable_kib: value("usable"),
            swap_in_kib: value("swap_in"),
            swap_out_kib: value("swap_out"),
            major_faults: value("major_fault"),
            last_update: value("last_update").filter(|at| *at > 0),
        })
    }

    /// Time since the guest last reported; `None` when it never did.
    pub fn age(&self) -> Option<Duration> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
        Some(now.saturating_sub(Duration::from_secs(self.last_update?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_guest_does_not_say_is_absent() {
        let stats = MemoryStats::parse("actual 262144\nlast_update 0\nrss 99000\n").unwrap();
        assert_eq!((stats.actual_kib, stats.rss_kib, stats.usable_kib), (262_144, Some(99_000), None));
        assert!(stats.age().is_none());
        assert!(MemoryStats::parse("rss 1").is_err());
    }
}
