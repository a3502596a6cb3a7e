//! Builders of hosts, guests and courses for the tests of the decisions.
#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    clippy::arithmetic_side_effects,
    clippy::struct_excessive_bools,
    clippy::wildcard_imports,
    clippy::unwrap_used,
    clippy::indexing_slicing
)]

use std::sync::Arc;
use std::time::Duration;

use overcommit_core::plan::Outcome;
use overcommit_core::policy::{Class, Floor, Limits, Mode, Policy, Reserve};
use overcommit_core::reason::Reason;
use overcommit_core::roster::{Membership, OptOut, Roster};
use overcommit_core::sample::*;
use overcommit_core::step::{Decision, Input, Mandate, State, Turn};
use overcommit_core::stranger::Stranger;
use overcommit_core::units::{Amount, Bytes, Monotonic, Permille};
use overcommit_core::view::GuestView;

pub fn mib(n: u64) -> Bytes {
    Bytes::from_mib(n)
}

/// A guest as a plant: it obeys its balloon at once and reports every second.
#[derive(Clone, Debug)]
pub struct Guest {
    pub name: String,
    pub full: u64,
    pub actual: u64,
    /// Working set, MiB.
    pub used: u64,
    /// Page cache, MiB.
    pub cache: u64,
    /// What stays usable in whatever need, in % of what it has.
    pub keeps_usable: u64,
    pub has_balloon: bool,
    pub reports: bool,
    pub period: u32,
    pub stamp: u64,
    /// Read back from its swap, MiB; as much went there.
    pub swap_in: u64,
    pub faults: u64,
    /// What its programs filled since its boot, MiB.
    pub filled: u64,
    pub untouchable: Vec<Untouchable>,
    pub opt_out: Option<OptOut>,
    pub listed: bool,
    pub migrating: bool,
    pub request: Option<u64>,
    pub limit: Option<u64>,
    /// The most that its whole pod may hold, MiB.
    pub bound: Option<u64>,
    pub state: RunState,
    pub weight_class: &'static str,
    /// 0 while its process cannot be found.
    pub pid: u32,
    /// When the kernel said last what its process holds, and what that was; absent while it does so now.
    pub facts_of: Option<(u64, u64)>,
    pub started: u64,
    /// Its balloon does what it is told.
    pub follows: bool,
    /// What its process holds, MiB, whatever the balloon says.
    pub held: Option<u64>,
    /// How much of it may be swapped out.
    pub swappable: Option<u64>,
    /// How much of it was, MiB.
    pub swapped: Option<u64>,
    /// Memory that was plugged into it, MiB, and whether that goes on.
    pub plugged: u64,
    pub plugging: bool,
    /// Its `MemTotal`, where its kernel does not count the balloon out of it.
    pub total: Option<u64>,
}

pub fn guest(name: &str, full: u64, used: u64) -> Guest {
    Guest {
        name: name.into(),
        full,
        actual: full,
        used,
        cache: 0,
        keeps_usable: 0,
        has_balloon: true,
        reports: true,
        period: 2,
        stamp: 0,
        swap_in: 0,
        faults: 0,
        filled: 0,
        untouchable: vec![],
        opt_out: None,
        listed: true,
        migrating: false,
        request: None,
        limit: None,
        bound: None,
        state: RunState::Running,
        weight_class: "default",
        pid: 1,
        facts_of: None,
        started: 0,
        follows: true,
        held: None,
        swappable: None,
        swapped: None,
        plugged: 0,
        plugging: false,
        total: None,
    }
}

pub struct World {
    pub now: u64,
    pub total: u64,
    pub anon_other: u64,
    /// `MemAvailable`, MiB; by default all that the host has.
    pub available: Option<u64>,
    /// `MemFree`, MiB; by default nobody knows of any.
    pub free: Option<u64>,
    pub swap: u64,
    /// How much of it is in use, MiB.
    pub swap_used: u64,
    /// Pools of huge pages, MiB.
    pub pool: u64,
    pub guests: Vec<Guest>,
    /// Their memory is part of `anon_other`.
    pub strangers: Vec<Stranger>,
    pub policy: Policy,
    pub state: State,
    pub paused: bool,
    pub release: bool,
    pub keep_found: bool,
    pub complete: bool,
}

/// A host of `total` MiB that has been up for an hour, enforcing, with nothing reserved.
pub fn world(total: u64, guests: Vec<Guest>) -> World {
    World {
        now: 3600,
        total,
        anon_other: 0,
        available: None,
        free: None,
        swap: 0,
        swap_used: 0,
        pool: 0,
        guests,
        strangers: Vec::new(),
        policy: policy(),
        state: State::default(),
        paused: false,
        release: false,
        keep_found: false,
        complete: true,
    }
}

pub fn policy() -> Policy {
    let floor = Floor { part: Permille::from_percent(25), bytes: Bytes::ZERO, below_request: false };
    Policy {
        mode: Mode::Enforce,
        interval: Duration::from_secs(5),
        classes: vec![Class { name: Arc::from("default"), floor, weight: 100, exclude: false }],
        reserve: Reserve { minimum: Amount::Bytes(Bytes::ZERO), growth_quantile: Permille::from_percent(99) },
        limits: Limits {
            take_per_guest: Amount::Part(Permille::from_percent(10)),
            take_per_node: Amount::Part(Permille::from_percent(10)),
            dead_band: Amount::Part(Permille::from_percent(1)),
        },
        ksm: overcommit_core::policy::Ksm::default(),
        adaptive: overcommit_core::policy::Adaptive::default(),
        mom: None,
    }
}

/// Ticks until nothing is expected to move any more.
pub fn settle(world: &mut World, ticks: u32) {
    for _ in 0..ticks {
        world.tick();
    }
}

/// What a decision says of one guest.
pub fn view(decision: &Decision, name: &str) -> GuestView {
    decision.guests.iter().find(|g| g.id.as_str() == name).unwrap().clone()
}

pub fn reason(decision: &Decision, name: &str) -> Reason {
    view(decision, name).reason
}

impl World {
    pub fn id(name: &str) -> GuestId {
        GuestId::new(name)
    }

    pub fn guest(&mut self, name: &str) -> &mut Guest {
        self.guests.iter_mut().find(|g| g.name == name).unwrap()
    }

    pub fn sample(&mut self) -> Sample {
        let now = self.now;
        for g in &mut self.guests {
            if g.reports {
                g.stamp = 1_000_000 + now;
            }
        }
        let guests: Vec<GuestSample> = self.guests.iter().map(|g| sample_of(g, now)).collect();
        let anon: u64 = self.guests.iter().map(held).sum();
        let memory = HostMemory {
            total: mib(self.total),
            available: mib(self.available.unwrap_or(self.total)),
            anon: mib(anon + self.anon_other),
            free: mib(self.free.unwrap_or_default()),
            hugetlb: mib(self.pool),
            swap_total: mib(self.swap),
            swap_free: mib(self.swap - self.swap_used),
            ..HostMemory::default()
        };
        Sample {
            at: Monotonic::new(Duration::from_secs(now)),
            wall: Duration::from_secs(1_000_000 + now),
            host_age: Duration::ZERO,
            host: HostSample { memory, ..HostSample::default() },
            guests,
            strangers: self.strangers.clone(),
        }
    }

    pub fn roster(&self) -> Roster {
        Roster::by_name(self.guests.iter().filter(|g| g.listed).map(|g| {
            let member = Membership {
                class: Some(Arc::from(g.weight_class)),
                opt_out: g.opt_out,
                migrating: g.migrating,
            };
            (GuestName::standalone(g.name.as_str()), member)
        }))
    }

    /// One turn `seconds` later; the guests obey what was planned.
    pub fn turn(&mut self, seconds: u64, turn: Turn) -> Decision {
        let decision = self.decide(seconds, turn);
        self.obey(&decision);
        decision
    }

    pub fn tick(&mut self) -> Decision {
        self.turn(5, Turn::Tick)
    }

    /// One turn in which nothing of the plan is carried out yet.
    pub fn decide(&mut self, seconds: u64, turn: Turn) -> Decision {
        self.now += seconds;
        let sample = self.sample();
        self.decide_on(&sample, turn)
    }

    /// One turn whose commands are all refused.
    pub fn refused(&mut self, seconds: u64, turn: Turn) -> Decision {
        let decision = self.decide(seconds, turn);
        let refused = |command| Outcome { command, result: Err("refused".into()) };
        self.state.note(&decision.plan.commands().map(refused).collect::<Vec<_>>());
        decision
    }

    /// As [`World::decide`], on a sample that was made before.
    pub fn decide_on(&mut self, sample: &Sample, turn: Turn) -> Decision {
        let roster = self.roster();
        let input = Input {
            sample,
            policy: &self.policy,
            roster: &roster,
            turn,
            mandate: match (self.release, self.paused) {
                (true, _) => Mandate::Release,
                (false, true) => Mandate::GiveOnly,
                (false, false) => Mandate::Full,
            },
            complete: self.complete,
            eviction: Bytes::ZERO,
            keep_found: self.keep_found,
            telling: true,
        };
        self.state.step(&input)
    }

    pub fn obey(&mut self, decision: &Decision) {
        let outcomes: Vec<_> = decision
            .plan
            .commands()
            .chain(decision.periods.iter().cloned())
            .map(|command| Outcome { command, result: Ok(()) })
            .collect();
        self.state.note(&outcomes);
        for command in &decision.periods {
            if let overcommit_core::plan::Command::SetPeriod { id, seconds } = command {
                self.guest(id.as_str()).period = *seconds;
            }
        }
        for step in decision.plan.moves() {
            let g = self.guests.iter_mut().find(|g| g.name == step.id.as_str()).unwrap();
            if g.has_balloon && g.follows {
                g.actual = step.to.to_mib_floor();
            }
        }
        for command in &decision.again {
            let overcommit_core::plan::Command::SetTarget { id, to, .. } = command else { continue };
            let g = self.guests.iter_mut().find(|g| g.name == id.as_str()).unwrap();
            if g.has_balloon && g.follows {
                g.actual = to.to_mib_floor();
            }
        }
    }

    pub fn target(&self, name: &str) -> u64 {
        let full = self.guests.iter().find(|g| g.name == name).unwrap().full;
        self.state.dealings().of(&Self::id(name)).and_then(|d| d.target).map_or(full, Bytes::to_mib_floor)
    }
}

/// What its process holds.
fn held(g: &Guest) -> u64 {
    g.held.unwrap_or_else(|| g.used.min(g.actual + g.plugged))
}

impl Guest {
    /// From now on the kernel says nothing new of its process.
    pub fn stop_facts(&mut self, now: u64) {
        self.facts_of = Some((now, held(self)));
    }
}

fn sample_of(g: &Guest, now: u64) -> GuestSample {
    let all = g.actual + g.plugged;
    let usable = all.saturating_sub(g.used).max(all * g.keeps_usable / 100);
    let unused = usable.saturating_sub(g.cache);
    let reported = g.stamp > 0;
    let shown = g.facts_of.map_or_else(|| held(g), |(_, held)| held);
    GuestSample {
        id: World::id(&g.name),
        name: GuestName::standalone(g.name.as_str()),
        incarnation: (g.pid > 0).then_some(Incarnation { pid: g.pid, start_ticks: g.started * 100 }),
        config: GuestConfig {
            full: mib(g.full),
            plugged: mib(g.plugged),
            plugging: g.plugging,
            has_balloon: g.has_balloon,
            free_page_reporting: false,
            untouchable: g.untouchable.clone(),
            vcpus: None,
        },
        run_state: g.state,
        balloon: (g.state != RunState::Unreachable).then(|| Balloon {
            actual: mib(g.actual),
            last_update: reported.then_some(g.stamp),
            period: Some(g.period),
            available: reported.then(|| mib(g.total.unwrap_or(all))),
            unused: reported.then(|| mib(unused)),
            usable: reported.then(|| mib(usable)),
            swap_in: Some(mib(g.swap_in)),
            swap_out: Some(mib(g.swap_in)),
            major_faults: Some(g.faults),
            minor_faults: Some(now + g.filled * 256),
        }),
        facts_age: Some(Duration::from_secs(g.facts_of.map_or(0, |(at, _)| now - at))),
        facts: ProcessFacts {
            resident: Some(mib(shown)),
            anon: Some(mib(shown)),
            repeated: None,
            merging: None,
            overhead: Some(Bytes::ZERO),
            request: g.request.map(mib),
            limit: g.limit.map(mib),
            bound: g.bound.map(mib),
            swappable: g.swappable.map(mib),
            swapped: g.swapped.map(mib),
            faults: None,
        },
        trouble: None,
    }
}
