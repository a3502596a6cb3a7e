//! What must hold, worked out once more from what was read, without the code under test.

use std::collections::BTreeMap;
use std::time::Duration;

use overcommit_core::conduct::Trust;
use overcommit_core::plan::Move;
use overcommit_core::policy::{Class, Mode};
use overcommit_core::reason::Reason;
use overcommit_core::roster::Membership;
use overcommit_core::sample::{GuestId, GuestSample, HostMemory, HostSample, RunState, Untouchable};
use overcommit_core::step::Turn;
use overcommit_core::turns::Place;
use overcommit_core::units::{Bytes, Monotonic};
use overcommit_core::view::GuestView;
use proptest::{prop_assert, prop_assert_ne};

pub use super::life::{Life, Memory};
use super::plant::Moment;
use super::prove::Verdict;

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
    if moment.decision.turns {
        least = close_floor(guest, class, used).min(least);
    }
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

/// The least that it keeps while others would have to wait for what it does not use.
fn close_floor(guest: &GuestSample, class: &Class, used: Bytes) -> Bytes {
    floor(guest, class, Bytes::ZERO).max(share(used, 16, 15))
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
        // One that a tick begins up to a tenth early is over no sooner for that.
        let now = moment.sample.at;
        let due = self.began.map(|began| began.after(interval));
        let early = if moment.input.turn == Turn::Tick { interval / 10 } else { Duration::ZERO };
        if due.is_none_or(|due| now.after(early) >= due) {
            *self = Self { began: Some(due.map_or(now, |due| now.max(due))), ..Self::default() };
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
    charged(moment, memory, target, |_, _| false)
}

/// The same, where everything is charged of those, too, of whom it cannot be told whether anything binds them, or who are said to
/// be silent.
pub fn promised_at_most(moment: &Moment<'_>, memory: &Memory, target: impl Fn(&GuestView) -> Bytes) -> Bytes {
    charged(moment, memory, target, |life, view| life.is_blurred() || view.blind)
}

fn charged(
    moment: &Moment<'_>,
    memory: &Memory,
    target: impl Fn(&GuestView) -> Bytes,
    doubt: impl Fn(&Life, &GuestView) -> bool,
) -> Bytes {
    let charge = |g: &GuestSample| {
        let (view, life) = (view(moment, &g.id), memory.life(&g.id));
        let silent = life.words(moment.sample.at).is_none();
        let actual = life.counters.map_or(Bytes::ZERO, |b| b.actual);
        // Nobody holds more than it has: who says so is not believed.
        let lies = actual > g.config.full;
        let trusted = g.config.has_balloon && view.trust == Trust::Trusted;
        let unbound = silent || lies || life.awaited() || !trusted || doubt(life, view);
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

/// What of what was promised to guests swap can take, or took, where no kubelet evicts.
pub fn swap(moment: &Moment<'_>, known: &Memory) -> Bytes {
    if !moment.plan.eviction.is_zero() {
        return Bytes::ZERO;
    }
    let HostMemory { swap_total, swap_free, .. } = moment.sample.host.memory;
    let facts = || moment.sample.guests.iter().map(|g| known.known(&g.id).facts);
    let free: Bytes = facts().map(|facts| facts.swappable.unwrap_or(swap_free)).sum();
    let taken: Bytes = facts().filter_map(|facts| facts.swapped).sum();
    free.min(swap_free).plus(taken.min(swap_total.minus(swap_free)))
}

/// What more than is promised could still be kept if the host swaps as much as it can for the guests, with nothing that has to be
/// learnt taken off.
pub fn backed(moment: &Moment<'_>, known: &Memory) -> Bytes {
    let promised = promised(moment, known, |view| view.previous_target);
    most(moment, known).plus(swap(moment, known)).minus(promised)
}

/// The kernel kills where memory is gone, for swap does not keep all that guests may touch.
pub fn kills(moment: &Moment<'_>, known: &Memory) -> bool {
    let (ledger, swap) = (&moment.decision.ledger, swap(moment, known));
    swap.is_zero() || ledger.promised > ledger.budget.plus(swap)
}

/// Whether a give is for what its guest lacks, or undoes a take that failed: such are made beyond what is spare while the host can swap.
pub fn is_for_need(moment: &Moment<'_>, known: &Memory, step: &Move) -> bool {
    let reasons = matches!(
        step.reason,
        Reason::GiveDistress(_) | Reason::GiveNeed | Reason::GiveBlind | Reason::GiveReboot | Reason::Undo(_)
    );
    reasons || known.life(&step.id).hurts(moment.sample.at)
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
