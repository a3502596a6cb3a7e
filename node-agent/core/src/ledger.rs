//! The node's account: what it has promised, what it could survive (design §4).
//!
//! The budget comes from totals and from what is measured to be no guest, never from `MemAvailable` and resident
//! sizes: ballooned pages leave holes in transparent huge pages that the kernel frees late, and that sum shrinks
//! while nothing is used.

mod merged;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::growth::Growth;
use crate::model::{Model, Track};
use crate::policy::{Policy, Reserve};
use crate::sample::{HostMemory, HostSample};
use crate::units::Bytes;

pub(crate) use merged::Merged;

/// The account at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// `MemTotal`.
    pub total: Bytes,
    /// Huge page pools, whether used or not.
    pub huge_pages: Bytes,
    /// The kubelet's eviction line.
    pub eviction: Bytes,
    /// The policy's reserve.
    pub reserve: Bytes,
    /// Memory of everything that is no guest and cannot be dropped.
    pub non_guest: Bytes,
    /// What that may grow before the loop can react.
    pub non_guest_growth: Bytes,
    /// What pods that look like guests and are not listed may touch beyond what they hold.
    pub unlisted: Bytes,
    /// What may be promised to guests.
    pub budget: Bytes,
    /// What guests may touch, overhead included.
    pub promised: Bytes,
    /// What their processes hold in RAM.
    pub resident: Bytes,
    /// Measured or assumed overhead, part of `promised`.
    pub overhead: Bytes,
    /// Memory that was plugged into guests, part of `promised`; no balloon can take it.
    pub plugged: Bytes,
    /// With swap that guests may use: what may become resident before the loop can react.
    pub at_risk: Bytes,
    /// What counts against the budget: `promised`; with swap that guests may use `resident + at_risk`, but no less than
    /// what of `promised` that swap could not take.
    pub committed: Bytes,
    /// How much `committed` exceeds the budget.
    pub shortfall: Bytes,
    /// How much of the budget is not committed.
    pub spare: Bytes,
    /// What of `promised` swap keeps: what it can take, and what it took already. Nothing beside a kubelet, which counts no swap
    /// (`memory.available`, pkg/kubelet/eviction/helpers.go) and evicts where the kernel would swap.
    #[serde(default, skip_serializing_if = "Bytes::is_zero")]
    pub swap: Bytes,
    /// What guests hold less than they may have.
    pub reclaimed: Bytes,
    /// Saved by KSM; never part of the budget, for a surge undoes it.
    pub merged: Bytes,
    /// How long it takes until guests have given what is suddenly gone, measured.
    pub reaction: Duration,
}

/// Everything that is no guest and stays: anonymous and shared memory beyond that of the guests that `count`, and the
/// kernel's own. What of it is `merged` is there as often as it is mapped, for it is once that is written.
pub(crate) fn non_guest(
    memory: &HostMemory,
    merged: &Merged,
    model: &Model,
    count: impl Fn(&Track) -> bool,
) -> Bytes {
    let facts = || model.tracks().filter(|t| count(t)).map(|t| &t.sample.facts);
    let guests: Bytes = facts().filter_map(|facts| facts.anon).sum();
    let kernel = [memory.slab_unreclaimable, memory.kernel_stack, memory.page_tables, memory.percpu];
    let all = memory.anon.plus(memory.shmem).plus(merged.correction(facts()));
    all.minus(guests).plus(kernel.into_iter().sum())
}

/// What of all that was promised to guests swap can take: what it took of it already, and what a surge could still push there, which is
/// no more than is free, and than their pods may use (a kubelet gives its pods none unless told so, `memorySwap.swapBehavior`).
fn usable_swap(memory: &HostMemory, model: &Model) -> Bytes {
    let facts = || model.tracks().map(|t| &t.sample.facts);
    let free: Bytes = facts().map(|f| f.swappable.unwrap_or(memory.swap_free)).sum();
    let taken: Bytes = facts().filter_map(|f| f.swapped).sum();
    free.min(memory.swap_free).plus(taken.min(memory.swap_total.minus(memory.swap_free)))
}

pub(crate) fn resident(model: &Model) -> Bytes {
    model.tracks().filter_map(|t| t.sample.facts.resident).sum()
}

/// What guests may hold by now beyond what they were seen to, because nobody has looked since.
fn unseen(model: &Model) -> Bytes {
    let of = |t: &Track| t.charge().minus(t.sample.facts.resident.unwrap_or_default());
    model.tracks().filter(|t| t.is_dated()).map(of).sum()
}

/// What is not for guests, whatever they need.
#[derive(Clone, Copy, Debug)]
pub struct Kept<'a> {
    /// The reserve in force: the policy's, or none while everything is given back.
    pub reserve: &'a Reserve,
    /// The kubelet's eviction line.
    pub eviction: Bytes,
    /// What unlisted pods may touch beyond what they hold, which is memory of no guest like that of all other pods.
    pub unlisted: Bytes,
}

impl Ledger {
    /// The account of this moment.
    pub fn of(
        host: &HostSample,
        model: &Model,
        policy: &Policy,
        growth: &mut Growth,
        kept: Kept<'_>,
    ) -> Self {
        let memory = &host.memory;
        let Kept { reserve, eviction, unlisted } = kept;
        let non_guest = growth.own(host, model);
        let reaction = growth.reaction(policy.interval);
        let mut ledger = Self {
            total: memory.total,
            huge_pages: memory.hugetlb,
            eviction,
            reserve: reserve.minimum.of(memory.total),
            non_guest,
            non_guest_growth: growth.of_non_guest(reserve.growth_quantile),
            unlisted,
            promised: model.tracks().map(crate::model::Track::charge).sum(),
            overhead: model.tracks().map(|t| t.overhead().min(t.charge())).sum(),
            plugged: model.tracks().map(|t| t.touchable_plugged().min(t.charge())).sum(),
            resident: resident(model),
            reclaimed: model.tracks().map(|t| t.ceiling.minus(t.target)).sum(),
            merged: host.ksm.map_or(Bytes::ZERO, |k| k.sharing),
            reaction,
            ..Self::default()
        };
        ledger.budget = ledger.kept().into_iter().map(|(_, bytes)| bytes).fold(ledger.total, Bytes::minus);
        ledger.committed = ledger.promised;
        let swap = usable_swap(memory, model);
        ledger.swap = if eviction.is_zero() { swap } else { Bytes::ZERO };
        if !swap.is_zero() {
            // Growth that swap keeps is no risk.
            let growth = growth.of_resident(reserve.growth_quantile).minus(ledger.backed());
            ledger.at_risk = growth.plus(unseen(model)).min(ledger.promised.minus(ledger.resident));
            let expected = ledger.resident.plus(ledger.at_risk);
            ledger.committed = expected.max(ledger.promised.minus(swap)).min(ledger.promised);
        }
        ledger.shortfall = ledger.committed.minus(ledger.budget);
        ledger.spare = ledger.budget.minus(ledger.committed);
        ledger
    }

    /// What the budget is less than the total by, each by its name here.
    pub fn kept(&self) -> [(&'static str, Bytes); 6] {
        [
            ("reserve", self.reserve),
            ("eviction", self.eviction),
            ("huge_pages", self.huge_pages),
            ("non_guest", self.non_guest),
            ("non_guest_growth", self.non_guest_growth),
            ("unlisted", self.unlisted),
        ]
    }

    /// What a reserve could be kept of: neither huge pages nor what is below the kubelet's line is ever for guests.
    pub fn reservable(&self) -> Bytes {
        self.total.minus(self.huge_pages).minus(self.eviction)
    }

    /// The reserve leaves nothing for guests, whatever they and the node use: somebody wrote another number than was meant.
    pub fn reserve_keeps_all(&self) -> bool {
        !self.reserve.is_zero() && self.reserve >= self.reservable()
    }

    /// The sum of promises at which nothing would be short nor spare.
    pub fn allowed(&self) -> Bytes {
        self.promised.plus(self.spare).minus(self.shortfall)
    }

    /// The sum of promises that memory and swap together could still keep. What guests need is not taken from them while that is
    /// more than `allowed`: the node's kernel finds what they touch least among all, a balloon within one guest only.
    pub fn allowed_with_swap(&self) -> Bytes {
        if self.swap.is_zero() { self.allowed() } else { self.budget.plus(self.swap) }
    }

    /// Whatever guests touch of all that they were promised, memory and swap keep it.
    pub fn swap_keeps_all(&self) -> bool {
        !self.swap.is_zero() && self.promised <= self.budget.plus(self.swap)
    }

    /// What could be promised beyond what is spare, and only swap could keep: for who hurts, or lacks what it is thought to need.
    pub fn backed(&self) -> Bytes {
        let with_swap = self.budget.plus(self.swap).minus(self.promised);
        if self.swap.is_zero() { Bytes::ZERO } else { with_swap.minus(self.spare) }
    }
}
