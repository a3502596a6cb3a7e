//! What must hold, worked out once more from what was read, without the code under test.

use std::collections::BTreeMap;
use std::time::Duration;

use overcommit_core::conduct::Trust;
use overcommit_core::plan::Move;
use overcommit_core::policy::{Class, Mode};
use overcommit_core::reason::Reason;
use overcommit_core::roster::Membership;
use overcommit_core::sample::{
    Balloon, GuestId, GuestSample, HostSample, Incarnation, RunState, Untouchable,
};
use overcommit_core::turns::Place;
use overcommit_core::units::{Bytes, Monotonic};
use overcommit_core::view::GuestView;
use proptest::{prop_assert, prop_assert_ne};

use super::pain;
use super::plant::Moment;
use super::prove::Verdict;

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
    known: GuestSample,
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
    counters: Option<Balloon>,
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
    fn is_out_of_sight(&self, moment: &Moment<'_>) -> bool {
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

/// The guest as it was read.
pub fn guest<'a>(moment: &'a Moment<'_>, id: &GuestId) -> &'a GuestSample {
    moment.sample.guests.iter().find(|g| g.id == *id).unwrap()
}

pub fn view<'a>(moment: &'a Moment<'_>, id: &GuestId) -> &'a GuestView {
    moment.decision.guests.iter().find(|g| g.id == *id).unwrap()
}

pub fn member<'a>(moment: &'a Moment<'_>, guest: &GuestSample) -> Option<&'a Membership> {
    moment.roster.membership(guest)
}

pub fn class<'a>(moment: &'a Moment<'_>, guest: &GuestSample) -> Option<&'a Class> {
    let name = member(moment, guest)?.class.as_ref()?;
    moment.policy.classes.iter().find(|c| c.name == *name)
}

/// Design §6.5: nothing of it may be touched.
pub fn exempt(moment: &Moment<'_>, memory: &Memory, id: &GuestId) -> bool {
    let guest = memory.known(id);
    let listed = member(moment, guest);
    !guest.config.has_balloon
        || !guest.config.untouchable.is_empty()
        || listed.is_none_or(|m| m.opt_out.is_some())
        || class(moment, guest).is_none_or(|c| c.exclude)
}

/// Design §6.5: giving goes on, taking does not; in a cluster not without what the kernel says of its pod, and nowhere
/// while that is too old.
pub fn give_only(moment: &Moment<'_>, life: &Life) -> bool {
    let guest = life.known();
    let shown = guest.incarnation.is_some() && guest.facts.request.is_some();
    (guest.name.namespace.is_some() && !shown)
        || life.is_out_of_sight(moment)
        || guest.run_state != RunState::Running
        || member(moment, guest).is_some_and(|m| m.migrating)
        || guest.config.plugging
        || life.boots(guest, moment.sample.at)
}

pub fn overhead(guest: &GuestSample) -> Bytes {
    guest.facts.overhead.unwrap_or(Bytes::from_mib(192))
}

/// What its cgroup leaves to the guest itself.
pub fn limit(guest: &GuestSample) -> Bytes {
    guest.facts.limit.map_or(Bytes::MAX, |limit| limit.minus(overhead(guest)).minus(guest.config.plugged))
}

/// What a give adds to what its guest may touch: nothing of what its pod's limit keeps it from.
pub fn cost(moment: &Moment<'_>, step: &Move) -> Bytes {
    let track = moment.state.model().track(&step.id).unwrap();
    let guest = &track.sample;
    let beside = overhead(guest).plus(guest.config.plugged);
    step.to.min(guest.facts.bound.unwrap_or(Bytes::MAX).minus(beside)).minus(track.reach())
}

/// The least that a guest keeps by its class and its own words.
pub fn floor(guest: &GuestSample, class: &Class, used: Bytes) -> Bytes {
    let full = guest.config.full;
    let request = guest.facts.request.filter(|_| !class.floor.below_request);
    let part = share(full, u64::from(class.floor.part.get()), 1000);
    let request = request.unwrap_or_default().minus(overhead(guest)).minus(guest.config.plugged);
    part.max(class.floor.bytes).max(request).max(share(used, 10, 9)).min(full)
}

/// What a take must leave it, by the words on which it rests.
pub fn least(moment: &Moment<'_>, memory: &Memory, id: &GuestId) -> Bytes {
    let guest = memory.known(id);
    let class = class(moment, guest).unwrap();
    let (total, usable) = memory.life(id).statistics(guest, moment.sample.at).unwrap_or_default();
    let used = total.minus(usable);
    let (mut least, eighth) = (floor(guest, class, used), share(guest.config.full, 1, 8));
    if view(moment, id).turn == Some(Place::Waits) {
        least = floor(guest, class, Bytes::ZERO).max(eighth.min(least));
    }
    if moment.decision.emergency { least.min(emergency_floor(guest, class, used)) } else { least }
}

/// What a give may bring it to by its cgroup. What ends our hold on a guest gives it what it had, whatever its overhead
/// has grown to since.
pub fn most_given(guest: &GuestSample, step: &Move) -> Bytes {
    let restores = matches!(step.reason, Reason::GiveRelease | Reason::GiveExempt | Reason::Undo(_));
    if restores { Bytes::MAX } else { limit(guest) }
}

/// The least that it keeps while the node is about to kill.
pub fn emergency_floor(guest: &GuestSample, class: &Class, used: Bytes) -> Bytes {
    let full = guest.config.full;
    share(used, 40, 39).max(share(full, 1, 8)).min(floor(guest, class, used))
}

fn share(whole: Bytes, part: u64, of: u64) -> Bytes {
    let wide = u128::from(whole.get()) * u128::from(part) / u128::from(of);
    Bytes::new(u64::try_from(wide).unwrap_or(u64::MAX))
}

/// Invariant 3: what was taken in the running interval, worked out once more.
#[derive(Default)]
pub struct Taken {
    began: Option<Monotonic>,
    guests: BTreeMap<GuestId, Bytes>,
    node: Bytes,
}

impl Taken {
    /// To be called once in each turn, before its takes.
    pub fn turn(&mut self, moment: &Moment<'_>) {
        let emergency = moment.decision.emergency && !moment.decision.observing;
        let regular = moment.policy.interval;
        let interval = if emergency { regular.min(Duration::from_secs(1)) } else { regular };
        if self.began.is_none_or(|began| moment.sample.at.since(began) >= interval) {
            *self = Self { began: Some(moment.sample.at), ..Self::default() };
        }
    }

    /// No more is taken from a guest, nor from the node, than the policy says.
    pub fn take(&mut self, moment: &Moment<'_>, id: &GuestId, full: Bytes, taken: Bytes) -> Verdict {
        let limits = &moment.policy.limits;
        let sum = self.guests.entry(id.clone()).or_default();
        *sum = sum.plus(taken);
        self.node = self.node.plus(taken);
        prop_assert!(*sum <= limits.take_per_guest.of(full), "{id}: {sum} of {full}");
        let most = limits.take_per_node.of(moment.sample.host.memory.total);
        prop_assert!(self.node <= most, "{} of {most}", self.node);
        Ok(())
    }
}

/// Invariant 3 and design §3: on which statistics each guest was taken from last.
#[derive(Default)]
pub struct Rests(BTreeMap<GuestId, Option<u64>>);

impl Rests {
    /// To be called once in each turn, before its takes.
    pub fn turn(&mut self, moment: &Moment<'_>) {
        self.0.retain(|id, _| moment.sample.guests.iter().any(|g| g.id == *id));
    }

    /// No guest is taken from twice on the same statistics.
    pub fn take(&mut self, memory: &Memory, step: &Move) -> Verdict {
        let stamp = memory.life(&step.id).stamp();
        let before = self.0.insert(step.id.clone(), stamp).flatten();
        prop_assert_ne!(before, stamp, "{:?}", step);
        Ok(())
    }
}

/// Everything that was taken is being given back.
pub fn giving_back(moment: &Moment<'_>) -> bool {
    moment.decision.release.is_some()
}

/// What the guests may touch, each at no less than `target`; everything that one has while nothing binds it.
pub fn promised(moment: &Moment<'_>, memory: &Memory, target: impl Fn(&GuestView) -> Bytes) -> Bytes {
    charged(moment, memory, target, |_| false)
}

/// The same, where everything is charged of those, too, of whom it cannot be told whether anything binds them.
pub fn promised_at_most(moment: &Moment<'_>, memory: &Memory, target: impl Fn(&GuestView) -> Bytes) -> Bytes {
    charged(moment, memory, target, Life::is_blurred)
}

fn charged(
    moment: &Moment<'_>,
    memory: &Memory,
    target: impl Fn(&GuestView) -> Bytes,
    doubt: impl Fn(&Life) -> bool,
) -> Bytes {
    let charge = |g: &GuestSample| {
        let (view, life) = (view(moment, &g.id), memory.life(&g.id));
        let silent = life.words(moment.sample.at).is_none();
        let actual = life.counters.map_or(Bytes::ZERO, |b| b.actual);
        // Nobody holds more than it has: who says so is not believed.
        let lies = actual > g.config.full;
        let trusted = g.config.has_balloon && view.trust == Trust::Trusted;
        let unbound = silent || lies || life.awaited() || !trusted || doubt(life);
        let least = if unbound { g.config.full } else { actual };
        let facts = &life.known.facts;
        let held = facts.anon.zip(facts.overhead).map(|(anon, overhead)| anon.minus(overhead));
        let total = moment.sample.host.memory.total;
        let tolerance = Bytes::from_mib(16);
        let held = held.unwrap_or_default().minus(tolerance);
        let own = target(view).max(least).min(total).max(held.minus(g.config.plugged));
        let all = own.plus(g.config.plugged).min(total).max(own).max(held).plus(overhead(&life.known));
        // What is in a pool of huge pages is no part of the budget.
        let pooled = life.known.config.untouchable.contains(&Untouchable::HugePages);
        let all = if pooled { overhead(&life.known) } else { all };
        // The kernel gives its pod no more than its limit, and took nothing back of what it holds.
        all.min(facts.bound.unwrap_or(Bytes::MAX)).max(facts.anon.unwrap_or_default().minus(tolerance))
    };
    moment.sample.guests.iter().map(charge).sum()
}

/// The most that may be promised on this host, with nothing that has to be learnt taken off.
pub fn most(moment: &Moment<'_>, known: &Memory) -> Bytes {
    let memory = &moment.sample.host.memory;
    let guests: Bytes = moment.sample.guests.iter().filter_map(|g| known.known(&g.id).facts.anon).sum();
    let other = memory.anon.plus(memory.shmem).minus(guests);
    let kernel =
        memory.slab_unreclaimable.plus(memory.kernel_stack).plus(memory.page_tables).plus(memory.percpu);
    let reserve =
        if giving_back(moment) { Bytes::ZERO } else { moment.policy.reserve.minimum.of(memory.total) };
    [memory.hugetlb, moment.plan.eviction, reserve, other, kernel]
        .into_iter()
        .fold(memory.total, Bytes::minus)
}

/// What the host uses that is no guest's.
pub fn own(moment: &Moment<'_>) -> Bytes {
    let m = &moment.host.memory;
    [m.anon, m.shmem, m.slab_unreclaimable, m.kernel_stack, m.page_tables, m.percpu].into_iter().sum()
}

/// The host's kernel says that memory is gone.
pub fn distressed(host: &HostSample, eviction: Bytes) -> bool {
    let line = eviction.plus(share(host.memory.total, 1, 100));
    let strained = host.memory.available < eviction.plus(share(host.memory.total, 5, 100));
    host.memory.available < line || (strained && host.pressure.is_some_and(|p| p.full_avg10 >= 1000))
}

pub fn observing(moment: &Moment<'_>) -> bool {
    moment.policy.mode == Mode::Observe
}
