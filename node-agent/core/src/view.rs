//! Every guest after a decision: what was known of it, what was decided, and why. Status, metrics, the terminal and
//! `explain` all render this value.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::adaptive::Wish;
use crate::conduct::{Trust, Underway};
use crate::contest::Contested;
use crate::eligibility::{Standing, standing};
use crate::evidence::{Evidence, Statistics};
use crate::guard::{Scene, Verdict};
use crate::model::Track;
use crate::reason::{Cut, Failure, FloorKind, Hold, Pain, Reason};
use crate::sample::{GuestId, GuestName, ProcessFacts, RunState};
use crate::turns::Place;
use crate::units::Bytes;

/// One guest after the decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestView {
    /// Identity.
    pub id: GuestId,
    /// Name.
    pub name: GuestName,
    /// Full size.
    pub full: Bytes,
    /// What it had before the agent and is given back, where somebody else left it less than its full size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left: Option<Bytes>,
    /// Memory that was plugged into it besides.
    pub plugged: Bytes,
    /// Target after this turn; of the shadow balloon while observing.
    pub target: Bytes,
    /// What it was before.
    pub previous_target: Bytes,
    /// What the engine wanted; absent when it wanted no change.
    pub wished: Option<Bytes>,
    /// Why the guard allowed less than that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut: Option<Cut>,
    /// What the guest holds; while observing, what it would hold.
    pub actual: Bytes,
    /// Below this nothing is taken.
    pub floor: Bytes,
    /// What the floor is made of.
    pub floor_kind: FloorKind,
    /// What it cannot do without, by its own words; absent while its statistics are worth nothing.
    pub used: Option<Bytes>,
    /// What it should have for that, with headroom, remembered for a while.
    pub demand: Bytes,
    /// By how much more it used per second lately; no growth is 0.
    pub rise: Bytes,
    /// What could still be taken without cost to its working set.
    pub reclaimable: Bytes,
    /// What the node has promised for it, overhead included.
    pub charge: Bytes,
    /// Its own words; absent while they are stale, missing or impossible.
    pub statistics: Option<Statistics>,
    /// How old its last statistics are; absent if none came.
    pub statistics_age: Option<Duration>,
    /// What the host's kernel says of it.
    pub facts: ProcessFacts,
    /// How long ago it last showed the guest's process; absent if it never did.
    pub facts_age: Option<Duration>,
    /// What its hypervisor says it does.
    pub run_state: RunState,
    /// How it hurts, if it does.
    pub pain: Option<Pain>,
    /// It hurts, and holds less than it may.
    pub distressed: bool,
    /// Whose turn it is, while guests need more than there is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turn: Option<Place>,
    /// It is left alone.
    pub exempt: bool,
    /// Its words are stale, missing or impossible, or its hypervisor is silent.
    pub blind: bool,
    /// Whether its balloon is believed.
    pub trust: Trust,
    /// The take that is under observation.
    pub underway: Option<Underway>,
    /// Which expectation of a take failed last; absent since one succeeded.
    pub failure: Option<Failure>,
    /// How long nothing is tried yet after a failure.
    pub back_off: Option<Duration>,
    /// Somebody else keeps lowering its balloon below its target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contested: Option<Contested>,
    /// Why.
    pub reason: Reason,
    /// What the policy's program failed on for it, with the place; what of it was not done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<Arc<str>>,
}

impl GuestView {
    /// The most that it is given.
    pub fn ceiling(&self) -> Bytes {
        self.left.unwrap_or(self.full)
    }

    /// Why, in words, with what the program said.
    pub fn why(&self) -> String {
        let reason = match (self.reason, self.left) {
            (Reason::FullSize, Some(left)) => {
                format!("has all that it had: somebody else had left it {left}")
            }
            (reason, _) => reason.to_string(),
        };
        match &self.program {
            Some(words) => format!("{reason} ({words})"),
            None => reason,
        }
    }
}

/// All guests after `verdict` on `wish`.
pub(crate) fn views(scene: &Scene<'_>, wish: &Wish, verdict: &Verdict) -> impl Iterator<Item = GuestView> {
    scene.model.tracks().map(|track| view(scene, wish, verdict, track))
}

fn view(scene: &Scene<'_>, wish: &Wish, verdict: &Verdict, track: &Track) -> GuestView {
    let id = &track.sample.id;
    let step = verdict.plan.of(id);
    let standing = standing(track, scene.policy, scene.now);
    let (floor, floor_kind) =
        standing.class().map_or((track.ceiling, FloorKind::Part), |class| scene.floor(track, class));
    let target = step.map_or(track.target, |m| m.to);
    let gives = matches!(standing, Standing::Open(_));
    let reason = step.map(|m| m.reason).or_else(|| verdict.dropped.get(id).copied());
    GuestView {
        id: id.clone(),
        name: track.sample.name.clone(),
        full: track.sample.config.full,
        left: Some(track.ceiling).filter(|ceiling| *ceiling < track.sample.config.full),
        plugged: track.plugged(),
        target,
        previous_target: track.target,
        wished: wish.proposal.of(id).map(|m| m.to),
        cut: verdict.cut.get(id).copied(),
        actual: track.actual,
        floor,
        floor_kind,
        used: track.used(),
        demand: track.demand,
        rise: track.rise,
        reclaimable: if gives { target.minus(floor.max(track.demand)) } else { Bytes::ZERO },
        charge: track.charge(),
        statistics: track.evidence.fresh().copied(),
        statistics_age: track.statistics_age(scene.now),
        facts: track.sample.facts,
        facts_age: track.shown_at.map(|shown| scene.now.since(shown)),
        run_state: track.sample.run_state,
        pain: track.pain,
        distressed: track.pain.is_some() && track.is_squeezed(),
        turn: track.turn,
        exempt: matches!(standing, Standing::Exempt(_)),
        blind: !matches!(track.evidence, Evidence::Fresh(_)) || !track.is_reachable(),
        trust: track.conduct.trust(),
        underway: track.conduct.underway(scene.now),
        failure: track.conduct.last_failure(),
        back_off: track.conduct.back_off(scene.now).map(|(left, _)| left),
        contested: track.contested.filter(|_| standing.class().is_some()),
        reason: reason
            .or_else(|| held(&standing, track))
            .or_else(|| wish.rest.get(id).copied())
            .unwrap_or(if target < track.ceiling { Reason::Enough } else { Reason::FullSize }),
        program: None,
    }
}

/// The reason of a guest that nobody wanted to move.
fn held(standing: &Standing<'_>, track: &Track) -> Option<Reason> {
    match standing {
        // It is owed what was taken from it.
        Standing::Exempt(_) if track.is_ours() && track.is_squeezed() && !track.is_reachable() => {
            Some(Reason::Unreachable)
        }
        Standing::Exempt(reason) => Some(*reason),
        Standing::GiveOnly(_, Hold::Busy) if !track.is_reachable() => None,
        Standing::GiveOnly(_, hold) => Some(Reason::Held(*hold)),
        Standing::Open(_) => None,
    }
}
