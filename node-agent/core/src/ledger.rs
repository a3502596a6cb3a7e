//! The node's account: what it has promised, what it could survive (design §4).
//!
//! The budget comes from totals and from what is measured to be no guest, never from `MemAvailable` and resident
//! sizes: ballooned pages leave holes in transparent huge pages that the kernel frees late, and that sum shrinks
//! while nothing is used.

use serde::{Deserialize, Serialize};

use crate::model::Model;
use crate::policy::Reserve;
use crate::quantile::Window;
use crate::sample::{HostMemory, HostSample};
use crate::units::Bytes;

/// A decision and its effect take about two control periods.
const REACTION_PERIODS: u64 = 2;

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
    /// What may be promised to guests.
    pub budget: Bytes,
    /// What guests may touch, overhead included.
    pub promised: Bytes,
    /// What their processes hold in RAM.
    pub resident: Bytes,
    /// Measured or assumed overhead, part of `promised`.
    pub overhead: Bytes,
    /// With swap: what may become resident before the loop can react.
    pub at_risk: Bytes,
    /// What counts against the budget: `promised` without swap, `resident + at_risk` with.
    pub committed: Bytes,
    /// How much `committed` exceeds the budget.
    pub shortfall: Bytes,
    /// How much of the budget is not committed.
    pub spare: Bytes,
    /// What guests hold less than they may have.
    pub reclaimed: Bytes,
    /// Saved by KSM; never part of the budget, for a surge undoes it.
    pub merged: Bytes,
}

/// What the account remembers from turn to turn.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Growth {
    non_guest: Window,
    resident: Window,
    last: Option<(Bytes, Bytes)>,
}

impl Growth {
    /// Notes one control period's growth of non-guest and of resident guest memory.
    pub fn note(&mut self, host: &HostSample, model: &Model) {
        let now = (non_guest(&host.memory, model), resident(model));
        if let Some((non_guest, resident)) = self.last.replace(now) {
            self.non_guest.push(now.0.minus(non_guest));
            self.resident.push(now.1.minus(resident));
        }
    }
}

/// Everything that is no guest and stays: anonymous and shared memory beyond the guests', and the kernel's own.
fn non_guest(memory: &HostMemory, model: &Model) -> Bytes {
    let guests: Bytes = model.tracks().filter_map(|t| t.sample.facts.anon).sum();
    let kernel = [memory.slab_unreclaimable, memory.kernel_stack, memory.page_tables, memory.percpu];
    memory.anon.plus(memory.shmem).minus(guests).plus(kernel.into_iter().sum())
}

fn resident(model: &Model) -> Bytes {
    model.tracks().filter_map(|t| t.sample.facts.resident).sum()
}

impl Ledger {
    /// The account of this moment.
    pub fn of(host: &HostSample, model: &Model, reserve: &Reserve, growth: &Growth, eviction: Bytes) -> Self {
        let memory = &host.memory;
        let quantile = reserve.growth_quantile;
        let ahead =
            |window: &Window| window.quantile(quantile).unwrap_or_default().scaled(REACTION_PERIODS, 1);
        let mut ledger = Self {
            total: memory.total,
            huge_pages: memory.hugetlb,
            eviction,
            reserve: reserve.minimum.of(memory.total),
            non_guest: non_guest(memory, model),
            non_guest_growth: ahead(&growth.non_guest),
            promised: model.tracks().map(crate::model::Track::charge).sum(),
            overhead: model.tracks().map(crate::model::Track::overhead).sum(),
            resident: resident(model),
            reclaimed: model.tracks().map(|t| t.ceiling.minus(t.target)).sum(),
            merged: host.ksm.map_or(Bytes::ZERO, |k| k.sharing),
            ..Self::default()
        };
        let kept =
            [ledger.huge_pages, ledger.eviction, ledger.reserve, ledger.non_guest, ledger.non_guest_growth];
        ledger.budget = kept.into_iter().fold(ledger.total, Bytes::minus);
        if memory.swap_total.is_zero() {
            ledger.committed = ledger.promised;
        } else {
            ledger.at_risk = ahead(&growth.resident).min(ledger.promised.minus(ledger.resident));
            ledger.committed = ledger.resident.plus(ledger.at_risk).min(ledger.promised);
        }
        ledger.shortfall = ledger.committed.minus(ledger.budget);
        ledger.spare = ledger.budget.minus(ledger.committed);
        ledger
    }

    /// The sum of promises at which nothing would be short nor spare.
    pub fn allowed(&self) -> Bytes {
        self.promised.plus(self.spare).minus(self.shortfall)
    }
}
