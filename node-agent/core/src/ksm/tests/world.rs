//! A kernel that does as it is told, and guests whose pages can be merged.

use std::sync::Arc;
use std::time::Duration;

use super::super::*;
use crate::policy::{Ksm as Rule, Limits, Reserve};
use crate::roster::{KsmManager, Membership};
use crate::sample::{
    GuestConfig, GuestId, GuestName, GuestSample, HostMemory, HostSample, Ksm, ProcessFacts, RunState,
    Untouchable,
};
use crate::stranger::Stranger;
use crate::units::{Amount, Monotonic};

const PAGE: u64 = 4096;
pub(super) const STEP: Duration = Duration::from_secs(5);
pub(super) const FOUND: Knobs =
    Knobs { run: 0, pages_to_scan: 100, sleep_millisecs: 20, advisor: Advisor::None };

/// A kernel with guests whose pages can be merged, in one namespace unless a test says otherwise.
#[derive(Clone, Debug)]
pub(super) struct World {
    pub(super) knobs: Knobs,
    pub(super) at: Duration,
    /// What a page costs, in nanoseconds.
    pub(super) cost: u64,
    /// All pages of guests, and how many of them equal others and are not merged yet.
    pub(super) pages: u64,
    pub(super) equal: u64,
    pub(super) sharing: u64,
    pub(super) scanned: u64,
    pub(super) cpu: Duration,
    pub(super) visible: bool,
    /// Its counters cannot be read.
    pub(super) unread: bool,
    pub(super) total: u64,
    pub(super) available: u64,
    pub(super) promised: u64,
    pub(super) namespaces: Vec<Option<&'static str>>,
    /// All say of themselves that their memory is in huge pages.
    pub(super) huge: bool,
    /// One more is listed, of that namespace, and its hypervisor says that it has none.
    pub(super) unseen: Option<&'static str>,
    pub(super) strangers: usize,
    pub(super) rule: Rule,
    pub(super) mode: Mode,
    pub(super) mandate: Mandate,
    pub(super) turn: Turn,
    pub(super) manager: Option<KsmManager>,
    /// What a program asks for.
    pub(super) asked: Asked,
}

impl World {
    /// 16 GiB, all of it promised, half of it equal.
    pub(super) fn new() -> Self {
        Self {
            knobs: FOUND,
            at: Duration::from_secs(1000),
            cost: 3000,
            pages: 1 << 20,
            equal: 1 << 19,
            sharing: 0,
            scanned: 0,
            cpu: Duration::ZERO,
            visible: true,
            unread: false,
            total: 16 << 30,
            available: 8 << 30,
            promised: 16 << 30,
            namespaces: vec![Some("shop"); 3],
            huge: false,
            unseen: None,
            strangers: 0,
            rule: Rule { mode: KsmMode::Auto, across_namespaces: false },
            mode: Mode::Enforce,
            mandate: Mandate::Full,
            turn: Turn::Tick,
            manager: None,
            asked: Asked::default(),
        }
    }

    /// What each guest holds.
    fn resident(&self) -> Bytes {
        Bytes::new(self.pages * PAGE / u64::try_from(self.namespaces.len()).unwrap().max(1))
    }

    fn profit(&self) -> i64 {
        let items = self.scanned.min(self.pages) * 64;
        i64::try_from(self.sharing * PAGE).unwrap() - i64::try_from(items).unwrap()
    }

    /// Lets ksmd work for a step.
    pub(super) fn pass(&mut self) {
        self.at += STEP;
        if self.knobs.advisor == Advisor::ScanTime {
            // By itself.
            self.knobs.pages_to_scan += 7;
        }
        if self.knobs.run != 1 {
            return;
        }
        let batch = Duration::from_nanos(self.knobs.pages_to_scan * self.cost);
        let cycle = batch + Duration::from_millis(self.knobs.sleep_millisecs);
        let cycles = STEP.as_nanos() / cycle.as_nanos().max(1);
        let cycles = u32::try_from(cycles).unwrap();
        self.cpu += batch * cycles;
        let scanned = u64::from(cycles) * self.knobs.pages_to_scan;
        self.scanned += scanned;
        // From the second pass on, equal pages are met in proportion.
        if self.scanned > self.pages {
            let met =
                (scanned.min(self.pages) * self.equal / self.pages.max(1)).max(u64::from(self.equal > 0));
            let merged = met.min(self.equal);
            self.equal -= merged;
            self.sharing += merged;
        }
    }

    fn sample(&self) -> (Sample, Roster) {
        let guests: Vec<GuestSample> = self
            .namespaces
            .iter()
            .enumerate()
            .map(|(n, ns)| guest(n, *ns, self.huge, self.resident()))
            .collect();
        let member = || Membership { class: Some("all".into()), opt_out: None, migrating: false };
        let listed = guests.iter().filter(|guest| guest.name.namespace.is_some());
        let listed = listed.map(|g| (Arc::from(g.id.pod().unwrap()), g.name.clone(), member()));
        let unseen =
            self.unseen.map(|ns| (Arc::from("unseen"), GuestName::namespaced(ns, "unseen"), member()));
        let roster = Roster::by_pod(listed.chain(unseen));
        let memory = HostMemory {
            total: Bytes::new(self.total),
            available: Bytes::new(self.available),
            ..HostMemory::default()
        };
        let ksm = Ksm {
            run: u8::try_from(self.knobs.run).unwrap(),
            sharing: Bytes::new(self.sharing * PAGE),
            shared: Bytes::ZERO,
            full_scans: self.scanned / self.pages.max(1),
            profit: Some(self.profit()),
            cpu: self.visible.then_some(self.cpu),
            knobs: Some(self.knobs),
            merge_across_nodes: None,
            pages_unshared: None,
            pages_volatile: None,
        };
        let stranger = |n| Stranger {
            pod: Arc::from(format!("stranger-{n}")),
            claim: Bytes::ZERO,
            held: None,
            request: None,
            bound: None,
        };
        let sample = Sample {
            at: Monotonic::new(self.at),
            wall: self.at,
            host_age: Duration::ZERO,
            host: HostSample {
                memory,
                ksm: Some(ksm).filter(|_| !self.unread),
                ksm_unread: self.unread,
                ..HostSample::default()
            },
            guests,
            strangers: (0..self.strangers).map(stranger).collect(),
        };
        (sample, roster.with_ksm_manager(self.manager))
    }

    pub(super) fn decide(&self, merging: &mut Merging) -> KsmPlan {
        let (sample, roster) = self.sample();
        let part = Amount::Part(Permille::new(100));
        let policy = Policy {
            mode: self.mode,
            interval: STEP,
            classes: Vec::new(),
            reserve: Reserve::NONE,
            limits: Limits { take_per_guest: part, take_per_node: part, dead_band: part },
            ksm: self.rule,
            adaptive: crate::policy::Adaptive::default(),
            mom: None,
        };
        let ledger = Ledger { promised: Bytes::new(self.promised), ..Ledger::default() };
        merging.decide(&Scene {
            sample: &sample,
            policy: &policy,
            roster: &roster,
            ledger: &ledger,
            turn: self.turn,
            mandate: self.mandate,
            asked: self.asked,
        })
    }

    /// A turn whose writes are made.
    pub(super) fn turn(&mut self, merging: &mut Merging) -> KsmPlan {
        self.pass();
        let plan = self.decide(merging);
        self.write(&plan);
        plan
    }

    pub(super) fn write(&mut self, plan: &KsmPlan) {
        for write in &plan.writes {
            let text = write.text();
            match write.knob {
                Knob::Advisor => self.write_advisor(text != "none"),
                Knob::PagesToScan => {
                    assert_eq!(self.knobs.advisor, Advisor::None, "the kernel refuses that");
                    self.knobs.pages_to_scan = text.parse().unwrap();
                }
                Knob::SleepMillisecs => self.knobs.sleep_millisecs = text.parse().unwrap(),
                Knob::Run => self.knobs.run = text.parse().unwrap(),
            }
            assert!(self.knobs.run < 2, "nothing is ever unmerged");
        }
    }

    /// As mm/ksm.c, `set_advisor_defaults`.
    pub(super) fn write_advisor(&mut self, on: bool) {
        self.knobs.advisor = if on { Advisor::ScanTime } else { Advisor::None };
        self.knobs.pages_to_scan = if on { 500 } else { 100 };
    }

    /// 512 GiB, nearly all promised, of guests of 8 GiB; so many in a thousand pages equal others.
    pub(super) fn large(equal: u64) -> Self {
        let pages = (512 << 30) / PAGE;
        Self {
            pages,
            equal: pages * equal / 1000,
            total: 512 << 30,
            available: 200 << 30,
            promised: 500 << 30,
            namespaces: vec![Some("shop"); 64],
            ..Self::new()
        }
    }

    pub(super) fn turns(&mut self, merging: &mut Merging, turns: u32) -> KsmPlan {
        (0..turns).map(|_| self.turn(merging)).last().unwrap_or_default()
    }
}

fn guest(number: usize, namespace: Option<&'static str>, huge: bool, resident: Bytes) -> GuestSample {
    let name = namespace.map_or_else(
        || GuestName::unnamed(&format!("pod-{number}")),
        |namespace| GuestName::namespaced(namespace, format!("guest-{number}")),
    );
    GuestSample {
        id: GuestId::new(format!("pod-{number}/uuid")),
        name,
        incarnation: None,
        config: GuestConfig {
            full: Bytes::from_gib(4),
            plugged: Bytes::ZERO,
            plugging: false,
            has_balloon: true,
            free_page_reporting: false,
            untouchable: huge.then_some(Untouchable::HugePages).into_iter().collect(),
            vcpus: None,
        },
        run_state: RunState::Running,
        balloon: None,
        facts: ProcessFacts { resident: Some(resident), ..ProcessFacts::default() },
        facts_age: None,
        trouble: None,
    }
}
