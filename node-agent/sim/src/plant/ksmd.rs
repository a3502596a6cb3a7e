//! The kernel's merging of equal pages: ksmd comes by everything that guests hold, notes what each page holds, and merges what
//! equals another one when it comes by again (`cmp_and_merge_page`, mm/ksm.c).
//!
//! Pages are counted and not told apart: of what it comes by of a guest, that part equals others' that the group says. What a
//! guest gives up comes apart at once, where a real ksmd that is stopped does not notice.

use std::sync::Arc;
use std::time::Duration;

use overcommit_core::ksm::{Advisor, Knob, Knobs, Write};
use overcommit_core::sample::Ksm;
use overcommit_core::units::Bytes;

use super::guest::Guest;

const PAGE: u64 = 4096;
/// As a kernel starts (`ksm_thread_pages_to_scan`, `ksm_thread_sleep_millisecs`, mm/ksm.c).
const FOUND: Knobs = Knobs { run: 0, pages_to_scan: 100, sleep_millisecs: 20, advisor: Advisor::None };
/// What it costs to come by a page: three passes over six guests of 256 MiB took 2.8 to 4.8 s of a processor
/// (docs/measurements.md).
const COST: Duration = Duration::from_micros(3);
/// What the kernel remembers of each page that it came by (`struct ksm_rmap_item`, mm/ksm.c).
const ITEM: u64 = 64;

/// The kernel's merging.
#[derive(Clone, Debug)]
pub(super) struct Ksmd {
    knobs: Knobs,
    cpu: Duration,
    scans: u64,
    /// In whose memory it is, and how far.
    at: usize,
    done: Bytes,
    /// What it has come by of that memory since it was there last.
    known: Vec<Known>,
    /// `pages_sharing` and `pages_shared`.
    sharing: Bytes,
    shared: Bytes,
    /// What it remembers pages of.
    items: Bytes,
}

/// What it knows of one guest's memory that equals others'.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    noted: Bytes,
    /// What of that was noted when it was there before.
    ripe: Bytes,
    merged: Bytes,
}

impl Default for Ksmd {
    fn default() -> Self {
        let none = Bytes::ZERO;
        Self {
            knobs: FOUND,
            cpu: Duration::ZERO,
            scans: 0,
            at: 0,
            done: none,
            known: Vec::new(),
            sharing: none,
            shared: none,
            items: none,
        }
    }
}

impl Ksmd {
    pub(super) fn write(&mut self, write: Write) {
        let text = write.text();
        let value = || text.parse().unwrap_or_default();
        match write.knob {
            Knob::Advisor => {
                self.knobs.advisor = if text == "none" { Advisor::None } else { Advisor::ScanTime };
            }
            Knob::PagesToScan => self.knobs.pages_to_scan = value(),
            Knob::SleepMillisecs => self.knobs.sleep_millisecs = value(),
            Knob::Run => self.knobs.run = value(),
        }
    }

    /// What merging leaves the host, less what it takes to remember.
    pub(super) fn saved(&self) -> Bytes {
        self.sharing
    }

    /// What the kernel needs to remember pages.
    pub(super) fn memory(&self) -> Bytes {
        self.items.scaled(ITEM, PAGE)
    }

    /// CPU time that it took.
    pub(crate) fn cpu(&self) -> Duration {
        self.cpu
    }

    /// Time passes.
    pub(super) fn live(&mut self, time: Duration, guests: &mut [Guest]) {
        if self.knobs.run != 1 && self.items.is_zero() {
            return;
        }
        self.known.resize(guests.len(), Known::default());
        if self.knobs.run == 1 {
            let batch = self.batch(time);
            self.scan(batch, guests);
        }
        self.settle(guests);
    }

    /// How much it comes by in that time: batches, and a sleep behind each.
    fn batch(&mut self, time: Duration) -> Bytes {
        let pages = u128::from(self.knobs.pages_to_scan);
        let cycle = pages
            .saturating_mul(COST.as_nanos())
            .saturating_add(Duration::from_millis(self.knobs.sleep_millisecs).as_nanos());
        let pages = pages.saturating_mul(time.as_nanos()).checked_div(cycle).unwrap_or_default();
        let pages = u64::try_from(pages).unwrap_or(u64::MAX);
        let cost = u64::try_from(COST.as_nanos()).unwrap_or(u64::MAX);
        self.cpu = self.cpu.saturating_add(Duration::from_nanos(pages.saturating_mul(cost)));
        Bytes::new(pages.saturating_mul(PAGE))
    }

    fn scan(&mut self, mut left: Bytes, guests: &[Guest]) {
        let all: Bytes = guests.iter().map(held).sum();
        if all < Bytes::new(PAGE) {
            return;
        }
        while !left.is_zero() {
            let Some((guest, known)) = guests.get(self.at).zip(self.known.get_mut(self.at)) else {
                (self.at, self.done) = (0, Bytes::ZERO);
                self.scans = self.scans.saturating_add(1);
                continue;
            };
            if self.done.is_zero() {
                known.ripe = known.noted;
            }
            let whole = held(guest);
            let step = whole.minus(self.done).min(left);
            known.come_by(step, whole, equal(guest));
            (self.done, left) = (self.done.plus(step), left.minus(step));
            self.items = self.items.plus(step).min(all);
            if self.done >= whole {
                (self.at, self.done) = (self.at.saturating_add(1), Bytes::ZERO);
            }
        }
    }

    /// What is merged of each guest; one of each group is charged for the page that stays.
    fn settle(&mut self, guests: &mut [Guest]) {
        (self.sharing, self.shared) = (Bytes::ZERO, Bytes::ZERO);
        for (known, guest) in self.known.iter_mut().zip(guests.iter_mut()) {
            known.keep(equal(guest));
            guest.merged = known.merged;
        }
        let mut begins = 0_usize;
        while let Some(first) = guests.get(begins) {
            let group = Arc::clone(&first.group);
            let of_group =
                guests.iter_mut().skip(begins).take_while(|guest| Arc::ptr_eq(&guest.group, &group));
            let mut most = Bytes::ZERO;
            let mut sum = Bytes::ZERO;
            for guest in of_group {
                // Whoever maps more than those before it is charged for what only it maps.
                guest.charged_elsewhere = guest.merged.min(most);
                most = most.max(guest.merged);
                sum = sum.plus(guest.charged_elsewhere);
                begins = begins.saturating_add(1);
            }
            self.sharing = self.sharing.plus(sum);
            self.shared = self.shared.plus(most);
        }
    }

    /// What `/sys/kernel/mm/ksm` shows.
    pub(super) fn sample(&self) -> Ksm {
        let signed = |bytes: Bytes| i64::try_from(bytes.get()).unwrap_or(i64::MAX);
        Ksm {
            run: u8::try_from(self.knobs.run).unwrap_or_default(),
            sharing: self.sharing,
            shared: self.shared,
            full_scans: self.scans,
            profit: Some(signed(self.sharing).saturating_sub(signed(self.memory()))),
            cpu: Some(self.cpu),
            knobs: Some(self.knobs),
            merge_across_nodes: None,
            pages_unshared: None,
            pages_volatile: None,
        }
    }
}

impl Known {
    /// ksmd comes by so much of all the memory that its guest holds, of which so much equals others'.
    fn come_by(&mut self, step: Bytes, whole: Bytes, equal: Bytes) {
        let part = equal.scaled(step.get(), whole.get().max(1));
        self.merged = self.merged.plus(self.ripe.minus(self.merged).min(part));
        self.noted = self.noted.plus(equal.minus(self.noted).min(part));
    }

    /// No more of it equals others' by now.
    fn keep(&mut self, equal: Bytes) {
        self.noted = self.noted.min(equal);
        self.ripe = self.ripe.min(equal);
        self.merged = self.merged.min(equal);
    }
}

/// What it comes by of a guest.
fn held(guest: &Guest) -> Bytes {
    if guest.is_here() { guest.memory.resident() } else { Bytes::ZERO }
}

fn equal(guest: &Guest) -> Bytes {
    if guest.is_here() { guest.memory.anon.share(guest.group.equal.0) } else { Bytes::ZERO }
}

#[cfg(test)]
mod tests {
    use super::super::Plant;
    use super::*;
    use crate::scenario;

    fn plant() -> Plant {
        let text = "shows: nothing\nlasts: 1h\nhost: {memory: 8Gi}\n\
                    guests: [{name: a, count: 4, size: 1Gi, demand: 400Mi, equal: 50%}]";
        Plant::new(&scenario::read(text.as_bytes()).unwrap())
    }

    fn pass(plant: &mut Plant, seconds: u32) {
        for _ in 0..seconds {
            plant.pass(Duration::from_secs(1));
        }
    }

    fn set(plant: &mut Plant, run: u64, pages_to_scan: u64) {
        plant.host.ksmd.knobs = Knobs { run, pages_to_scan, ..FOUND };
    }

    #[test]
    fn what_equals_others_is_merged_when_it_is_come_by_again_and_one_of_each_stays() {
        let mut plant = plant();
        pass(&mut plant, 10);
        let before = plant.host();
        assert_eq!(before.ksm.unwrap().sharing, Bytes::ZERO, "nobody scans");
        // Once through 1.7 GiB.
        set(&mut plant, 1, 1000);
        pass(&mut plant, 8);
        assert_eq!(plant.host().ksm.unwrap().sharing, Bytes::ZERO, "{:?}", plant.host.ksmd);
        pass(&mut plant, 30);
        let (after, mib) = (plant.host(), Bytes::from_mib);
        let ksm = after.ksm.unwrap();
        // Three of four have 200 MiB less each.
        assert!(ksm.sharing > mib(598) && ksm.sharing <= mib(600), "{ksm:?}");
        assert!(ksm.shared > mib(199) && ksm.full_scans >= 2, "{ksm:?}");
        let gained = after.memory.available.minus(before.memory.available);
        assert!(
            gained < ksm.sharing && gained.plus(mib(40)) > ksm.sharing,
            "{gained}, for it has to remember"
        );
        let share = ksm.cpu.unwrap().as_secs_f64() / 38.0;
        assert!((0.1..0.16).contains(&share), "3 of 23 ms, {share}");
    }

    #[test]
    fn what_is_merged_stays_so_while_it_rests_and_goes_with_its_guest() {
        let mut plant = plant();
        set(&mut plant, 1, 4000);
        pass(&mut plant, 30);
        let merged = plant.host().ksm.unwrap().sharing;
        set(&mut plant, 0, 4000);
        pass(&mut plant, 60);
        assert_eq!(plant.host().ksm.unwrap().sharing, merged);
        let now = plant.time();
        plant.guests[0].is_killed(now);
        pass(&mut plant, 1);
        let left = plant.host().ksm.unwrap().sharing;
        assert!(
            left < merged.minus(Bytes::from_mib(190)) && left > merged.scaled(1, 2),
            "{left} of {merged}"
        );
    }
}
