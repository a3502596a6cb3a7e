//! The host's memory: swap if there is any, the kubelet's line, the kernel's killer.

use std::time::Duration;

use overcommit_core::sample::{HostCounters, HostMemory, HostSample, Pressure};
use overcommit_core::units::{Bytes, Permille};

use super::guest::Guest;
use super::ksmd::Ksmd;
use super::memory::watermark;
use crate::course::{Course, millis};
use crate::scenario::Host as Written;

/// The kubelet looks at memory that often (`--housekeeping-interval`).
const HOUSEKEEPING: Duration = Duration::from_secs(10);
/// Without swap a host whose available memory is below this part does little but read its own programs again: with 8 guests
/// over the edge one stood still for minutes before its kernel killed.
const LIVELOCK: Permille = Permille::new(10);
/// Time constant of `avg10` (Documentation/accounting/psi.rst).
const AVG10: Duration = Duration::from_secs(10);
const PAGE: u64 = 4096;

/// Why the node ended a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Its kernel ran out of memory.
    Killed,
    /// The kubelet's line was crossed.
    Evicted,
}

/// The host beside its guests.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    memory: Bytes,
    watermark: Bytes,
    swap: Bytes,
    swap_speed: Bytes,
    huge_pages: Bytes,
    kernel: Bytes,
    pub(crate) eviction: Bytes,
    other: Course,
    others: Bytes,
    swapped: Bytes,
    swap_in: Bytes,
    swap_out: Bytes,
    kills: u64,
    next_housekeeping: Duration,
    pub(super) ksmd: Ksmd,
    /// `full avg10`, in hundredths of a percent.
    stalls: u64,
    /// It does nothing but look for memory.
    pub(crate) stalled: bool,
}

impl Host {
    pub(crate) fn new(written: &Written, other: Course) -> Self {
        Self {
            memory: written.memory.0,
            watermark: watermark(written.memory.0),
            swap: written.swap.0,
            swap_speed: written.swap_speed.0,
            huge_pages: written.huge_pages.0,
            kernel: written.kernel.0,
            eviction: written.eviction.0,
            other,
            others: Bytes::ZERO,
            swapped: Bytes::ZERO,
            swap_in: Bytes::ZERO,
            swap_out: Bytes::ZERO,
            kills: 0,
            next_housekeeping: Duration::ZERO,
            ksmd: Ksmd::default(),
            stalls: 0,
            stalled: false,
        }
    }

    /// All its memory.
    pub(crate) fn memory(&self) -> Bytes {
        self.memory
    }

    /// What everything that is no guest uses.
    pub(crate) fn others(&self) -> Bytes {
        self.others
    }

    /// What guests could have if all else stays as it is.
    pub(crate) fn for_guests(&self) -> Bytes {
        let kept = self.huge_pages.plus(self.kernel()).plus(self.others).plus(self.eviction);
        self.memory.minus(kept)
    }

    /// What its kernel needs for itself.
    fn kernel(&self) -> Bytes {
        self.kernel.plus(self.ksmd.memory())
    }

    /// What merging leaves it now, and what ksmd took for that so far.
    pub(crate) fn merging(&self) -> (Bytes, Duration) {
        (self.ksmd.saved(), self.ksmd.cpu())
    }

    fn available(&self, guests: &[Guest]) -> Bytes {
        self.for_guests().plus(self.eviction).minus(guests.iter().map(Guest::charged).sum())
    }

    /// What the host cannot hold in memory: its kernel keeps some free, as a guest's does.
    fn overrun(&self, guests: &[Guest]) -> Bytes {
        let used: Bytes = guests.iter().map(Guest::charged).sum();
        used.plus(self.watermark).minus(self.for_guests().plus(self.eviction))
    }

    /// Time passes; whom it ended, if anybody.
    pub(crate) fn live(
        &mut self,
        now: Duration,
        time: Duration,
        guests: &mut [Guest],
    ) -> Option<(usize, End)> {
        self.others = self.other.at(now);
        self.ksmd.live(time, guests);
        let mut budget = self.swap_speed.scaled(millis(time), 1000);
        let mut busy = false;
        if !self.swap.is_zero() {
            let wanted = budget;
            self.swap_out(&mut budget, guests);
            self.swap_in(&mut budget, guests);
            busy = budget < wanted.scaled(1, 10);
        }
        let overrun = self.overrun(guests);
        let starved = self.swap.is_zero() && self.available(guests) < self.memory.share(LIVELOCK);
        self.stalled = starved;
        self.notice_stalls(starved || (busy && !overrun.is_zero()), time);
        // What goes is divided among the guests, and less than a page of each may stay.
        let pages = u64::try_from(guests.len()).unwrap_or(u64::MAX);
        let full = self.swap.minus(self.swapped) <= Bytes::from_kib(4).scaled(pages, 1);
        let end = if !overrun.is_zero() && full {
            self.kills = self.kills.saturating_add(1);
            self.worst(guests).map(|index| (index, End::Killed))
        } else {
            self.keep_house(now, guests).map(|index| (index, End::Evicted))
        };
        if let Some((index, _)) = end
            && let Some(guest) = guests.get_mut(index)
        {
            guest.is_killed(now);
        }
        end
    }

    /// Blind but for age: what nobody in the guest reads goes first, of all guests alike.
    fn swap_out(&mut self, budget: &mut Bytes, guests: &mut [Guest]) {
        let room = self.swap.minus(self.swapped);
        let mut wanted = self.overrun(guests).min(*budget).min(room);
        let levels: [fn(&Guest) -> Bytes; 2] =
            [|g| g.memory.cold().minus(g.memory.host_swapped), |g| g.memory.resident()];
        for level in levels {
            let all: Bytes = guests.iter().map(level).sum();
            let goes = wanted.min(all);
            for guest in guests.iter_mut() {
                let part = goes.scaled(level(guest).get(), all.get().max(1));
                guest.memory.host_swapped = guest.memory.host_swapped.plus(part);
            }
            wanted = wanted.minus(goes);
            *budget = budget.minus(goes);
            self.swap_out = self.swap_out.plus(goes);
        }
        self.count_swapped(guests);
    }

    /// What guests need of it comes back; without room something else of theirs goes for it.
    fn swap_in(&mut self, budget: &mut Bytes, guests: &mut [Guest]) {
        let needed = |g: &Guest| g.memory.host_swapped.minus(g.memory.cold());
        let all: Bytes = guests.iter().map(needed).sum();
        let room = self.available(guests).minus(self.memory.share(LIVELOCK));
        let back = all.min(*budget);
        for guest in guests.iter_mut() {
            let part = back.scaled(needed(guest).get(), all.get().max(1));
            guest.host_reads(part);
            let stays = part.scaled(room.min(back).get(), back.get().max(1));
            guest.memory.host_swapped = guest.memory.host_swapped.minus(stays);
        }
        *budget = budget.minus(back);
        self.swap_in = self.swap_in.plus(back);
        self.swap_out = self.swap_out.plus(back.minus(room));
        self.count_swapped(guests);
    }

    fn count_swapped(&mut self, guests: &[Guest]) {
        self.swapped = guests.iter().map(|guest| guest.memory.host_swapped).sum();
    }

    fn notice_stalls(&mut self, stalls: bool, time: Duration) {
        let (part, of) = (millis(time), millis(AVG10));
        let now = if stalls { 10_000_u64 } else { 0 };
        let kept = self.stalls.saturating_mul(of.saturating_sub(part));
        self.stalls = kept.saturating_add(now.saturating_mul(part)) / of.max(1);
    }

    /// Whom its kernel kills: the largest, and those more that the kubelet asks to be spared less (`oom_badness`,
    /// `mm/oom_kill.c`).
    fn worst(&self, guests: &[Guest]) -> Option<usize> {
        let badness = |g: &Guest| {
            g.resident()
                .plus(g.memory.host_swapped)
                .plus(self.memory.scaled(g.oom_score_adj(self.memory), 1000))
        };
        let here = guests.iter().enumerate().filter(|(_, guest)| guest.is_here());
        here.max_by_key(|(_, guest)| badness(guest)).map(|(index, _)| index)
    }

    /// Whom the kubelet evicts below its line: those above their request first, then by how much
    /// (`rankMemoryPressure`, pkg/kubelet/eviction/helpers.go).
    fn keep_house(&mut self, now: Duration, guests: &[Guest]) -> Option<usize> {
        if now < self.next_housekeeping || self.eviction.is_zero() {
            return None;
        }
        self.next_housekeeping = now.saturating_add(HOUSEKEEPING);
        let crossed = self.available(guests) < self.eviction;
        let here = guests.iter().enumerate().filter(|(_, guest)| crossed && guest.is_here());
        here.max_by_key(|(_, guest)| guest.over_request()).map(|(index, _)| index)
    }

    /// What `/proc` shows.
    pub(crate) fn sample(&self, guests: &[Guest]) -> HostSample {
        let available = self.available(guests);
        let memory = HostMemory {
            total: self.memory,
            free: available,
            available,
            anon: guests.iter().map(Guest::charged).sum::<Bytes>().plus(self.others),
            slab_unreclaimable: self.kernel(),
            hugetlb: self.huge_pages,
            swap_total: self.swap,
            swap_free: self.swap.minus(self.swapped),
            ..HostMemory::default()
        };
        let counters = HostCounters {
            swap_in_pages: self.swap_in.get() / PAGE,
            swap_out_pages: self.swap_out.get() / PAGE,
            major_faults: 0,
            oom_kills: Some(self.kills),
        };
        let full_avg10 = u32::try_from(self.stalls).unwrap_or(u32::MAX);
        let pressure = Some(Pressure { some_avg10: full_avg10, full_avg10 });
        HostSample { memory, counters, pressure, ksm: Some(self.ksmd.sample()), ..HostSample::default() }
    }
}
