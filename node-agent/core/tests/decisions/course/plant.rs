//! The plant: what the loop sees of a course, and what its commands do there.

use std::sync::Arc;
use std::time::Duration;

use overcommit_core::plan::{Command, Failed, Outcome};
use overcommit_core::policy::Policy;
use overcommit_core::roster::{Membership, Roster};
use overcommit_core::sample::{
    Balloon, GuestConfig, GuestId, GuestName, GuestSample, HostSample, Incarnation, ProcessFacts, RunState,
    Sample,
};
use overcommit_core::step::{Decision, Input, Mandate, State};
use overcommit_core::units::{Bytes, Monotonic};

use super::{Change, Course, Follow, Guest, Host, Stamp, TurnPlan, Words};

/// Up for an hour when a course begins.
const START: Duration = Duration::from_hours(1);
/// The wall clock then.
const WALL: i64 = 1_000_000;

/// Host and guests in the middle of a course.
pub struct Plant {
    pub host: Host,
    pub policy: Policy,
    pub state: State,
    keep_found: bool,
    now: Duration,
    wall: i64,
    guests: Vec<Body>,
}

struct Body {
    guest: Guest,
    /// What the device was told last.
    device: Bytes,
    stamp: Option<u64>,
    minor_faults: u64,
    /// Its kernel came anew, and its driver is not up: it has all its memory, whatever the device says.
    boots: bool,
    /// What the host's kernel said last, and when; absent while it goes on saying.
    told: Option<Told>,
}

#[derive(Clone, Copy)]
struct Told {
    at: Duration,
    process: Option<Incarnation>,
    facts: ProcessFacts,
}

/// One turn as the loop saw it, and what it decided; before anything of it was carried out.
pub struct Moment<'a> {
    pub input: Input<'a>,
    pub sample: &'a Sample,
    pub policy: &'a Policy,
    pub roster: &'a Roster,
    pub plan: &'a TurnPlan,
    /// The host as it is, without its guests.
    pub host: &'a Host,
    /// The loop's memory after the decision.
    pub state: &'a State,
    /// The same before it.
    pub before: &'a State,
    pub decision: &'a Decision,
}

impl Plant {
    pub fn new(course: &Course) -> Self {
        let body = |guest: &Guest| {
            let device = guest.full;
            Body { guest: guest.clone(), device, stamp: None, minor_faults: 0, boots: false, told: None }
        };
        Self {
            host: course.host.clone(),
            policy: course.policy.clone(),
            state: State::default(),
            keep_found: course.keep_found,
            now: START,
            wall: WALL,
            guests: course.guests.iter().map(body).collect(),
        }
    }

    /// One turn; `look` sees it before the commands are carried out.
    pub fn turn<R>(&mut self, plan: &TurnPlan, look: impl FnOnce(&Moment<'_>) -> R) -> R {
        self.pass(plan);
        let (sample, roster) = (self.sample(), self.roster());
        let before = std::mem::take(&mut self.state);
        let mut state = before.clone();
        let input = Input {
            sample: &sample,
            policy: &self.policy,
            roster: &roster,
            turn: plan.turn,
            mandate: match (plan.release, plan.paused) {
                (true, _) => Mandate::Release,
                (false, true) => Mandate::GiveOnly,
                (false, false) => Mandate::Full,
            },
            complete: true,
            eviction: plan.eviction,
            keep_found: self.keep_found,
            telling: true,
        };
        let decision = state.step(&input);
        let seen = look(&Moment {
            input,
            sample: &sample,
            policy: &self.policy,
            roster: &roster,
            plan,
            host: &self.host,
            state: &state,
            before: &before,
            decision: &decision,
        });
        self.state = state;
        self.carry_out(&decision, plan.refused);
        seen
    }

    /// Time passes, balloons move, things happen.
    fn pass(&mut self, plan: &TurnPlan) {
        self.now = self.now.saturating_add(plan.after);
        let seconds = i64::try_from(plan.after.as_secs()).unwrap_or(i64::MAX);
        self.wall = self.wall.saturating_add(seconds).saturating_add(plan.wall_jump).max(0);
        if let Some(host) = &plan.host {
            self.host = host.clone();
        }
        if let Some(policy) = &plan.policy {
            self.policy = policy.clone();
        }
        for body in &mut self.guests {
            body.live(plan.after);
        }
        let count = self.guests.len();
        for (index, change) in &plan.changes {
            self.guests[index % count].suffer(*change, self.now);
        }
        for body in &mut self.guests {
            body.report(self.wall);
        }
    }

    fn sample(&self) -> Sample {
        let guests: Vec<GuestSample> =
            self.guests.iter().enumerate().filter_map(|(i, b)| b.sample(i, self.now)).collect();
        let mut memory = self.host.memory;
        let held = self.guests.iter().filter(|b| b.guest.present).map(Body::anon);
        memory.anon = held.fold(memory.anon, Bytes::plus);
        Sample {
            at: Monotonic::new(self.now),
            wall: Duration::from_secs(self.wall.unsigned_abs()),
            host_age: Duration::ZERO,
            host: HostSample { memory, pressure: self.host.pressure, ..HostSample::default() },
            guests,
            strangers: Vec::new(),
        }
    }

    fn roster(&self) -> Roster {
        Roster::by_name(self.guests.iter().enumerate().filter(|(_, b)| b.guest.listed).map(
            |(index, body)| {
                let g = &body.guest;
                let class = Some(Arc::from(format!("c{}", g.class)));
                let member = Membership { class, opt_out: g.opt_out, migrating: g.migrating };
                (g.name(index), member)
            },
        ))
    }

    fn carry_out(&mut self, decision: &Decision, refused: bool) {
        let commands = decision.plan.commands().chain(decision.periods.iter().cloned());
        let commands = commands.chain(decision.again.iter().cloned());
        // Of those that nobody answers half take effect.
        let silent = refused && self.now.as_secs() % 2 == 1;
        let result = match (refused, silent) {
            (false, _) => Ok(()),
            (true, false) => Err("refused".into()),
            (true, true) => Err(Failed::unanswered("no answer")),
        };
        let outcomes: Vec<Outcome> =
            commands.map(|command| Outcome { command, result: result.clone() }).collect();
        self.state.note(&outcomes);
        for Outcome { command, .. } in &outcomes {
            let index = index(command.id());
            if refused && !(silent && index.is_multiple_of(2)) {
                continue;
            }
            match command {
                Command::SetTarget { to, .. } => self.guests[index].device = *to,
                Command::SetPeriod { seconds, .. } => self.guests[index].guest.period = Some(*seconds),
            }
        }
    }
}

fn index(id: &GuestId) -> usize {
    id.as_str().trim_start_matches('g').parse().unwrap()
}

impl Guest {
    /// All memory that it has.
    fn all(&self) -> Bytes {
        self.actual.plus(self.plugged)
    }

    fn name(&self, index: usize) -> GuestName {
        let name = format!("g{index}");
        if self.in_cluster { GuestName::namespaced("cluster", name) } else { GuestName::standalone(name) }
    }
}

impl Body {
    fn live(&mut self, after: Duration) {
        self.boots &= after.is_zero() || self.guest.follows == Follow::Never;
        let g = &mut self.guest;
        match g.follows {
            _ if g.state == RunState::Paused => {}
            Follow::AtOnce => g.actual = self.device,
            Follow::Never => {}
            Follow::Slowly(rate) => {
                let step = Bytes::from_mib(rate.saturating_mul(after.as_secs()));
                let low = g.actual.minus(step);
                g.actual = self.device.clamp(low, g.actual.plus(step).max(low));
            }
        }
        self.minor_faults = self.minor_faults.saturating_add(after.as_secs());
    }

    fn suffer(&mut self, change: Change, now: Duration) {
        // What was said last was said a while ago.
        let at = now.saturating_sub(Duration::from_secs(2));
        let told = Told { at, process: self.process(), facts: self.facts() };
        let g = &mut self.guest;
        match change {
            Change::Uses(n) => g.used = n,
            Change::Caches(n) => g.cache = n,
            Change::Follows(f) => g.follows = f,
            Change::Holds(n) => (g.actual, g.follows) = (n, Follow::Never),
            Change::Says(w) => g.words = w,
            Change::Stamps(s) => g.stamp = s,
            Change::Period(p) => g.period = p,
            Change::Held(h) => g.held = h,
            Change::Overhead(o) => g.overhead = o,
            Change::Request(r) => g.request = r,
            Change::Limit(l) => g.limit = l,
            Change::State(s) => g.state = s,
            Change::Silent(s) => g.silent = s,
            Change::Untouchable(u) => g.untouchable = u,
            Change::OptOut(o) => g.opt_out = o,
            Change::Listed(l) => g.listed = l,
            Change::Class(c) => g.class = c,
            Change::Migrating(m) => g.migrating = m,
            Change::SwapIn(n) => g.swap_in = g.swap_in.saturating_add(n),
            Change::Faults(n) => g.faults = g.faults.saturating_add(n),
            Change::Plugs(n) => g.plugged = n,
            Change::Plugging(p) => g.plugging = p,
            Change::Reboot => {
                (g.swap_in, g.faults, self.minor_faults) = (0, 0, 0);
                self.boots = true;
            }
            Change::Restart => {
                (g.swap_in, g.faults, self.minor_faults) = (0, 0, 0);
                g.process = Some(g.process.unwrap_or(0) + 1);
                g.started = u64::try_from(now.as_millis() / 10).unwrap_or(u64::MAX);
                g.actual = g.full;
                self.device = g.full;
                (self.stamp, self.boots) = (None, false);
            }
            Change::LoseProcess => g.process = None,
            Change::Shown(true) => self.told = None,
            Change::Shown(false) => self.told = self.told.or(Some(told)),
            Change::Present(p) => g.present = p,
        }
    }

    fn report(&mut self, wall: i64) {
        self.stamp = match self.guest.stamp {
            _ if self.guest.state == RunState::Paused => self.stamp,
            Stamp::Now => Some(wall.unsigned_abs()),
            Stamp::Frozen => self.stamp,
            Stamp::Absent => None,
            Stamp::Raw(n) => Some(n),
            Stamp::Off(n) => Some(wall.saturating_add(n).unsigned_abs()),
        };
    }

    fn process(&self) -> Option<Incarnation> {
        let start_ticks = self.guest.started;
        self.guest.process.map(|pid| Incarnation { pid, start_ticks })
    }

    /// What its processes hold.
    fn anon(&self) -> Bytes {
        let g = &self.guest;
        g.held.unwrap_or(g.used.plus(g.cache).min(g.all())).plus(g.overhead.unwrap_or_default())
    }

    /// What is seen of its process; nothing of one that is not found.
    fn facts(&self) -> ProcessFacts {
        let (g, anon) = (&self.guest, self.anon());
        if g.process.is_none() {
            return ProcessFacts::default();
        }
        ProcessFacts {
            repeated: None,
            merging: None,
            swappable: None,
            swapped: None,
            resident: Some(anon),
            anon: Some(anon),
            overhead: g.overhead,
            request: g.request,
            limit: g.limit,
            bound: g.limit,
            faults: None,
        }
    }

    fn sample(&self, index: usize, now: Duration) -> Option<GuestSample> {
        let g = &self.guest;
        let used = g.used.min(g.all());
        let told = self.told.unwrap_or(Told { at: now, process: self.process(), facts: self.facts() });
        g.present.then(|| GuestSample {
            id: GuestId::new(format!("g{index}")),
            name: g.name(index),
            incarnation: told.process,
            config: GuestConfig {
                full: g.full,
                plugged: g.plugged,
                plugging: g.plugging,
                has_balloon: g.has_balloon,
                free_page_reporting: false,
                untouchable: g.untouchable.into_iter().collect(),
                vcpus: None,
            },
            run_state: g.state,
            balloon: (!g.silent && g.state != RunState::Unreachable).then(|| self.balloon(used)),
            facts: told.facts,
            facts_age: Some(now.saturating_sub(told.at)),
            trouble: None,
        })
    }

    fn balloon(&self, used: Bytes) -> Balloon {
        let g = &self.guest;
        let all = if self.boots { g.all().max(g.full.plus(g.plugged)) } else { g.all() };
        let usable = all.minus(used);
        let (available, unused, usable) = match g.words {
            Words::Honest => (Some(all), Some(usable.minus(g.cache)), Some(usable)),
            Words::Raw { total, unused, usable } => (total, unused, usable),
        };
        Balloon {
            actual: g.actual,
            last_update: self.stamp,
            period: g.period,
            available,
            unused,
            usable,
            swap_in: Some(Bytes::new(g.swap_in)),
            swap_out: Some(Bytes::new(g.swap_in)),
            major_faults: Some(g.faults),
            minor_faults: Some(self.minor_faults),
        }
    }
}
