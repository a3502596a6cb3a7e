//! How fast ksmd scans, and when it rests: what it saves is held against the CPU time that it takes.
//!
//! Stopping costs nothing that is merged: pages stay merged until their guests write them. So a scan is worth only what it
//! adds, and ksmd rests whenever that is too little, and looks again later.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::judge::{Change, Course, Mark, STAYS, Scan, Verdict, judge, price};
use super::knobs::{Advisor, Knobs};
use super::need::Need;
use super::reason::Reason;
use crate::sample::{GuestId, GuestSample, Ksm};
use crate::units::{Bytes, Monotonic, Permille};

/// The most of one CPU that ksmd may take while memory is not short. The kernel's advisor would take 70 % (`advisor_max_cpu`),
/// ksmtuned knows no bound.
pub const CEILING_WANTED: Permille = Permille::new(200);
/// The same while it is.
pub const CEILING_PRESSED: Permille = Permille::new(500);
/// ksmd sleeps so long between two batches, the kernel's default; the batch is what is controlled.
const SLEEP: Duration = Duration::from_millis(20);
/// What looking at a page costs until it was measured; more than was ever seen, so that nothing begins too fast.
const ASSUMED_COST: u64 = 10_000;
/// What is measured lies between these, or is no cost of a page, in nanoseconds.
const COSTS: std::ops::RangeInclusive<u64> = 100..=1_000_000;
/// Never more pages between two sleeps: a batch holds the lock that a write to `run` waits for.
const PAGES: std::ops::RangeInclusive<u64> = 10..=30_000;
/// CPU time is counted in ticks of 10 ms: a shorter stretch says nothing.
const MEASURABLE: Duration = Duration::from_secs(2);

/// The first rest, unless the scan before it took longer; each further one is twice as long.
const REST: Duration = Duration::from_mins(1);
/// The longest, but where this would be too little: what finds nothing may take one of so many parts of a CPU.
const REST_MOST: Duration = Duration::from_hours(1);
const PARTS_FOR_NOTHING: u32 = 100;
/// What is left of what was merged as long as it has not come apart.
const MOST: Permille = Permille::new(875);
/// What stayed merged for so long, half of what is taken for it, and comes apart may be merged anew.
const WORTH_A_LOOK: Duration = Duration::from_mins(5);
/// New guests end a rest that has lasted so long.
const REST_LEAST: Duration = Duration::from_secs(30);

/// How fast to scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pace {
    pages: u64,
}

impl Pace {
    /// The knobs for it; a difference of a tenth is not worth a write.
    pub(super) fn knobs(self, now: &Knobs) -> Knobs {
        let near = now.pages_to_scan.abs_diff(self.pages) <= now.pages_to_scan / 10;
        let pages_to_scan = if near && now.advisor == Advisor::None { now.pages_to_scan } else { self.pages };
        let sleep_millisecs = u64::try_from(SLEEP.as_millis()).unwrap_or(u64::MAX);
        Knobs { run: 1, pages_to_scan, sleep_millisecs, advisor: Advisor::None }
    }
}

/// A rest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Rest {
    since: Monotonic,
    lasts: Duration,
    need: Need,
    guests: BTreeSet<GuestId>,
    why: Reason,
}

/// What became of the most that was merged lately. A ksmd that is stopped does not notice all of it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Kept {
    /// Since when most of it was.
    since: Monotonic,
    merged: Bytes,
    /// The least of it that was left, and when.
    least: Bytes,
    at: Monotonic,
}

impl Kept {
    fn of(merged: Bytes, at: Monotonic) -> Self {
        Self { since: at, merged, least: merged, at }
    }

    /// With what is merged now.
    fn seen(self, sharing: Bytes, at: Monotonic) -> Self {
        match () {
            () if sharing > self.merged => {
                let since = if self.merged < sharing.share(MOST) { at } else { self.since };
                Self { since, ..Self::of(sharing, at) }
            }
            () if sharing < self.least => Self { least: sharing, at, ..self },
            () => self,
        }
    }

    /// An eighth of it has come apart.
    fn has_come_apart(self) -> bool {
        self.least < self.merged.share(MOST)
    }

    /// For how long it stays merged, if it comes apart as evenly as it did; no longer than what is taken for it anyway. Where it did
    /// not come apart it may stay twice as long as was `known`.
    fn stays(self, known: Option<Duration>) -> Duration {
        if !self.has_come_apart() {
            return known.unwrap_or(STAYS).saturating_mul(2).min(STAYS);
        }
        let (age, gone) = (self.at.since(self.since), self.merged.minus(self.least));
        let millis = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(Bytes::new(millis).scaled(self.merged.get(), gone.get()).get()).min(STAYS)
    }
}

/// The control, from turn to turn.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Control {
    scan: Option<Scan>,
    rest: Option<Rest>,
    /// How long the next rest is.
    next_rest: Option<Duration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kept: Option<Kept>,
    /// For how long what was merged stayed so.
    #[serde(skip_serializing_if = "Option::is_none")]
    stays: Option<Duration>,
    /// The last measurement: when, ksmd's CPU time then, and its knobs.
    meter: Option<(Monotonic, Option<Duration>, Option<Knobs>)>,
    share: Option<Permille>,
    /// What looking at a page costs, in nanoseconds.
    cost: Option<u64>,
    /// ksmd's CPU time so far, on one clock: what was read, and what is supposed for as long as nothing could be.
    #[serde(alias = "supposed")]
    counted: Duration,
    /// What was read last, and what that clock was then.
    #[serde(skip_serializing_if = "Option::is_none")]
    read: Option<(Duration, Duration)>,
}

impl Control {
    /// ksmd's share of one CPU, as measured last.
    pub(super) fn share(&self) -> Option<Permille> {
        self.share
    }

    /// How long it rests; absent while it does not.
    #[cfg(test)]
    pub(super) fn rests_for(&self) -> Option<Duration> {
        self.rest.as_ref().map(|rest| rest.lasts)
    }

    /// ksmd must not scan: what was measured of this scan says nothing of the next.
    pub(super) fn stop(&mut self) {
        self.scan = None;
    }

    /// Takes in what is merged now.
    fn look(&mut self, ksm: &Ksm, at: Monotonic) {
        self.kept = Some(self.kept.map_or(Kept::of(ksm.sharing, at), |kept| kept.seen(ksm.sharing, at)));
    }

    /// ksmd has come by everywhere: what has come apart by now was noticed. From here on what is merged now counts, if any has.
    fn learn_stays(&mut self, ksm: &Ksm, at: Monotonic) {
        let Some(kept) = self.kept.filter(|kept| !kept.merged.is_zero()) else { return };
        self.stays = Some(kept.stays(self.stays));
        if kept.has_come_apart() {
            self.kept = Some(Kept::of(ksm.sharing, at));
        }
    }

    /// What a second of CPU time has to save.
    fn price(&self, need: Need) -> Bytes {
        price(self.stays.unwrap_or(STAYS), need)
    }

    /// Nothing is needed of it for now. What it took and has not paid for by then was for nothing, or a need that comes and goes would
    /// have it note what pages hold again and again.
    pub(super) fn give_up(&mut self, ksm: &Ksm, at: Monotonic, guests: &[GuestSample]) {
        self.look(ksm, at);
        let Some(scan) = self.scan.take() else { return };
        if matches!(scan.told, Reason::Measuring | Reason::Slower { .. }) {
            let now = self.mark(ksm, at);
            self.rest(&scan, now, guests, Reason::Exhausted { per_cpu: scan.earned(&now) });
        }
    }

    /// Takes in what ksmd did since the last turn.
    pub(super) fn measure(&mut self, ksm: &Ksm, at: Monotonic) {
        let Some(cpu) = ksm.cpu else {
            let since = self.meter.map_or(Duration::ZERO, |(then, ..)| at.since(then));
            let share = self.scan.map_or(Permille::new(0), |scan| scan.share);
            let busy = part(since, share);
            self.counted = self.counted.saturating_add(busy);
            self.come_by(busy);
            (self.meter, self.share) = (Some((at, None, None)), None);
            return;
        };
        // What was supposed meanwhile gives way to what it was.
        let at_last =
            self.read.map_or(self.counted, |(before, then)| then.saturating_add(cpu.saturating_sub(before)));
        self.counted = at_last;
        self.read = Some((cpu, at_last));
        let Some((then, Some(before), knobs)) = self.meter else {
            self.meter = Some((at, Some(cpu), ksm.knobs));
            return;
        };
        let (elapsed, busy) = (at.since(then), cpu.saturating_sub(before));
        if elapsed < MEASURABLE {
            return;
        }
        self.meter = Some((at, Some(cpu), ksm.knobs));
        self.share = Some(share_of(busy, elapsed));
        let steady = knobs.filter(|knobs| ksm.knobs == Some(*knobs) && knobs.run == 1);
        if let Some(measured) = steady.and_then(|knobs| cost(busy, elapsed, &knobs)) {
            // Rises count at once, for they lead beyond the ceiling.
            let known = self.cost.unwrap_or(measured);
            self.cost = Some(measured.max(known.midpoint(measured)));
        }
        self.come_by(busy);
    }

    /// What it comes by in that time, by what a page costs.
    fn come_by(&mut self, busy: Duration) {
        let cost = u128::from(self.cost.unwrap_or(ASSUMED_COST));
        let pages = busy.as_nanos().checked_div(cost).and_then(|pages| u64::try_from(pages).ok());
        if let Some(scan) = &mut self.scan {
            scan.seen = scan.seen.saturating_add(pages.unwrap_or_default());
        }
    }

    /// How fast to scan now, if at all, and why.
    pub(super) fn next(
        &mut self,
        ksm: &Ksm,
        at: Monotonic,
        need: Need,
        guests: &[GuestSample],
    ) -> (Option<Pace>, Reason) {
        self.look(ksm, at);
        if let Some(rest) = &self.rest {
            if !rest.is_over(self.kept, at, need, guests) {
                return (None, rest.why);
            }
            self.rest = None;
        }
        let now = self.mark(ksm, at);
        let top = ceiling(need);
        let course = Course::of(guests);
        let Some(mut scan) = self.scan else {
            return (Some(self.begin(now, need)), Reason::Measuring);
        };
        if scan.noting && scan.has_noted(&now, course) {
            self.learn_stays(ksm, at);
            // What equals a page that was merged before a rest is merged meanwhile.
            if scan.paid(&now, self.price(need)) {
                (self.next_rest, scan.begun) = (None, now);
            }
            scan = Scan { since: now, noting: false, seen: 0, ..scan };
        }
        // What it takes while it notes does not depend on how fast it does; and a need that rises has another price.
        if scan.noting || need > scan.need {
            scan.share = top;
        }
        scan.need = need;
        let share = scan.share.min(top);
        match judge(&scan, &now, course, ksm.profit, self.price(need)) {
            Verdict::Wait => {
                self.scan = Some(Scan { share, ..scan });
                (Some(self.pace(share)), scan.told)
            }
            Verdict::Rest(why) => {
                self.rest(&scan, now, guests, why);
                (None, why)
            }
            Verdict::Go(change, per_cpu) => {
                // By a cost that is only assumed nobody goes faster, where it can be measured.
                let known = self.cost.is_some() || ksm.cpu.is_none();
                let change = if known { change } else { change.min(Change::Keep) };
                let share = change.of(share, top);
                let told = match change {
                    Change::Halve => Reason::Slower { per_cpu },
                    _ if share >= top => Reason::AtCeiling { per_cpu },
                    _ => Reason::Pays { per_cpu },
                };
                let mut begun = scan.begun;
                if change != Change::Halve {
                    (self.next_rest, begun) = (None, now);
                }
                // What it comes by for the first time goes on.
                let seen = if scan.noting { scan.seen } else { 0 };
                self.scan = Some(Scan { share, since: now, begun, seen, told, ..scan });
                (Some(self.pace(share)), told)
            }
        }
    }

    /// The scan is over.
    fn rest(&mut self, scan: &Scan, now: Mark, guests: &[GuestSample], why: Reason) {
        self.scan = None;
        let (took, spent) = (now.at.since(scan.begun.at), now.cpu.saturating_sub(scan.begun.cpu));
        let lasts = self.next_rest.unwrap_or(REST.max(took));
        let most = REST_MOST.max(spent.saturating_mul(PARTS_FOR_NOTHING));
        self.next_rest = Some(lasts.saturating_mul(2).min(most));
        let guests = guests.iter().map(|guest| guest.id.clone()).collect();
        self.rest = Some(Rest { since: now.at, lasts, need: scan.need, guests, why });
    }

    fn begin(&mut self, now: Mark, need: Need) -> Pace {
        // What a page cost before a rest may be long ago, of other guests.
        self.cost = None;
        // How fast does not change what it costs until something can be said.
        let share = ceiling(need);
        self.scan = Some(Scan {
            share,
            since: now,
            begun: now,
            noting: true,
            since_start: now.scans,
            seen: 0,
            need,
            told: Reason::Measuring,
        });
        self.pace(share)
    }

    fn mark(&self, ksm: &Ksm, at: Monotonic) -> Mark {
        let sharing = i64::try_from(ksm.sharing.get()).unwrap_or(i64::MAX);
        let saved = ksm.profit.unwrap_or(sharing);
        Mark { at, cpu: self.counted, saved, sharing, scans: ksm.full_scans }
    }

    /// A batch of n pages and a sleep take n·cost of n·cost + sleep.
    fn pace(&self, share: Permille) -> Pace {
        // By a cost that is only assumed it takes half of what it may.
        let share = if self.cost.is_none() { share.get() / 2 } else { share.get() };
        let share = u64::from(share).min(999);
        let sleep = u64::try_from(SLEEP.as_nanos()).unwrap_or(u64::MAX);
        let batch = sleep.saturating_mul(share).checked_div(1000_u64.saturating_sub(share));
        let pages = batch.and_then(|batch| batch.checked_div(self.cost.unwrap_or(ASSUMED_COST).max(1)));
        Pace { pages: pages.unwrap_or_default().clamp(*PAGES.start(), *PAGES.end()) }
    }
}

impl Rest {
    /// Its time is over, or what it rests on has changed: memory got short, guests wrote an eighth of what was merged, or
    /// there are new ones. What does not stay merged for half as long as it is taken to is not worth looking for again at once.
    fn is_over(&self, kept: Option<Kept>, at: Monotonic, need: Need, guests: &[GuestSample]) -> bool {
        let age = at.since(self.since);
        age >= self.lasts
            || need > self.need
            || (age >= REST_LEAST
                && (kept.is_some_and(|kept| kept.has_come_apart() && kept.stays(None) >= WORTH_A_LOOK)
                    || guests.iter().any(|guest| !self.guests.contains(&guest.id))))
    }
}

/// The most of one CPU that ksmd may take.
fn ceiling(need: Need) -> Permille {
    if need == Need::Pressed { CEILING_PRESSED } else { CEILING_WANTED }
}

/// What a page costs, if ksmd was busy so long of `elapsed`, in nanoseconds.
fn cost(busy: Duration, elapsed: Duration, knobs: &Knobs) -> Option<u64> {
    // Batches there were, each followed by a sleep: elapsed - busy = batches · sleep.
    let asleep = elapsed.checked_sub(busy)?.as_nanos();
    let sleep = Duration::from_millis(knobs.sleep_millisecs).as_nanos();
    let pages = asleep.checked_div(sleep)?.checked_mul(u128::from(knobs.pages_to_scan))?;
    let cost = u64::try_from(busy.as_nanos().checked_div(pages)?).ok()?;
    COSTS.contains(&cost).then_some(cost)
}

fn share_of(busy: Duration, elapsed: Duration) -> Permille {
    let permille = busy.as_nanos().saturating_mul(1000).checked_div(elapsed.as_nanos()).unwrap_or_default();
    Permille::new(u32::try_from(permille).unwrap_or(u32::MAX))
}

fn part(of: Duration, share: Permille) -> Duration {
    of.saturating_mul(share.get()).checked_div(1000).unwrap_or_default()
}
