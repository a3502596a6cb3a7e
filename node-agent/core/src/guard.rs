//! What no engine and no policy can override (design §6).
//!
//! In order: takes are dropped or shortened, takes whose effect failed are undone, then gives are cut to what the budget can pay. A take is paid for by
//! the donor before anybody is given it: spare memory is counted from what guests hold, not from what they were
//! asked to give.

use std::collections::BTreeMap;
use std::time::Duration;

use bumpalo::Bump;
use bumpalo::collections::Vec;
use serde::{Deserialize, Serialize};

use crate::by_guest::ByGuest;
use crate::conduct::FOLLOW_TOLERANCE;
use crate::eligibility::{Standing, standing};
use crate::floor::{self, Headroom};
use crate::ledger::Ledger;
use crate::model::{Model, Track};
use crate::plan::{Guarded, Move, Plan, Proposal};
use crate::policy::{Class, Policy};
use crate::reason::{Cut, FloorKind, Hold, Reason};
use crate::sample::GuestId;
use crate::units::{Bytes, Monotonic};

/// What was taken in the running interval, and on which statistics.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Takings {
    began: Option<Monotonic>,
    node: Bytes,
    guests: BTreeMap<GuestId, Bytes>,
    used_update: BTreeMap<GuestId, u64>,
}

/// A tick's sample is of the moment at which hypervisors had answered, which comes a little sooner after it was due than the
/// last one's did, or later. The next interval may begin by this part of it early, with a tick.
const EARLY: u32 = 10;

impl Takings {
    /// Begins a new interval if the last one is over. Where it is early, that counts from when it was due, so that in the long run
    /// no more is taken than once in an interval. Guests that are gone are forgotten only then: one that is out of sight for a
    /// turn is the same when it is back.
    fn renew(&mut self, scene: &Scene<'_>) {
        let (now, interval, model) = (scene.now, scene.interval(), scene.model);
        let early = interval.checked_div(EARLY).filter(|_| scene.tick).unwrap_or_default();
        let due = self.began.map_or(now, |began| began.after(interval));
        if now.after(early) >= due {
            self.began = Some(now.max(due));
            self.node = Bytes::ZERO;
            self.guests.retain(|id, _| model.track(id).is_some());
            self.used_update.retain(|id, _| model.track(id).is_some());
            self.guests.values_mut().for_each(|taken| *taken = Bytes::ZERO);
        }
    }

    fn note(&mut self, track: &Track, amount: Bytes) {
        self.node = self.node.plus(amount);
        let id = track.sample.id.clone();
        let sum = self.guests.entry(id.clone()).or_default();
        *sum = sum.plus(amount);
        if let Some(update) = track.last_update {
            self.used_update.insert(id, update);
        }
    }
}

/// What the guard looks at beside the plan.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'a> {
    /// The guests.
    pub model: &'a Model,
    /// The account.
    pub ledger: &'a Ledger,
    /// The policy.
    pub policy: &'a Policy,
    /// Now.
    pub now: Monotonic,
    /// Why nothing may be taken from anybody, if so.
    pub no_takes: Option<Hold>,
    /// An emergency is declared: floors are those of an emergency, and limits hold per second.
    pub emergency: bool,
    /// Memory for what is needed until the turn is over.
    pub arena: &'a Bump,
    /// Guests need more than there is: some wait their turn.
    pub turns: bool,
    /// The decision is the control period's own.
    pub tick: bool,
}

/// In an emergency takes are bounded per this time instead of per control period: statistics come no faster.
const EMERGENCY_INTERVAL: Duration = Duration::from_secs(1);

impl Scene<'_> {
    /// Below this nothing is taken from `track`.
    pub fn floor(&self, track: &Track, class: &Class) -> (Bytes, FloorKind) {
        let headroom = if self.turns { Headroom::Close } else { Headroom::Regular };
        if self.emergency { floor::in_emergency(track, class) } else { floor::with(headroom, track, class) }
    }

    fn interval(&self) -> Duration {
        let regular = self.policy.interval;
        if self.emergency { regular.min(EMERGENCY_INTERVAL) } else { regular }
    }
}

/// A guarded plan, and the reason for every move that was dropped or shortened.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// What may be done.
    pub plan: Plan<Guarded>,
    /// Why the rest may not.
    pub dropped: ByGuest<Reason>,
    /// Why of what may be done not all may.
    pub cut: ByGuest<Cut>,
}

/// Passes what is safe, into an empty verdict.
pub fn guard(proposal: &Proposal, scene: &Scene<'_>, takings: &mut Takings, verdict: &mut Verdict) {
    takings.renew(scene);
    let Verdict { plan, dropped, cut } = verdict;
    let mut purse = Purse::of(scene.ledger);
    let takes = proposal.moves().iter().filter(|m| m.takes());
    for step in takes {
        let Some(track) = scene.model.track(&step.id) else { continue };
        if !track.is_reachable() {
            dropped.insert(step.id.clone(), Reason::Unreachable);
            continue;
        }
        match guard_take(step, track, scene, takings) {
            Ok((allowed, why)) => {
                takings.note(track, allowed.from.minus(allowed.to));
                note_cut(cut, step, &allowed, why);
                plan.vouch(allowed);
            }
            Err(hold) => dropped.insert(step.id.clone(), Reason::Held(hold)),
        }
    }
    let gives = gives(proposal, scene);
    let of = |step: &Move| Rank::of(step, scene.model);
    for step in ORDER.iter().flat_map(|rank| gives.iter().filter(move |step| of(step) == *rank)) {
        // Who is taken from anew after a back-off starts anew: what is still owed for the last take is not paid too.
        if plan.of(&step.id).is_some_and(Move::takes) {
            continue;
        }
        let Some(track) = scene.model.track(&step.id) else { continue };
        if !track.is_reachable() {
            dropped.insert(step.id.clone(), Reason::Unreachable);
            continue;
        }
        match guard_give(step, track, purse.open_for(step, scene.model)) {
            Some(allowed) => {
                purse.pay(track.cost(allowed.to));
                let by_pod = !restores(step.reason) && allowed.to >= track.cap();
                let why = if by_pod { Cut::PodLimit } else { Cut::Spare };
                note_cut(cut, step, &allowed, Some(why));
                plan.vouch(allowed);
            }
            None => dropped.insert(step.id.clone(), Reason::Waiting),
        }
    }
}

/// Notes why less is allowed than was wanted; what whole pages make of it is none.
fn note_cut(cut: &mut ByGuest<Cut>, wanted: &Move, allowed: &Move, why: Option<Cut>) {
    let apart = wanted.to.minus(allowed.to).max(allowed.to.minus(wanted.to));
    let less = if wanted.takes() { allowed.to > wanted.to } else { allowed.to < wanted.to };
    if let Some(why) = why.filter(|_| less && apart >= Bytes::from_kib(4)) {
        cut.insert(wanted.id.clone(), why);
    }
}

/// What a give is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rank {
    Undo,
    Distress,
    Rest,
}

/// In which order gives are paid.
const ORDER: [Rank; 3] = [Rank::Undo, Rank::Distress, Rank::Rest];

impl Rank {
    /// Whatever it is given for: while all is given back, too, who hurts comes before who does not.
    fn of(step: &Move, model: &Model) -> Self {
        match step.reason {
            Reason::Undo(_) => Self::Undo,
            Reason::GiveDistress(_) => Self::Distress,
            _ if model.track(&step.id).is_some_and(|track| track.pain.is_some()) => Self::Distress,
            _ => Self::Rest,
        }
    }
}

/// What may be promised beyond what is.
struct Purse {
    spare: Bytes,
    /// As [`Ledger::backed`].
    backed: Bytes,
}

impl Purse {
    fn of(ledger: &Ledger) -> Self {
        Self { spare: ledger.spare, backed: ledger.backed() }
    }

    fn open_for(&self, step: &Move, model: &Model) -> Bytes {
        let lacks = matches!(step.reason, Reason::GiveNeed | Reason::GiveBlind | Reason::GiveReboot);
        if lacks || Rank::of(step, model) != Rank::Rest { self.spare.plus(self.backed) } else { self.spare }
    }

    fn pay(&mut self, cost: Bytes) {
        self.backed = self.backed.minus(cost.minus(self.spare));
        self.spare = self.spare.minus(cost);
    }
}

/// What is to be given.
fn gives<'a>(proposal: &Proposal, scene: &Scene<'a>) -> Vec<'a, Move> {
    let mut gives = Vec::with_capacity_in(proposal.moves().len(), scene.arena);
    gives.extend(proposal.moves().iter().filter(|m| !m.takes()).cloned());
    for track in scene.model.tracks() {
        let Some(undo) = track.conduct.undo() else { continue };
        let wished = gives.iter().position(|m| m.id == track.sample.id).map(|at| gives.swap_remove(at).to);
        // In distress it may have been given by now what its balloon gave back by itself: what it gets on being found out
        // says so all the same, for nothing else tells of it.
        if wished.is_none() && undo.to.min(track.ceiling) <= track.target {
            continue;
        }
        let to = wished.unwrap_or_default().max(undo.to);
        gives.push(Move::of(track, to, Reason::Undo(undo.failure)));
    }
    gives
}

/// What may be taken, and why that is not all, if so.
fn guard_take(
    step: &Move,
    track: &Track,
    scene: &Scene<'_>,
    takings: &Takings,
) -> Result<(Move, Option<Cut>), Hold> {
    if let Some(hold) = scene.no_takes {
        return Err(hold);
    }
    if scene.ledger.reserve_keeps_all() {
        return Err(Hold::ReserveTooLarge);
    }
    let class = match standing(track, scene.policy, scene.now) {
        Standing::Open(class) => class,
        Standing::GiveOnly(_, hold) => return Err(hold),
        // An engine that wants to take from an exempt guest is wrong whatever the exemption is.
        Standing::Exempt(_) => return Err(Hold::TakingPaused),
    };
    // The adaptive engine knows what it does where everybody hurts; of a program nobody knows.
    if let (Reason::TakeProgram(_), Some(pain)) = (step.reason, track.pain) {
        return Err(Hold::Hurts(pain));
    }
    // What it had would be wherever its balloon is at this moment.
    if track.moves {
        return Err(Hold::BalloonMoves);
    }
    if takings.used_update.get(&step.id) == track.last_update.as_ref() && track.last_update.is_some() {
        return Err(Hold::AwaitingStatistics);
    }
    let limits = &scene.policy.limits;
    let full = track.sample.config.full;
    // Targets must not run away from a guest that inflates slowly: it would give far more than was decided.
    if track.actual.minus(track.target) > limits.take_per_guest.of(full).max(FOLLOW_TOLERANCE) {
        return Err(Hold::BalloonLags);
    }
    let (floor, kind) = scene.floor(track, class);
    let taken = takings.guests.get(&step.id).copied().unwrap_or_default();
    let guest_left = limits.take_per_guest.of(full).minus(taken);
    let node_left = limits.take_per_node.of(scene.ledger.total).minus(takings.node);
    let wanted = track.target.minus(step.to);
    let lefts = [
        (node_left, Cut::NodeLimit),
        (guest_left, Cut::GuestLimit),
        (track.target.minus(floor), Cut::Floor(kind)),
    ];
    let tightest = lefts.into_iter().filter(|(left, _)| *left < wanted).min_by_key(|(left, _)| *left);
    let amount = tightest.map_or(wanted, |(left, _)| left);
    // Whole pages, never one more than the limits allow.
    let to = track.target.minus(amount).to_balloon_page_ceil().max(floor);
    if to >= track.target || amount < limits.dead_band.of(full).min(wanted) {
        return Err(match tightest {
            Some((_, Cut::NodeLimit)) => Hold::NodeLimit,
            Some((_, Cut::GuestLimit)) => Hold::GuestLimit,
            _ => Hold::AtFloor(kind),
        });
    }
    Ok((Move { from: track.target, to, ..step.clone() }, tightest.map(|(_, cut)| cut)))
}

/// What ends our hold on a guest, or an action that failed.
fn restores(reason: Reason) -> bool {
    matches!(reason, Reason::GiveRelease | Reason::GiveExempt | Reason::Undo(_))
}

/// Giving has no limit but the budget, the guest's size, and its cgroup's limit less overhead. What ends our hold on a
/// guest is not bound by the limit: it had that much before us, whatever its overhead has grown to since. Who holds more than it was
/// left with keeps that, which costs nothing, for it is charged already: a target between would take, and no floor was asked.
fn guard_give(step: &Move, track: &Track, spare: Bytes) -> Option<Move> {
    let restores = restores(step.reason);
    let most = if restores { track.ceiling } else { track.cap() };
    let to = step.to.min(most).min(track.affordable(spare)).to_balloon_page_floor();
    // A ceiling need not be a multiple of a page: reaching it counts, where its pod may hold that much.
    let reached = step.to.min(most) >= track.ceiling && to == track.ceiling.to_balloon_page_floor();
    let to = if reached { track.ceiling } else { to };
    let held = track.actual.min(track.reach());
    let kept = if restores { held } else { held.min(track.limit()) };
    let to = match track.conduct.is_on_its_way(track.actual) {
        true => to,
        // What it may keep is less than what it holds: any target would take.
        false if kept < held && to < held => return None,
        false => to.max(kept),
    };
    (to > track.target).then(|| Move { from: track.target, to, ..step.clone() })
}
