//! One turn: fold, decide, guard. The only function that a node, a simulator and a replay call.

mod again;
mod decision;

use bumpalo::Bump;
use serde::{Deserialize, Serialize};

use crate::adaptive::{self, Purpose, Wish};
use crate::apart::Apart;
use crate::dealings::{Dealing, Dealings, Force, Original};
use crate::eligibility::standing;
use crate::emergency::Emergency;
use crate::growth::Growth;
use crate::guard::{self, Scene, Takings};
use crate::ksm::{self, Merging};
use crate::ledger::{Kept, Ledger};
use crate::model::{Context, FIRST_LOOK, Model, Track};
use crate::mom;
use crate::plan::{Command, Failed, Guarded, Outcome, Plan};
use crate::policy::{Mode, Policy, Reserve};
use crate::reason::{Hold, Pain};
use crate::sample::{GuestId, Sample};
use crate::shadow;
use crate::stranger::Unlisted;
use crate::turns::Turns;
use crate::units::{Bytes, Monotonic};
use crate::view::views;
use crate::workshop::Workshop;

pub use decision::{Decision, Input, Mandate, Release, Turn};

/// Statistics period of a squeezed guest, in seconds: the shortest there is, for what it does not report it cannot be
/// given.
pub const SQUEEZED_PERIOD: u32 = 1;

/// Everything that lasts from turn to turn.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    model: Model,
    growth: Growth,
    takings: Takings,
    dealings: Dealings,
    emergency: Emergency,
    #[serde(default)]
    turns: Turns,
    #[serde(default)]
    merging: Merging,
    #[serde(default, skip_serializing_if = "mom::Memory::is_empty")]
    mom: mom::Memory,
    now: Monotonic,
    /// When the first decision was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    began: Option<Monotonic>,
    #[serde(skip)]
    workshop: Apart<Option<Box<Workshop>>>,
}

impl State {
    /// Takes over what a journal knows: what the guest had, and the target in force.
    pub fn adopt(&mut self, id: &GuestId, original: Original, target: Bytes) {
        let dealing = self.dealings.with(id);
        dealing.force = Force::Known;
        dealing.target = Some(target);
        dealing.hurried = true;
        dealing.original = Some(original);
    }

    /// As [`State::adopt`], while it is not known whether that target is the one in force: until it is, the guest is not
    /// judged by it.
    pub fn suppose(&mut self, id: &GuestId, original: Original, target: Bytes) {
        self.adopt(id, original, target);
        self.dealings.with(id).force = Force::Supposed;
    }

    /// Takes over what a journal knows of a guest that was seen to have all that it had: what it holds by now is its owner's doing, as if it
    /// had never been touched.
    pub fn leave(&mut self, id: &GuestId, original: Original) {
        *self.dealings.with(id) = Dealing::left(original);
    }

    /// Takes over what a journal knows of the kernel's knobs for merging.
    pub fn adopt_knobs(&mut self, held: ksm::Held) {
        self.merging.adopt(held);
    }

    /// Whether the kernel's knobs are being written, when the next sample is taken.
    pub fn note_knobs(&mut self, under_way: bool) {
        self.merging.note_writing(under_way);
    }

    /// Takes in what the knobs are once all was written.
    pub fn confirm_knobs(&mut self, now: &ksm::Knobs) {
        self.merging.confirm(now);
    }

    /// What is held of the kernel's knobs for merging.
    pub fn merging(&self) -> &Merging {
        &self.merging
    }

    /// What the policy's program saw in its last cycle, and what it said; absent before it was evaluated.
    pub fn program_saw(&self) -> Option<mom::Seen> {
        self.mom.seen()
    }

    /// What was learned of this node, to be kept for a successor.
    pub fn learned(&self) -> &Growth {
        &self.growth
    }

    /// Goes on from what a predecessor learned.
    pub fn recall(&mut self, learned: Growth) {
        self.growth = learned.inherited();
    }

    /// What was done to every guest, and what it had before.
    pub fn dealings(&self) -> &Dealings {
        &self.dealings
    }

    /// What is known of every guest.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Notes that a guest was seen to hurt from outside.
    pub fn note_pain(&mut self, id: &GuestId, pain: Pain, at: Monotonic) {
        self.model.note_pain(id, pain, at);
    }

    /// Notes what became of commands: one that was refused changed nothing. One that nobody answered may have taken effect, and may
    /// yet: the guest may have the larger of both targets, and that one is set again until somebody answers.
    pub fn note(&mut self, outcomes: &[Outcome]) {
        for Outcome { command, result } in outcomes {
            let refused = matches!(result, Err(Failed::Refused(_)));
            let in_doubt = matches!(result, Err(Failed::Unanswered { .. }));
            match command {
                Command::SetTarget { id, from, to } => {
                    let dealing = self.dealings.with(id);
                    // A smaller one may be answered while a larger one is under way.
                    dealing.asked = dealing.asked.filter(|asked| to < asked);
                    if refused {
                        dealing.contest.look_away();
                        continue;
                    }
                    let known = dealing.target.unwrap_or_default();
                    let target = if in_doubt { *from.max(to).max(&known) } else { *to };
                    dealing.force = if in_doubt { Force::InDoubt } else { Force::Known };
                    dealing.target = Some(target);
                    self.model.note_target(id, *from, target, self.now);
                }
                Command::SetPeriod { id, seconds } if !refused => {
                    let hurried = *seconds == SQUEEZED_PERIOD;
                    let dealing = self.dealings.with(id);
                    dealing.hurried = hurried || (in_doubt && dealing.hurried);
                }
                Command::SetPeriod { .. } => {}
            }
        }
    }

    /// Of some commands nobody knows what became of them: what is in force there is not known to be what should be.
    pub fn is_in_doubt(&self) -> bool {
        self.dealings.iter().any(|(_, dealing)| dealing.force == Force::InDoubt)
    }

    /// Decides one turn.
    pub fn step(&mut self, input: &Input<'_>) -> Decision {
        self.began.get_or_insert(input.sample.at);
        let mut workshop = self.workshop.0.take().unwrap_or_default();
        let decision = self.decide(input, &mut workshop);
        workshop.clear();
        self.workshop.0 = Some(workshop);
        decision
    }

    /// Takes a decision back that is of no more use: the next one is made of its memory.
    pub fn reuse(&mut self, mut decision: Decision) {
        decision.plan.clear();
        decision.periods.clear();
        decision.again.clear();
        decision.guests.clear();
        self.workshop.0.get_or_insert_default().decision = decision;
    }

    fn decide(&mut self, input: &Input<'_>, workshop: &mut Workshop) -> Decision {
        let Workshop { arena, wish, verdict, decision, shown } = workshop;
        let Decision { plan, mut periods, mut again, mut guests, .. } = std::mem::take(decision);
        self.now = input.sample.at;
        self.dealings.meet(input.sample, &self.model, input.keep_found);
        let giving_back = self.gives_back(input);
        let observing = input.policy.mode == Mode::Observe && !giving_back;
        self.begin_or_end_taking(observing, giving_back, input.sample);
        let sample =
            if observing { shadow::overlay(input.sample, &self.dealings, shown) } else { input.sample };
        self.fold(input, sample, observing);
        // Shadow balloons follow at once; that says nothing of real ones.
        if !observing {
            self.growth.note_followed(&self.model);
        }
        let unlisted = Unlisted::of(&sample.strangers);
        let ledger = self.account(input, sample, giving_back, unlisted.untouched);
        let emergency = self.emergency.declare(&sample.host, &ledger, input.eviction, sample.at);
        let takes = input.mandate == Mandate::Full && input.turn != Turn::Handover;
        self.take_turns(input.policy, &ledger, takes && !observing && !giving_back, arena);
        let scene = Scene {
            model: &self.model,
            ledger: &ledger,
            policy: input.policy,
            now: sample.at,
            no_takes: self.no_takes(takes, emergency),
            emergency: emergency && !observing,
            arena,
            turns: self.turns.are_taken(),
            tick: input.turn == Turn::Tick,
        };
        propose(&scene, input.turn, giving_back, wish);
        let program = self.mom.decide(&scene, sample, (!giving_back).then_some(input.turn), wish);
        verdict.plan = plan;
        guard::guard(&wish.proposal, &scene, &mut self.takings, verdict);
        if input.telling {
            guests.extend(views(&scene, wish, verdict).map(|view| self.mom.with_words(view)));
        }
        let mut plan = std::mem::take(&mut verdict.plan);
        if observing {
            self.follow(&plan);
            plan.clear();
        }
        self.note_asked(&plan);
        periods.extend(self.periods(&plan, input.policy, observing));
        if !observing {
            self.again(&plan, input.policy, giving_back, &mut again);
        }
        Decision {
            plan,
            periods,
            again,
            guests,
            unlisted,
            release: giving_back.then(|| self.release_state(&ledger, input.complete)),
            ledger,
            observing,
            emergency,
            turns: self.turns.are_taken(),
            ksm: self.merging.decide(&ksm_scene(input, &ledger, self.mom.asked())),
            program,
        }
    }

    /// Whether all is to be given back: a release, or what is left of a policy that took.
    fn gives_back(&self, input: &Input<'_>) -> bool {
        let holds = || self.dealings.iter().any(|(_, dealing)| dealing.holds_anything());
        input.mandate == Mandate::Release || (input.policy.mode == Mode::Observe && holds())
    }

    /// Without takes, and with nobody to go on with them, turns would leave those behind who wait; and where a program decides
    /// who has what, nobody is served in turns.
    fn take_turns(&mut self, policy: &Policy, ledger: &Ledger, takes: bool, arena: &Bump) {
        if takes && policy.mom.is_none() {
            self.turns.decide(&mut self.model, ledger, policy, self.now, arena);
        } else {
            self.turns.end(&mut self.model);
        }
    }

    /// Why nothing may be taken. To a loop that has just begun the memory of guests that it has not looked at is missing twice,
    /// in their promises and as the node's own: nobody is to pay for that.
    fn no_takes(&self, takes: bool, emergency: bool) -> Option<Hold> {
        if !takes {
            return Some(Hold::TakingPaused);
        }
        let begins = self.began.is_some_and(|began| self.now.since(began) < FIRST_LOOK) && !emergency;
        (begins && self.model.tracks().any(Track::is_unseen)).then_some(Hold::FirstLook)
    }

    /// While nothing is taken for good, who has all that it had is let go; once it is no plan any more, shadows are over.
    fn begin_or_end_taking(&mut self, observing: bool, giving_back: bool, sample: &Sample) {
        if observing || giving_back {
            self.dealings.let_rest(sample);
        }
        if !observing && self.dealings.iter().any(|(_, dealing)| dealing.shadow.is_some()) {
            self.dealings.iter_mut().for_each(|dealing| dealing.shadow = None);
            self.model.forget_shadows(&self.dealings);
        }
    }

    fn fold(&mut self, input: &Input<'_>, sample: &Sample, observing: bool) {
        let (roster, adaptive) = (input.roster, &input.policy.adaptive);
        let asked = input.turn == Turn::Tick;
        let (dealings, evicts) = (&self.dealings, !input.eviction.is_zero());
        self.model.fold(sample, Context { roster, dealings, observing, asked, adaptive, evicts });
    }

    /// The account of this moment; each tick it is learned from.
    fn account(&mut self, input: &Input<'_>, sample: &Sample, giving_back: bool, unlisted: Bytes) -> Ledger {
        if input.turn == Turn::Tick {
            self.growth.note(&sample.host, &self.model, sample.at, input.policy.interval);
        }
        let reserve = if giving_back { &Reserve::NONE } else { &input.policy.reserve };
        let kept = Kept { reserve, eviction: input.eviction, unlisted };
        Ledger::of(&sample.host, &self.model, input.policy, &mut self.growth, kept)
    }

    /// Who is told that it may have more may have that before anybody answers.
    fn note_asked(&mut self, plan: &Plan<Guarded>) {
        for step in plan.moves().iter().filter(|step| !step.takes()) {
            let asked = &mut self.dealings.with(&step.id).asked;
            *asked = (*asked).max(Some(step.to));
        }
    }

    fn follow(&mut self, plan: &Plan<Guarded>) {
        for step in plan.moves() {
            self.dealings.with(&step.id).shadow = Some(step.to);
        }
    }

    /// Squeezed guests report often; the others again at the period they had, unless somebody else set it since.
    fn periods(
        &self,
        plan: &Plan<Guarded>,
        policy: &Policy,
        observing: bool,
    ) -> impl Iterator<Item = Command> {
        let wanted = move |track: &Track| {
            let target = plan.of(&track.sample.id).map_or(track.target, |m| m.to);
            let covered = standing(track, policy, self.now).class().is_some();
            if covered && !observing && target < track.ceiling {
                return Some(SQUEEZED_PERIOD);
            }
            let unchanged = track.sample.balloon?.period == Some(SQUEEZED_PERIOD);
            let dealing = self.dealings.of(&track.sample.id)?;
            dealing.original?.period.filter(|_| unchanged && dealing.hurried)
        };
        let tracks = self.model.tracks().filter(|t| t.is_reachable() && t.sample.config.has_balloon);
        tracks.filter_map(move |track| {
            let (now, seconds) = (track.sample.balloon?.period?, wanted(track)?);
            (now != seconds).then(|| Command::SetPeriod { id: track.sample.id.clone(), seconds })
        })
    }

    fn release_state(&self, ledger: &Ledger, complete: bool) -> Release {
        let outstanding: Bytes =
            self.model.tracks().filter(|t| t.is_ours()).map(|t| t.ceiling.minus(t.target)).sum();
        let is_let_go = |t: &Track| self.dealings.of(&t.sample.id).is_some_and(|dealing| dealing.let_go);
        let is_watched = |t: &&Track| !t.conduct.is_stuck(self.now) && !is_let_go(t);
        let following = self.model.tracks().filter(|t| t.is_ours() && t.sample.config.has_balloon);
        let moving = following.filter(is_watched).any(|t| !t.has_arrived());
        match outstanding {
            Bytes::ZERO if !moving && complete && self.merging.held().is_none() && !self.is_in_doubt() => {
                Release::Done
            }
            Bytes::ZERO => Release::Underway { outstanding },
            _ if ledger.spare < outstanding => Release::Blocked { short: outstanding.minus(ledger.spare) },
            _ => Release::Underway { outstanding },
        }
    }
}

/// What is to be decided about merging.
fn ksm_scene<'a>(input: &Input<'a>, ledger: &'a Ledger, asked: ksm::Asked) -> ksm::Scene<'a> {
    let Input { sample, policy, roster, turn, mandate, .. } = *input;
    ksm::Scene { sample, policy, roster, ledger, turn, mandate, asked }
}

fn propose(scene: &Scene<'_>, turn: Turn, giving_back: bool, wish: &mut Wish) {
    if giving_back {
        return adaptive::release(scene.model, wish);
    }
    let purpose = if turn == Turn::Handover { Purpose::Handover } else { Purpose::Control };
    adaptive::propose(scene, purpose, wish);
    let hurts = scene.model.tracks().any(|t| t.pain.is_some() && t.is_squeezed());
    if turn == Turn::Relief && !hurts && !scene.emergency {
        wish.proposal.retain(|m| !m.takes());
    }
}
