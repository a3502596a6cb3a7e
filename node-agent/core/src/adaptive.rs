//! The adaptive engine, first version: keeps `promised ≤ budget`, takes unused memory first, gives at once.
//!
//! Every guest has four levels: floor ≤ need (its working set with headroom) ≤ comfort (nothing it has filled is
//! lost) ≤ ceiling. The allowed sum fills them stage by stage, the need of those that hurt before that of all; a stage
//! that cannot be filled for all is shared by weight. Targets then move towards that division, and only where somebody is
//! short: where nothing is to be won, nothing is done.

use std::cell::Cell;

use bumpalo::collections::Vec;
use bumpalo::{Bump, vec};

use crate::by_guest::ByGuest;
use crate::conduct::{FOLLOW_TOLERANCE, Trust};
use crate::eligibility::{Standing, standing};
use crate::evidence::Evidence;
use crate::floor;
use crate::guard::Scene;
use crate::model::{Model, Origin, Track};
use crate::plan::{Move, Proposal};
use crate::policy::{Class, Policy};
use crate::reason::{FloorKind, Reason};
use crate::turns::Place;
use crate::units::{Bytes, Permille};

/// A guest has room to breathe above what it has filled, as filled × 100 / 95.
const COMFORT: (u64, u64) = (100, 95);
/// A balloon that is not believed is tried with this much: some times what is no disobedience.
const PROBE: Bytes = Bytes::from_mib(16);
/// Of a dead band this part is worth a take while somebody hurts, or more is promised than there is.
const PRESSING_BAND: u64 = 8;
/// Slack is handed out only above this part of the host's memory, or when it is enough for all.
const SLACK_LINE: Permille = Permille::new(10);

/// What the engine wants, and its reason for every guest that it leaves as it is.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// The moves.
    pub proposal: Proposal,
    /// Reasons of guests that do not move.
    pub rest: ByGuest<Reason>,
}

impl Wish {
    pub(crate) fn clear(&mut self) {
        self.proposal.clear();
        self.rest.clear();
    }
}

/// How to divide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The regular decision.
    Control,
    /// The loop goes away: spread all that is spare, take nothing.
    Handover,
}

struct Seat<'a> {
    track: &'a Track,
    class: &'a Class,
    floor: Bytes,
    kind: FloorKind,
    need: Bytes,
    comfort: Bytes,
    ceiling: Bytes,
    desired: Bytes,
    /// What is left to it in any case: its floor, and what its own kernel killed for lately, of which its words say nothing.
    spared: Bytes,
    belief: Belief,
    /// Its move is among those that are proposed.
    moves: Cell<bool>,
}

/// Whether the division counts on a guest's balloon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Belief {
    /// It does, or nothing may be taken anyway: now, or from a guest that lies, for what a trial frees is less than what
    /// huge pages blur.
    Settled,
    /// It does not, for the balloon did not follow; it may be tried again.
    Open,
    /// It does not, and the guest is being tried.
    OnTrial,
}

/// The division that the engine wants, into an empty wish.
pub fn propose(scene: &Scene<'_>, purpose: Purpose, wish: &mut Wish) {
    let Scene { model, ledger, policy, now, arena, .. } = *scene;
    let Wish { proposal: moves, rest } = wish;
    let mut seats = Vec::new_in(arena);
    let (mut exempt, mut owed) = (Bytes::ZERO, Bytes::ZERO);
    for track in model.tracks() {
        match standing(track, policy, now) {
            Standing::Exempt(reason) => {
                rest.insert(track.sample.id.clone(), reason);
                // Only what we took: how it was found is its owner's doing. What cannot be given now is the others' meanwhile.
                let give = give(track, track.ceiling, Reason::GiveExempt)
                    .filter(|_| track.is_ours() && track.is_reachable());
                let due = give.as_ref().map_or(Bytes::ZERO, |m| track.cost(m.to));
                exempt = exempt.plus(track.charge()).plus(due);
                owed = owed.plus(due);
                moves.extend(give);
            }
            Standing::GiveOnly(class, _) => seats.push(Seat::new(track, class, scene, false)),
            Standing::Open(class) => seats.push(Seat::new(track, class, scene, true)),
        }
    }
    divide(&mut seats, ledger.allowed().minus(exempt), arena);
    seats.iter_mut().for_each(Seat::wait_for_verdict);
    let short_of_need = gives(&seats, owed, scene, purpose, moves);
    if purpose == Purpose::Control {
        takes(&seats, scene, short_of_need, moves);
    }
    for seat in seats.iter().filter(|seat| !seat.moves.get()) {
        rest.insert(seat.track.sample.id.clone(), seat.rest_reason());
    }
}

/// Gives everything back.
pub fn release(model: &Model, wish: &mut Wish) {
    let Wish { proposal: moves, rest } = wish;
    for track in model.tracks().filter(|t| t.is_ours() || t.membership.is_some()) {
        let give = give(track, track.ceiling, Reason::GiveRelease);
        if give.is_none() {
            rest.insert(track.sample.id.clone(), Reason::FullSize);
        }
        moves.extend(give);
    }
}

fn give(track: &Track, to: Bytes, reason: Reason) -> Option<Move> {
    let step = Move::of(track, to.to_balloon_page_floor(), reason);
    (step.to > step.from).then_some(step)
}

impl<'a> Seat<'a> {
    fn new(track: &'a Track, class: &'a Class, scene: &Scene<'_>, open: bool) -> Self {
        let (floor, kind) = scene.floor(track, class);
        // What its cgroup forbids it to have must not wait for it, nor be counted as what it could give.
        let has = if track.idle().is_zero() { track.target } else { track.reach() };
        // Nothing can be given to a guest out of reach: the others have its part.
        let most = if track.is_reachable() { track.cap() } else { track.reach() };
        let ceiling = most.max(has).min(track.ceiling);
        // What cannot be taken now stays promised: the others make room for it.
        let gives = open && track.conduct.trust() == Trust::Trusted;
        let belief = match track.conduct.underway(scene.now) {
            _ if !open || track.conduct.trust() != Trust::Unresponsive => Belief::Settled,
            None => Belief::Open,
            Some(_) => Belief::OnTrial,
        };
        let own = floor;
        let floor = if gives { floor } else { floor.max(track.reach()) }.min(ceiling);
        let blind = track.evidence.fresh().is_none();
        // Going stale while squeezed means giving; a guest that was never squeezed keeps what it has.
        let least = if belief == Belief::Settled { floor } else { own.min(ceiling) };
        let need = match track.turn {
            Some(Place::Waits) => floor,
            Some(Place::Keeps) => track.reach().clamp(least, ceiling),
            Some(Place::Served { want, .. }) => want.clamp(least, ceiling),
            None if blind || track.pain.is_some() => ceiling,
            None => track.demand.clamp(least, ceiling),
        };
        let filled = track.filled().map_or(ceiling, |f| f.scaled(COMFORT.0, COMFORT.1));
        // What one has filled that waits is what the others lack.
        let behind = track.turn.is_some_and(Place::is_behind);
        let comfort = if behind { need } else { filled.clamp(need, ceiling) };
        // In an emergency, and while others wait their turn, everybody but those in distress comes down to what it cannot do
        // without.
        let calm = track.pain.is_none() && track.turn.is_none();
        let need = match () {
            () if calm && kind == FloorKind::Emergency => floor,
            () if calm && scene.turns => track.foreseen().min(need).max(least.min(need)),
            () => need,
        };
        let moves = Cell::new(false);
        let spared = floor.max(track.lost(scene.now).min(need));
        Self { track, class, floor, kind, need, comfort, ceiling, desired: floor, spared, belief, moves }
    }

    /// What is taken on trial is charged all the same, so it could be given back at once and for nothing: then nobody
    /// would ever know.
    fn wait_for_verdict(&mut self) {
        if self.belief == Belief::OnTrial {
            self.desired = self.desired.min(self.track.target.max(self.need));
        }
    }

    /// What its wish adds to the promises: up to its reach it may touch everything already.
    fn cost(&self) -> Bytes {
        self.desired.minus(self.track.reach())
    }

    /// When it is served, while turns are taken.
    fn rank(&self) -> Option<usize> {
        match self.track.turn? {
            Place::Served { rank, .. } => Some(rank),
            Place::Waits | Place::Keeps => None,
        }
    }

    /// What it needs, if it hurts and there are no turns for that: the others need theirs so that they will not hurt.
    fn relief(&self) -> Bytes {
        let hurts = self.track.pain.is_some() && self.track.turn.is_none();
        if hurts { self.need } else { Bytes::ZERO }
    }

    fn is_urgent(&self) -> bool {
        self.track.target < self.need && self.track.is_squeezed()
    }

    /// Whether others are to make room for what it lacks of its part: a division that is met but for the dead band is met, for
    /// who gave a whole band to somebody in distress would have it taken back from the next.
    fn is_worth_a_take(&self, policy: &Policy) -> bool {
        let apart = self.desired.minus(self.track.target);
        let hurts = self.track.pain.is_some() || self.track.target < self.spared;
        hurts || apart >= policy.limits.dead_band.of(self.track.sample.config.full)
    }

    fn give_reason(&self) -> Reason {
        match (self.track.pain, self.track.evidence) {
            _ if self.track.rebooted => Reason::GiveReboot,
            (Some(pain), _) => Reason::GiveDistress(pain),
            (None, Evidence::Fresh(_)) if self.is_urgent() => Reason::GiveNeed,
            (None, Evidence::Fresh(_)) => Reason::GiveSlack,
            (None, _) => Reason::GiveBlind,
        }
    }

    fn rest_reason(&self) -> Reason {
        if !self.track.is_reachable() {
            Reason::Unreachable
        } else if !self.track.is_squeezed() {
            Reason::FullSize
        } else if self.track.turn.is_some_and(Place::is_behind) {
            Reason::WaitsItsTurn
        } else if self.is_urgent() {
            Reason::Waiting
        } else {
            Reason::Enough
        }
    }
}

/// Fills the levels stage by stage with what is left of `allowed` after what no balloon can take.
fn divide(seats: &mut [Seat<'_>], allowed: Bytes, arena: &Bump) {
    let beside: Bytes = seats.iter().map(|s| s.track.beside()).sum();
    let floors: Bytes = seats.iter().map(|s| s.floor).sum();
    let mut left = allowed.minus(beside).minus(floors);
    let stages: [fn(&Seat<'_>) -> Bytes; 4] = [|s| s.relief(), |s| s.need, |s| s.comfort, |s| s.ceiling];
    for level in stages {
        let gaps = seats.iter().map(|s| (level(s).minus(s.desired), s.class.weight));
        let gaps = Vec::from_iter_in(gaps, arena);
        for (seat, share) in seats.iter_mut().zip(share(left, &gaps, arena)) {
            seat.desired = seat.desired.plus(share);
            left = left.minus(share);
        }
    }
}

/// Divides `amount` over the gaps in proportion to their weights, none getting more than its gap. A weight of 0 counts
/// as 1: whatever a policy says, nobody in need is left out.
fn share<'a>(amount: Bytes, gaps: &[(Bytes, u32)], arena: &'a Bump) -> Vec<'a, Bytes> {
    let mut granted = vec![in arena; Bytes::ZERO; gaps.len()];
    let mut left = amount;
    loop {
        let open = |(gap, got): (&(Bytes, u32), &Bytes)| *got < gap.0;
        let weights: u64 = gaps
            .iter()
            .zip(&granted)
            .filter(|(g, got)| open((g, got)))
            .map(|(g, _)| u64::from(g.1.max(1)))
            .sum();
        if weights == 0 || left.is_zero() {
            return granted;
        }
        let round = left;
        let mut moved = Bytes::ZERO;
        for ((gap, weight), got) in gaps.iter().zip(granted.iter_mut()) {
            let part = round.scaled(u64::from((*weight).max(1)), weights).min(gap.minus(*got));
            *got = got.plus(part);
            moved = moved.plus(part);
        }
        left = left.minus(moved);
        if moved.is_zero() {
            return granted;
        }
    }
}

/// Proposes gives from what is spare after what is owed to those who must not be touched; returns what the urgent ones
/// lack.
fn gives(
    seats: &[Seat<'_>],
    owed: Bytes,
    scene: &Scene<'_>,
    purpose: Purpose,
    moves: &mut Proposal,
) -> Bytes {
    let Scene { ledger, policy, arena, .. } = *scene;
    let mut spare = ledger.spare.minus(owed);
    // Nothing can be given to a guest out of reach: its part is the others'.
    let within_reach = || seats.iter().filter(|seat| seat.track.is_reachable());
    let urgent = Vec::from_iter_in(within_reach().filter(|s| s.is_urgent()), arena);
    // What a target in doubt adds to would be more than the slack that is there.
    let other = within_reach().filter(|s| !s.is_urgent() && s.track.origin != Origin::Supposed);
    let other = Vec::from_iter_in(other, arena);
    let wanted: Bytes = urgent.iter().filter(|s| s.is_worth_a_take(policy)).map(|s| s.cost()).sum();
    // Who takes no part in turns is not made to hurt by them; then whose turn it is gets all that it needs before the next
    // gets anything.
    let calm = |seat: &&Seat<'_>| seat.track.turn.is_none() && seat.track.evidence.fresh().is_some();
    if scene.turns {
        let first = Vec::from_iter_in(urgent.iter().copied().filter(calm), arena);
        spare = spare.minus(hand_out(&first, spare, Bytes::ZERO, scene, moves));
    }
    let mut served = Vec::from_iter_in(urgent.iter().copied().filter(|seat| seat.rank().is_some()), arena);
    served.sort_unstable_by_key(|seat| seat.rank());
    for seat in served {
        spare = spare.minus(hand_out(&[seat], spare, Bytes::ZERO, scene, moves));
    }
    let others = |seat: &&Seat<'_>| seat.rank().is_none() && !(scene.turns && calm(seat));
    let urgent = Vec::from_iter_in(urgent.iter().copied().filter(others), arena);
    spare = spare.minus(hand_out(&urgent, spare, Bytes::ZERO, scene, moves));
    let slack: Bytes = other.iter().map(|s| s.cost()).sum();
    let worthwhile =
        spare >= slack || spare >= ledger.total.share(SLACK_LINE) || purpose == Purpose::Handover;
    if worthwhile {
        let keep = if purpose == Purpose::Handover { Bytes::ZERO } else { Bytes::new(1) };
        hand_out(&other, spare, keep, scene, moves);
    }
    wanted.plus(owed).minus(ledger.spare)
}

fn hand_out(
    seats: &[&Seat<'_>],
    spare: Bytes,
    band: Bytes,
    scene: &Scene<'_>,
    moves: &mut Proposal,
) -> Bytes {
    let Scene { policy, arena, .. } = *scene;
    let gaps = Vec::from_iter_in(seats.iter().map(|s| (s.cost(), s.class.weight)), arena);
    let mut given = Bytes::ZERO;
    for (seat, part) in seats.iter().zip(share(spare, &gaps, arena)) {
        let reach = seat.track.reach();
        let to = seat.desired.min(reach.plus(part));
        let gain = to.minus(seat.track.target);
        let dead = policy.limits.dead_band.of(seat.track.sample.config.full);
        let too_little = !band.is_zero() && gain < dead && to < seat.ceiling;
        if !too_little && let Some(step) = give(seat.track, to, seat.give_reason()) {
            given = given.plus(step.to.minus(reach));
            seat.moves.set(true);
            moves.push(step);
        }
    }
    given
}

/// Proposes takes for the shortfall and for what the urgent ones lack, from the idlest first.
fn takes(seats: &[Seat<'_>], scene: &Scene<'_>, short_of_need: Bytes, moves: &mut Proposal) {
    let Scene { ledger, policy, arena, .. } = *scene;
    let pending: Bytes = seats.iter().map(|s| s.track.pending()).sum();
    let mut deficit = ledger.shortfall.plus(short_of_need).minus(pending);
    let donors = seats.iter().filter(|s| s.track.target > s.desired);
    let mut donors = Vec::from_iter_in(donors, arena);
    donors.sort_unstable_by(|a, b| {
        unused(b).cmp(&unused(a)).then_with(|| a.track.sample.id.cmp(&b.track.sample.id))
    });
    let levels: [fn(&Seat<'_>) -> Bytes; 2] = [|s| s.comfort_level(), |s| s.desired];
    let lacking = deficit;
    for level in levels {
        for seat in &donors {
            deficit = deficit.minus(take(seat, level(seat), (deficit, false), policy, moves));
        }
    }
    // Of many who make room for one each has less to give than a take is worth: then some of them give that.
    let hurts = || seats.iter().any(|seat| !seat.relief().is_zero() && seat.is_urgent());
    if deficit == lacking && (!ledger.shortfall.is_zero() || hurts()) {
        for seat in &donors {
            deficit = deficit.minus(take(seat, seat.desired, (deficit, true), policy, moves));
        }
    }
    for seat in seats.iter().filter(|seat| seat.belief == Belief::Open) {
        let others = seats.iter().filter(|other| other.track.sample.id != seat.track.sample.id);
        if !deficit.is_zero() || others.map(|other| other.track).any(Track::is_squeezed) {
            probe(seat, policy, moves);
        }
    }
}

/// Tries a guest that is not believed while others pay for it. That counts for nothing until it has obeyed.
fn probe(seat: &Seat<'_>, policy: &Policy, moves: &mut Proposal) {
    let most = policy.limits.take_per_guest.of(seat.track.sample.config.full).min(PROBE);
    let level = seat.need.max(seat.track.target.minus(most)).to_balloon_page_ceil();
    // A smaller one could not be told from none.
    if !seat.moves.get() && seat.track.target.minus(level) > FOLLOW_TOLERANCE {
        seat.moves.set(true);
        moves.push(seat.take_to(level));
    }
}

impl Seat<'_> {
    fn comfort_level(&self) -> Bytes {
        self.comfort.max(self.desired)
    }

    fn regular_floor(&self) -> Bytes {
        floor::of(self.track, self.class).0
    }

    fn take_to(&self, to: Bytes) -> Move {
        let reason = match self.kind {
            FloorKind::Emergency if to < self.regular_floor() => Reason::TakeEmergency,
            _ if self.track.waits() => Reason::TakeTurn,
            _ if to >= self.comfort => Reason::TakeUnused,
            _ => Reason::TakeCache,
        };
        Move::of(self.track, to, reason)
    }
}

fn unused(seat: &Seat<'_>) -> Bytes {
    seat.track.target.minus(seat.comfort_level())
}

/// Takes at most `deficit` down to `level`; no less than the dead band, so that a small shortfall ends. Where it is pressing,
/// that goes down to the floor, and whoever has less than a whole band above it gives a part.
fn take(
    seat: &Seat<'_>,
    level: Bytes,
    (deficit, pressing): (Bytes, bool),
    policy: &Policy,
    moves: &mut Proposal,
) -> Bytes {
    let full = seat.track.sample.config.full;
    let dead = policy.limits.dead_band.of(full).max(Bytes::from_kib(4));
    let (spared, least) = if pressing {
        (seat.spared, dead.scaled(1, PRESSING_BAND))
    } else {
        (seat.need.max(seat.floor), dead)
    };
    // The last step to a division may be smaller than the dead band: then it overshoots.
    let last_step = dead.min(seat.track.target.minus(spared));
    let room = seat.track.target.minus(level).max(last_step).min(policy.limits.take_per_guest.of(full));
    // What its pod's limit keeps it from is promised to nobody: taking that frees nothing, but comes before what does.
    let idle = seat.track.idle();
    let amount = deficit.plus(idle).max(dead).min(room);
    if deficit.is_zero()
        || seat.moves.get()
        || amount < least
        || (!idle.is_zero() && level >= seat.track.reach())
    {
        return Bytes::ZERO;
    }
    seat.moves.set(true);
    let to = seat.track.target.minus(amount).to_balloon_page_floor();
    moves.push(seat.take_to(to.max(seat.floor.to_balloon_page_ceil())));
    amount.minus(idle)
}
