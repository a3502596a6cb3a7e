//! One turn: fold, decide, guard. The only function that a node, a simulator and a replay call.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::adaptive::{self, Purpose, Wish};
use crate::eligibility::{Standing, standing};
use crate::floor;
use crate::guard::{self, Scene, Takings};
use crate::ledger::{Growth, Ledger};
use crate::model::{Context, FOLLOW_TOLERANCE, Model, Track};
use crate::plan::{Command, Guarded, Outcome, Plan};
use crate::policy::{Mode, Policy, Reserve};
use crate::reason::{Hold, Reason};
use crate::roster::Roster;
use crate::sample::{GuestId, GuestName, Sample};
use crate::shadow;
use crate::units::Bytes;

/// Statistics period of a squeezed guest, in seconds: the shortest there is, for what it does not report it cannot be
/// given.
pub const SQUEEZED_PERIOD: u32 = 1;

/// Everything that lasts from turn to turn.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    model: Model,
    growth: Growth,
    takings: Takings,
    /// Targets that were commanded.
    targets: BTreeMap<GuestId, Bytes>,
    /// Targets of the shadow balloon.
    shadow: BTreeMap<GuestId, Bytes>,
    originals: BTreeMap<GuestId, Original>,
}

/// What a guest had before the loop touched it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Original {
    /// Balloon target to give back.
    pub target: Bytes,
    /// Statistics period to restore, seconds; absent if unknown.
    pub period: Option<u32>,
}

/// Why this turn is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// The control period is over: everything is decided.
    Tick,
    /// Something new is known: gives, and takes for those in distress.
    Relief,
    /// The loop goes away: spread what is spare, take nothing.
    Handover,
}

/// What a turn needs to know.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// The reading.
    pub sample: &'a Sample,
    /// The policy in force.
    pub policy: &'a Policy,
    /// The guests it covers.
    pub roster: &'a Roster,
    /// Why now.
    pub turn: Turn,
    /// Nothing may be taken; giving goes on.
    pub taking_paused: bool,
    /// Everything is to be given back.
    pub release: bool,
    /// The kubelet's eviction line.
    pub eviction: Bytes,
    /// A guest found with an inflated balloon keeps that as its ceiling (a host where others use balloons too);
    /// otherwise every guest may have its full size.
    pub keep_found: bool,
}

/// What a turn decided.
#[derive(Clone, Debug)]
pub struct Decision {
    /// What to do; empty while observing.
    pub plan: Plan<Guarded>,
    /// Statistics periods to set.
    pub periods: Vec<Command>,
    /// The account.
    pub ledger: Ledger,
    /// Every guest, with its reason.
    pub guests: Vec<GuestView>,
    /// How far a release has come; absent when none was asked for.
    pub release: Option<Release>,
    /// The plan was followed by shadow balloons only.
    pub observing: bool,
}

/// One guest after the decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestView {
    /// Identity.
    pub id: GuestId,
    /// Name.
    pub name: GuestName,
    /// Full size.
    pub full: Bytes,
    /// Target after this turn; of the shadow balloon while observing.
    pub target: Bytes,
    /// What it was before.
    pub previous_target: Bytes,
    /// What the guest holds; while observing, what it would hold.
    pub actual: Bytes,
    /// Below this nothing is taken.
    pub floor: Bytes,
    /// What it cannot do without, by its own words; absent while its statistics are worth nothing.
    pub used: Option<Bytes>,
    /// What could still be taken without cost to its working set.
    pub reclaimable: Bytes,
    /// It hurts.
    pub distressed: bool,
    /// It is left alone.
    pub exempt: bool,
    /// Its words are stale, missing or impossible, or its hypervisor is silent.
    pub blind: bool,
    /// Why.
    pub reason: Reason,
}

/// How far a release has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Release {
    /// Everything was given back.
    Done,
    /// Guests still follow.
    Underway {
        /// What is still out.
        outstanding: Bytes,
    },
    /// The node lacks the memory to give it back.
    Blocked {
        /// What is missing.
        short: Bytes,
    },
}

impl State {
    /// Takes over what a journal knows: originals, and the targets in force.
    pub fn adopt(&mut self, id: GuestId, original: Original, target: Bytes) {
        self.targets.insert(id.clone(), target);
        self.originals.insert(id, original);
    }

    /// What each guest had before it was touched.
    pub fn originals(&self) -> &BTreeMap<GuestId, Original> {
        &self.originals
    }

    /// What is known of every guest.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The targets in force.
    pub fn targets(&self) -> &BTreeMap<GuestId, Bytes> {
        &self.targets
    }

    /// Notes what became of commands: a command that failed changed nothing.
    pub fn note(&mut self, outcomes: &[Outcome]) {
        for outcome in outcomes {
            if let (Command::SetTarget { id, to, .. }, Ok(())) = (&outcome.command, &outcome.result) {
                self.targets.insert(id.clone(), *to);
            }
        }
    }

    /// Decides one turn.
    pub fn step(&mut self, input: &Input<'_>) -> Decision {
        self.meet(input);
        let giving_back =
            input.release || (input.policy.mode == Mode::Observe && self.holds_anything(input.sample));
        let observing = input.policy.mode == Mode::Observe && !giving_back;
        if !observing {
            self.shadow.clear();
        }
        let shown = if observing { Some(shadow::overlay(input.sample, &self.shadow)) } else { None };
        let sample = shown.as_ref().unwrap_or(input.sample);
        let ceilings = self.originals.iter().map(|(id, o)| (id.clone(), o.target)).collect();
        let targets = if observing { &self.shadow } else { &self.targets };
        self.model.fold(sample, Context { roster: input.roster, targets, ceilings: &ceilings });
        if input.turn == Turn::Tick {
            self.growth.note(&sample.host, &self.model);
        }
        let reserve = if giving_back { &Reserve::NONE } else { &input.policy.reserve };
        let ledger = Ledger::of(&sample.host, &self.model, reserve, &self.growth, input.eviction);
        let wish = self.wish(input, &ledger, giving_back);
        let scene = Scene {
            model: &self.model,
            ledger: &ledger,
            policy: input.policy,
            now: sample.at,
            taking_paused: input.taking_paused || input.turn == Turn::Handover,
        };
        let verdict = guard::guard(&wish.proposal, &scene, &mut self.takings);
        let guests = views(&scene, &verdict.plan, &wish.rest, &verdict.dropped);
        let release = giving_back.then(|| self.release_state(&ledger));
        let plan = if observing { self.follow(&verdict.plan) } else { verdict.plan };
        let periods = self.periods(&plan, observing);
        Decision { plan, periods, ledger, guests, release, observing }
    }

    /// Remembers what a guest had when it was first seen, and forgets guests that are gone.
    fn meet(&mut self, input: &Input<'_>) {
        let listed = |id: &GuestId| input.sample.guests.iter().any(|g| g.id == *id);
        self.targets.retain(|id, _| listed(id));
        self.shadow.retain(|id, _| listed(id));
        self.originals.retain(|id, _| listed(id));
        for guest in &input.sample.guests {
            let Some(balloon) = guest.balloon else { continue };
            self.originals.entry(guest.id.clone()).or_insert_with(|| Original {
                target: if input.keep_found { balloon.actual } else { guest.config.full },
                period: balloon.period,
            });
        }
    }

    fn holds_anything(&self, sample: &Sample) -> bool {
        sample.guests.iter().any(|guest| {
            let original = self.originals.get(&guest.id).map(|o| o.target);
            self.targets
                .get(&guest.id)
                .copied()
                .zip(original)
                .is_some_and(|(target, original)| target < original)
        })
    }

    fn wish(&self, input: &Input<'_>, ledger: &Ledger, giving_back: bool) -> Wish {
        if giving_back {
            return adaptive::release(&self.model);
        }
        let purpose = if input.turn == Turn::Handover { Purpose::Handover } else { Purpose::Control };
        let mut wish = adaptive::propose(&self.model, ledger, input.policy, input.sample.at, purpose);
        if input.turn == Turn::Relief && !self.model.tracks().any(|t| t.pain.is_some() && t.is_squeezed()) {
            let gives = wish.proposal.moves().iter().filter(|m| !m.takes()).cloned().collect();
            wish.proposal = Plan::proposed(gives);
        }
        wish
    }

    fn follow(&mut self, plan: &Plan<Guarded>) -> Plan<Guarded> {
        for step in plan.moves() {
            self.shadow.insert(step.id.clone(), step.to);
        }
        Plan::vouched(Vec::new())
    }

    /// Squeezed guests report often; the others at the period they had.
    fn periods(&self, plan: &Plan<Guarded>, observing: bool) -> Vec<Command> {
        let wanted = |track: &Track| {
            let target = plan.of(&track.sample.id).map_or(track.target, |m| m.to);
            if !observing && target < track.ceiling {
                return Some(SQUEEZED_PERIOD);
            }
            self.originals.get(&track.sample.id)?.period
        };
        let tracks = self.model.tracks().filter(|t| t.is_reachable() && t.sample.config.has_balloon);
        tracks
            .filter_map(|track| {
                let (now, seconds) = (track.sample.balloon?.period?, wanted(track)?);
                (now != seconds).then(|| Command::SetPeriod { id: track.sample.id.clone(), seconds })
            })
            .collect()
    }

    fn release_state(&self, ledger: &Ledger) -> Release {
        let outstanding: Bytes = self.model.tracks().map(|t| t.ceiling.minus(t.target)).sum();
        let following = self.model.tracks().filter(|t| !t.stuck && t.sample.config.has_balloon);
        let moving = following.map(|t| t.target.minus(t.actual)).any(|left| left > FOLLOW_TOLERANCE);
        match outstanding {
            Bytes::ZERO if !moving => Release::Done,
            Bytes::ZERO => Release::Underway { outstanding },
            _ if ledger.spare < outstanding => Release::Blocked { short: outstanding.minus(ledger.spare) },
            _ => Release::Underway { outstanding },
        }
    }
}

fn views(
    scene: &Scene<'_>,
    plan: &Plan<Guarded>,
    rest: &BTreeMap<GuestId, Reason>,
    dropped: &BTreeMap<GuestId, Reason>,
) -> Vec<GuestView> {
    let view = |track: &Track| {
        let id = &track.sample.id;
        let step = plan.of(id);
        let standing = standing(track, scene.policy, scene.now);
        let (floor, _) = standing
            .class()
            .map_or((track.ceiling, crate::reason::FloorKind::Part), |class| floor::of(track, class));
        let target = step.map_or(track.target, |m| m.to);
        let open = matches!(standing, Standing::Open(_));
        let held = match standing {
            Standing::Exempt(reason) => Some(reason),
            Standing::GiveOnly(_, hold) if !matches!(hold, Hold::Busy) || track.is_reachable() => {
                Some(Reason::Held(hold))
            }
            _ => None,
        };
        let reason = step.map(|m| m.reason).or_else(|| dropped.get(id).copied()).or(held);
        GuestView {
            id: id.clone(),
            name: track.sample.name.clone(),
            full: track.sample.config.full,
            target,
            previous_target: track.target,
            actual: track.actual,
            floor,
            used: track.used(),
            reclaimable: if open { target.minus(floor.max(track.demand)) } else { Bytes::ZERO },
            distressed: track.pain.is_some() && track.is_squeezed(),
            exempt: matches!(standing, Standing::Exempt(_)),
            blind: track.evidence.fresh().is_none() || !track.is_reachable(),
            reason: reason.or_else(|| rest.get(id).copied()).unwrap_or(Reason::FullSize),
        }
    };
    scene.model.tracks().map(view).collect()
}
