//! Whether a scan is worth what it takes: what it saved since some moment, held against its CPU time.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::need::Need;
use super::reason::Reason;
use crate::sample::GuestSample;
use crate::units::{Bytes, Monotonic, Permille};

/// The least with which it is worth running: below that a pass over a large node takes days.
const LEAST: Permille = Permille::new(10);
/// What a CPU is worth: a node has about 4 GiB for each (general-purpose machine types of the large clouds). So a second of CPU time
/// has to save as much for a second, or a part of it for as much longer.
const WORTH: Bytes = Bytes::new(4 << 30);
/// What is merged is taken to stay merged for so long, until it is seen for how long it does.
pub(super) const STAYS: Duration = Duration::from_mins(10);
/// Where memory is short a byte is worth so much more: as if it stayed merged for an hour.
const PRESSED: u32 = 6;

/// After it began, ksmd notes what each page holds, and merges nothing but what equals a page that is merged already; only
/// when it comes by again does it merge what has not changed (mm/ksm.c, `cmp_and_merge_page`). So it is judged from the moment
/// on from which it comes by for the second time. It has come by everywhere once it was at the end of memory so often: the
/// first end may be near.
const ENDS_TO_NOTE: u64 = 2;
/// Memory is looked at in pages of this size.
const PAGE: u64 = 4096;
/// A pass over much memory takes hours: after this part of it what it saved is judged by what can have been found by then.
const EARLIEST: Permille = Permille::new(125);
/// But no sooner than it has come by so many guests of like size: of what two have in common, nothing is found in one.
const GUESTS: u64 = 3;
/// And the time that takes at least, for every judgement.
const WINDOW: Duration = Duration::from_secs(10);
/// What pays twice is gone on with faster after this time, whether the pass is over or not.
const EARLY: Duration = Duration::from_secs(4);

/// The counters at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Mark {
    pub(super) at: Monotonic,
    /// ksmd's CPU time.
    pub(super) cpu: Duration,
    /// What is merged, less what the kernel needs to remember pages.
    pub(super) saved: i64,
    /// What is merged.
    pub(super) sharing: i64,
    pub(super) scans: u64,
}

impl Mark {
    /// What was saved since by merging. That the kernel need not remember pages any more that guests gave up is no merit of a scan.
    fn gained(&self, now: &Self) -> Bytes {
        let gained = now.saved.saturating_sub(self.saved).min(now.sharing.saturating_sub(self.sharing));
        Bytes::new(u64::try_from(gained).unwrap_or(0))
    }
}

/// A scan under way. What another version of the agent has not written down of it begins anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Scan {
    /// Of one CPU.
    pub(super) share: Permille,
    pub(super) since: Mark,
    /// When it began, or paid last.
    pub(super) begun: Mark,
    /// It comes by everywhere for the first time, so far, since so many passes were over.
    pub(super) noting: bool,
    pub(super) since_start: u64,
    /// How many pages it has come by since.
    pub(super) seen: u64,
    pub(super) need: Need,
    pub(super) told: Reason,
}

/// What there is to come by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Course {
    /// In pages; 0 while nobody knows.
    pages: u64,
    guests: u64,
}

impl Course {
    pub(super) fn of(guests: &[GuestSample]) -> Self {
        let resident: Bytes = guests.iter().filter_map(|guest| guest.facts.resident).sum();
        Self { pages: resident.get() / PAGE, guests: u64::try_from(guests.len()).unwrap_or(u64::MAX) }
    }

    /// How much of it these are, in thousandths.
    fn part(self, seen: u64) -> Permille {
        let part = seen.saturating_mul(1000).checked_div(self.pages).unwrap_or_default();
        Permille::new(u32::try_from(part.min(1000)).unwrap_or(1000))
    }

    /// The part of it after which something can be said.
    fn earliest(self) -> Permille {
        let guests = (GUESTS * 1000).checked_div(self.guests).unwrap_or(1000);
        EARLIEST.max(Permille::new(u32::try_from(guests.min(1000)).unwrap_or(1000)))
    }
}

/// What comes of it.
pub(super) enum Verdict {
    Wait,
    Go(Change, Bytes),
    Rest(Reason),
}

/// By how much its share of a CPU changes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Change {
    Halve,
    Keep,
    Double,
}

impl Change {
    pub(super) fn of(self, share: Permille, top: Permille) -> Permille {
        let share = match self {
            Self::Double => share.get().saturating_mul(2),
            Self::Keep => share.get(),
            Self::Halve => share.get() / 2,
        };
        Permille::new(share.min(top.get()))
    }
}

impl Scan {
    /// It has come by everywhere since it began, and at the end of memory at least once, for there may be more than guests.
    pub(super) fn has_noted(&self, now: &Mark, course: Course) -> bool {
        let ends = now.scans.saturating_sub(self.since_start);
        ends >= ENDS_TO_NOTE || (ends >= 1 && course.pages > 0 && self.seen >= course.pages)
    }

    /// What it saved since `since`, and what that has to be for what it took.
    fn account(&self, now: &Mark, price: Bytes) -> (Bytes, Bytes) {
        let costs = of_time(price, now.cpu.saturating_sub(self.since.cpu));
        (self.since.gained(now), costs)
    }

    /// What it saved for each second of CPU time since it paid last.
    pub(super) fn earned(&self, now: &Mark) -> Bytes {
        per_second(self.begun.gained(now), now.cpu.saturating_sub(self.begun.cpu))
    }

    /// That was worth it.
    pub(super) fn paid(&self, now: &Mark, price: Bytes) -> bool {
        let (gained, costs) = self.account(now, price);
        gained >= costs && !gained.is_zero()
    }

    /// It has come by everywhere since `since`.
    fn is_over(&self, now: &Mark, course: Course) -> bool {
        now.scans > self.since.scans || (course.pages > 0 && self.seen >= course.pages)
    }
}

/// What a second of CPU time has to save, of what stays merged for so long.
pub(super) fn price(stays: Duration, need: Need) -> Bytes {
    let stays = stays.saturating_mul(if need == Need::Pressed { PRESSED } else { 1 });
    WORTH.scaled(1000, millis(stays).max(1000))
}

/// What a scan saved since `scan.since`, held against what it took. Part of a pass finds only that part of what its pages
/// have in common with others', for those have to have been come by, too.
pub(super) fn judge(scan: &Scan, now: &Mark, course: Course, profit: Option<i64>, price: Bytes) -> Verdict {
    let elapsed = now.at.since(scan.since.at);
    let over = !scan.noting && scan.is_over(now, course) && elapsed >= WINDOW;
    let (gained, costs) = scan.account(now, price);
    let per_cpu = per_second(gained, now.cpu.saturating_sub(scan.since.cpu));
    let twice = gained >= costs.plus(costs) && !gained.is_zero();
    if over && profit.is_some_and(|profit| profit <= 0) {
        return Verdict::Rest(Reason::DoesNotPay);
    }
    let part = course.part(scan.seen);
    let partly = !over && !scan.noting && elapsed >= WINDOW && part >= course.earliest();
    if partly && (gained.is_zero() || gained < costs.share(part).share(Permille::new(250))) {
        return Verdict::Rest(Reason::Exhausted { per_cpu });
    }
    match over {
        // Slower finds as much for less only where guests keep on making equal pages; what saves nothing is over.
        true if gained < costs.share(Permille::new(250)) || gained.is_zero() => {
            Verdict::Rest(Reason::Exhausted { per_cpu })
        }
        true if gained < costs && scan.share.get() / 2 < LEAST.get() => {
            Verdict::Rest(Reason::Exhausted { per_cpu })
        }
        true if gained < costs => Verdict::Go(Change::Halve, per_cpu),
        true if twice => Verdict::Go(Change::Double, per_cpu),
        true => Verdict::Go(Change::Keep, per_cpu),
        false if twice && elapsed >= EARLY => Verdict::Go(Change::Double, per_cpu),
        false => Verdict::Wait,
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// `per_second` for that time.
fn of_time(per_second: Bytes, time: Duration) -> Bytes {
    per_second.scaled(millis(time), 1000)
}

/// The same for each second of `time`; of less than one tick, as if it were one.
fn per_second(saved: Bytes, time: Duration) -> Bytes {
    saved.scaled(1000, millis(time).max(10))
}
