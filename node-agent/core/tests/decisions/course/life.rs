//! What was seen of each guest over time, and what its words are worth now.

use std::collections::BTreeMap;
use std::time::Duration;

use overcommit_core::sample::{Balloon, GuestId, GuestSample, Incarnation};
use overcommit_core::units::{Bytes, Monotonic};

use super::oracle::observing;
use super::pain;
use super::plant::Moment;

/// The most memory that any machine can address: 52 bits on x86-64 and on arm64.
const ADDRESSABLE: u64 = 1 << 52;

/// What was seen of each guest over time.
#[derive(Default)]
pub struct Memory {
    lives: BTreeMap<GuestId, Life>,
}

/// One process of one guest.
#[derive(Clone)]
pub struct Life {
    process: Option<Incarnation>,
    /// What was read last, with what was read before where this time nothing was.
    pub(super) known: GuestSample,
    stamp: Option<u64>,
    /// When that stamp came; absent before the first.
    stamped: Option<Monotonic>,
    rebooted: Option<Monotonic>,
    /// When its statistics came last, as far as that is known, and when they last said that it hurts.
    spoke: Option<Monotonic>,
    felt: Option<Monotonic>,
    /// It has said how much memory it has since it was first seen or rebooted.
    told_total: bool,
    /// Its total was seen to shrink with its balloon; since it rebooted it has, or that cannot be told.
    shrinks: bool,
    is_up: bool,
    first_seen: Monotonic,
    pub(super) counters: Option<Balloon>,
    /// When the host's kernel showed its process last.
    shown: Option<Monotonic>,
}

impl Memory {
    /// Takes a turn in; to be called first in every check that asks.
    pub fn observe(&mut self, moment: &Moment<'_>) {
        let sample = moment.sample;
        self.lives.retain(|id, _| sample.guests.iter().any(|g| g.id == *id));
        for guest in &sample.guests {
            let known = |l: &Life| l.process.zip(guest.incarnation);
            let same = |l: &Life| known(l).is_none_or(|(before, now)| before == now);
            let old = self.lives.remove(&guest.id).filter(same);
            let mut life = old.unwrap_or(Life {
                process: guest.incarnation,
                known: guest.clone(),
                stamp: None,
                stamped: None,
                rebooted: None,
                spoke: None,
                felt: None,
                told_total: false,
                shrinks: false,
                is_up: false,
                first_seen: sample.at,
                counters: None,
                shown: None,
            });
            life.observe(guest, moment);
            self.lives.insert(guest.id.clone(), life);
        }
    }

    pub fn life(&self, id: &GuestId) -> &Life {
        &self.lives[id]
    }

    pub fn known(&self, id: &GuestId) -> &GuestSample {
        &self.lives[id].known
    }
}

impl Life {
    fn observe(&mut self, guest: &GuestSample, moment: &Moment<'_>) {
        self.process = self.process.or(guest.incarnation);
        self.known = held_on(&self.known, guest);
        if let Some(age) = guest.facts_age.filter(|_| guest.incarnation.is_some()) {
            let at = moment.sample.at.since_origin();
            self.shown = Some(Monotonic::new(at.saturating_sub(age)));
        }
        let Some(balloon) = guest.balloon else { return };
        let (at, wall) = (moment.sample.at, moment.sample.wall);
        let first = self.counters.is_none();
        let old = self.counters.replace(balloon).unwrap_or_default();
        if ran_backwards(&old, &balloon) {
            self.rebooted = Some(at);
            (self.stamped, self.spoke, self.felt) = (None, None, None);
            (self.told_total, self.is_up) = (false, false);
        }
        let new = balloon.last_update.filter(|s| *s > 0 && Some(*s) != self.stamp);
        let Some(stamp) = new else { return };
        self.feel(&old, &balloon, stamp, moment);
        self.told_total |= balloon.available.is_some();
        let age = if first { wall.saturating_sub(Duration::from_secs(stamp)) } else { Duration::ZERO };
        self.stamped = Some(Monotonic::new(at.since_origin().saturating_sub(age)));
    }

    /// Takes in what new statistics say of pain; the first of a process are compared with nothing.
    fn feel(&mut self, old: &Balloon, new: &Balloon, stamp: u64, moment: &Moment<'_>) {
        let (at, wall) = (moment.sample.at, moment.sample.wall);
        let headroom = moment.policy.adaptive.headroom;
        match self.stamp.replace(stamp) {
            None => {
                let known = wall.saturating_add(Duration::from_secs(2)) >= Duration::from_secs(stamp);
                let age = wall.saturating_sub(Duration::from_secs(stamp));
                self.spoke = known.then(|| Monotonic::new(at.since_origin().saturating_sub(age)));
            }
            Some(before) => {
                let passed = pain::between(self.spoke, (before, stamp), at);
                self.spoke = Some(at);
                let within = new.available.is_some_and(|total| total <= new.actual);
                let plain = self.known.config.plugged.is_zero() && !observing(moment);
                self.shrinks |= plain && within && new.actual < self.known.config.full;
                self.is_up |= within || !plain;
                if pain::hurts(old, new, passed, headroom) {
                    self.felt = Some(at);
                }
            }
        }
        // A shadow balloon's guest says what a shadow says.
        self.felt = self.felt.filter(|_| !observing(moment));
    }

    /// It said a moment ago that it hurts.
    pub fn hurts(&self, now: Monotonic) -> bool {
        self.felt.is_some_and(|felt| now.since(felt) <= pain::LASTS)
    }

    /// It rebooted and has not reported since, or not how much memory it has, or more than its balloon leaves it although that
    /// counts there: it may touch everything.
    pub fn awaited(&self) -> bool {
        let has_all = self.shrinks && !self.is_up;
        self.rebooted.is_some() && (self.stamped.is_none() || !self.told_total || has_all)
    }

    /// It rebooted, and whether its balloon is up again cannot be told: it says that it has more than that leaves, or what
    /// of it is plugged memory that came back is not known.
    pub fn is_blurred(&self) -> bool {
        let more = self.counters.is_some_and(|b| b.available.is_some_and(|total| total > b.actual));
        self.rebooted.is_some() && (more || !self.known.config.plugged.is_zero())
    }

    /// Its process was first seen, or its kernel came anew, in this turn.
    pub fn is_new(&self, moment: &Moment<'_>) -> bool {
        let now = moment.sample.at;
        self.first_seen == now || self.rebooted == Some(now)
    }

    /// The guest as far as it was ever shown: a reading that failed unsays nothing.
    pub fn known(&self) -> &GuestSample {
        &self.known
    }

    /// How old is what is known of what its processes hold; absent while nothing is.
    pub fn facts_age(&self, now: Monotonic) -> Option<Duration> {
        self.known.facts.anon?;
        Some(self.shown.map_or(Duration::MAX, |shown| now.since(shown)))
    }

    /// Its processes were not shown for three control periods.
    pub(super) fn is_out_of_sight(&self, moment: &Moment<'_>) -> bool {
        let patience = moment.policy.interval.saturating_mul(3).max(Duration::from_secs(10));
        self.shown.is_some_and(|shown| moment.sample.at.since(shown) > patience)
    }

    /// The stamp of the statistics that were seen last.
    pub fn stamp(&self) -> Option<u64> {
        self.stamp
    }

    /// Its present life is younger than half a minute.
    pub fn boots(&self, guest: &GuestSample, now: Monotonic) -> bool {
        let started = match guest.incarnation.or(self.process) {
            Some(process) => Monotonic::new(Duration::from_millis(process.start_ticks.saturating_mul(10))),
            None => self.first_seen,
        };
        now.since(self.rebooted.unwrap_or(started)) < Duration::from_secs(30)
    }

    /// Statistics that may be acted on now: total and usable, of this turn's reading.
    pub fn statistics(&self, guest: &GuestSample, now: Monotonic) -> Option<(Bytes, Bytes)> {
        self.words(now).filter(|_| guest.balloon.is_some())
    }

    /// What it said last, while that is possible and not too old: a reading that failed makes it neither.
    pub fn words(&self, now: Monotonic) -> Option<(Bytes, Bytes)> {
        let balloon = self.counters?;
        let (total, unused) = (balloon.available?, balloon.unused?);
        let usable = balloon.usable.unwrap_or(unused);
        let possible = !total.is_zero() && unused <= total && usable <= total && total.get() <= ADDRESSABLE;
        let period = balloon.period.filter(|p| *p > 0).unwrap_or(10);
        let patience = Duration::from_secs((u64::from(period) * 3 + 2).clamp(10, 120));
        let fresh = now.since(self.stamped?) <= patience && balloon.last_update.is_some_and(|s| s > 0);
        (possible && fresh).then_some((total, usable))
    }
}

/// `now`, with what it does not say as it was `before`.
fn held_on(before: &GuestSample, now: &GuestSample) -> GuestSample {
    let mut known = now.clone();
    let (old, new) = (&before.facts, &now.facts);
    known.facts.resident = new.resident.or(old.resident);
    known.facts.anon = new.anon.or(old.anon);
    known.facts.repeated = if new.anon.is_some() { new.repeated } else { old.repeated };
    known.facts.merging = if new.anon.is_some() { new.merging } else { old.merging };
    known.facts.overhead = new.overhead.or(old.overhead);
    known.facts.request = new.request.or(old.request);
    known.facts.limit = new.limit.or(old.limit);
    known.facts.swappable = new.swappable.or(old.swappable);
    known.facts.swapped = new.swapped.or(old.swapped);
    known.facts.bound = if new.anon.is_some() { new.bound } else { old.bound };
    if now.incarnation.is_none() {
        known.incarnation = before.incarnation;
        known.config.untouchable.extend(&before.config.untouchable);
    }
    known
}

fn ran_backwards(old: &Balloon, new: &Balloon) -> bool {
    let less = |o: Option<u64>, n: Option<u64>| o.zip(n).is_some_and(|(o, n)| n < o);
    less(old.minor_faults, new.minor_faults)
        || less(old.major_faults, new.major_faults)
        || less(old.swap_in.map(Bytes::get), new.swap_in.map(Bytes::get))
}
