//! What a guest says of itself, and when.

use std::time::Duration;

use overcommit_core::sample::Balloon;
use overcommit_core::units::Bytes;

use crate::course::millis;

use super::memory::{Cost, Memory};

/// Minor faults in a second of an idle guest: timers and daemons. Any number above zero tells a reboot.
const IDLE_FAULTS: u64 = 100;
/// One minor fault for each page of 4 KiB that programs fill.
const PAGE: u64 = 4096;

/// Counters since its kernel's boot.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counters {
    pub(crate) swap_in: Bytes,
    pub(crate) swap_out: Bytes,
    pub(crate) major_faults: u64,
    pub(crate) minor_faults: u64,
}

impl Counters {
    pub(crate) fn count(&mut self, cost: &Cost, time: Duration) {
        self.swap_in = self.swap_in.plus(cost.swap_in);
        self.swap_out = self.swap_out.plus(cost.swap_out);
        self.major_faults = self.major_faults.saturating_add(cost.major_faults);
        let idle = millis(time).saturating_mul(IDLE_FAULTS) / 1000;
        let minor = idle.saturating_add(cost.filled.get() / PAGE);
        self.minor_faults = self.minor_faults.saturating_add(minor.max(1));
    }
}

/// The statistics that it pushed last.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Words {
    stamp: u64,
    total: Bytes,
    unused: Bytes,
    usable: Bytes,
    counters: Counters,
}

impl Words {
    /// The truth, at this second of the wall clock.
    pub(crate) fn honest(memory: &Memory, counters: Counters, wall: u64) -> Self {
        let (total, unused, usable) = (memory.total(), memory.free(), memory.usable());
        Self { stamp: wall, total, unused, usable, counters }
    }

    /// As one that suffers would say it, who swaps a MiB in each second.
    pub(crate) fn wailing(memory: &Memory, counters: Counters, wall: u64) -> Self {
        let swap_in = Bytes::from_mib(wall);
        let counters = Counters { swap_in, swap_out: swap_in, ..counters };
        let total = memory.total();
        let scrap = total.scaled(1, 50);
        Self { stamp: wall, total, unused: scrap, usable: scrap, counters }
    }

    pub(crate) fn stamp(&self) -> u64 {
        self.stamp
    }
}

/// Device and statistics as libvirt shows them.
pub(crate) fn shown(actual: Bytes, period: u32, words: Option<&Words>) -> Balloon {
    let unheard = Balloon { actual, period: Some(period), ..Balloon::default() };
    let Some(words) = words else { return unheard };
    Balloon {
        last_update: Some(words.stamp),
        available: Some(words.total),
        unused: Some(words.unused),
        usable: Some(words.usable),
        swap_in: Some(words.counters.swap_in),
        swap_out: Some(words.counters.swap_out),
        major_faults: Some(words.counters.major_faults),
        minor_faults: Some(words.counters.minor_faults),
        ..unheard
    }
}
