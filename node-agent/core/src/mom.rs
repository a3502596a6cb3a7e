//! The engine of a policy that carries a program in MOM's language. Each control period the program sees the host and the guests
//! as our own collectors have them, and what it proposes becomes moves, which the guard judges as it judges every engine's.
//!
//! Safety is not the program's: what the adaptive engine gives to guests that hurt, that went silent, that rebooted or that must
//! not be touched is given whatever the program says, between its turns as well; in a declared emergency, and between control
//! periods for those who hurt, the adaptive engine takes. A program is never evaluated but on a tick.

mod door;
mod fields;
mod kept;
mod memory;
mod seen;
mod told;
mod world;

use overcommit_policy::{Evaluation, GuestTrouble, Limits, World, evaluate};

use crate::adaptive::Wish;
use crate::eligibility::standing;
use crate::guard::Scene;
use crate::ksm::Asked;
use crate::model::Track;
use crate::plan::Move;
use crate::policy::Mom;
use crate::reason::{Reason, Spot};
use crate::sample::Sample;
use crate::step::Turn;
use crate::units::Bytes;

pub use memory::Memory;
pub use seen::Seen;
pub use told::Told;

/// What one evaluation may cost. The stock policies take 7,000 steps for 100 guests; so many take some hundredths of a second,
/// which a control period has. The depth is what MOM comes to, and what a thread's stack holds.
const LIMITS: Limits = Limits { steps: 500_000, memory: 16 << 20, length: 1 << 16, depth: 400, log: 0 };

/// The one control that guests have here.
const BALLOON: &str = "balloon_target";

impl Memory {
    /// Puts the program's moves into what the adaptive engine wishes, and leaves of that what is safety's. Without a turn
    /// everything is given back, and no program is asked.
    pub(crate) fn decide(
        &mut self,
        scene: &Scene<'_>,
        sample: &Sample,
        turn: Option<Turn>,
        wish: &mut Wish,
    ) -> Option<Told> {
        let (Some(mom), Some(turn)) = (&scene.policy.mom, turn) else {
            self.forget();
            return None;
        };
        self.told.ran = false;
        if turn == Turn::Handover {
            return Some(self.told.clone());
        }
        leave_safety(scene, turn, wish);
        if turn == Turn::Tick {
            self.run(mom, scene, sample, wish);
        }
        self.rest(scene, wish);
        Some(self.told.clone())
    }

    /// One evaluation.
    fn run(&mut self, mom: &Mom, scene: &Scene<'_>, sample: &Sample, wish: &mut Wish) {
        self.told = Told { ran: true, ..Told::default() };
        self.take_in(scene, sample);
        // What failed in the last cycle is not said again of one in which nothing was said.
        self.guests.values_mut().for_each(|guest| guest.refused = None);
        let (mut world, shown) = world::of(self, scene);
        let result = evaluate(mom.program(), &mut world, &LIMITS);
        self.asked = Asked::default();
        match result {
            Ok(Evaluation { errors, .. }) => self.take_over(mom, scene, (&mut world, shown), &errors, wish),
            Err(trouble) => self.told.trouble = Some(told::cut(&trouble.to_string())),
        }
        self.last.0 = Some(world);
    }

    /// What the program proposes, and what it wants to remember.
    fn take_over(
        &mut self,
        mom: &Mom,
        scene: &Scene<'_>,
        (world, shown): (&mut World, Vec<&Track>),
        errors: &[GuestTrouble],
        wish: &mut Wish,
    ) {
        self.asked = self.told.host(&world.host, scene.policy.ksm.mode);
        if let Some(lost) = self.host.remember(std::mem::take(&mut world.host.variables)) {
            self.told.note(&format!("the host's {lost}"));
        }
        for (track, subject) in shown.into_iter().zip(&mut world.guests) {
            let failed = errors.iter().find(|error| error.guest == subject.name).map(|error| {
                let spot = spot(mom, &error.trouble.place);
                (Reason::ProgramFailed(spot), told::cut(&error.trouble.to_string()))
            });
            self.told.guest(subject);
            let proposed = failed.map_or_else(|| propose(mom, subject, track, scene, wish), Err);
            let guest = self.guests.entry(track.sample.id.clone()).or_default();
            guest.refused = proposed.err();
            self.told.failed = self.told.failed.saturating_add(usize::from(guest.refused.is_some()));
            if let Some(lost) = guest.remember(std::mem::take(&mut subject.variables)) {
                self.told.note(&format!("{}: {lost}", track.sample.name));
            }
        }
    }

    /// Why guests rest: the adaptive engine's reasons are those of moves that nobody wants now.
    fn rest(&self, scene: &Scene<'_>, wish: &mut Wish) {
        for track in scene.model.tracks() {
            let id = &track.sample.id;
            let covered = standing(track, scene.policy, scene.now).class().is_some();
            let waits = track.pain.is_some() && wish.rest.get(id) == Some(&Reason::Waiting);
            if !covered || waits || !track.is_reachable() {
                continue;
            }
            let settled = if track.is_squeezed() { Reason::Enough } else { Reason::FullSize };
            let reason = self.reason_of(track).unwrap_or(settled);
            wish.rest.insert(id.clone(), reason);
        }
    }
}

/// Leaves of what the adaptive engine wishes what no program may keep from happening.
fn leave_safety(scene: &Scene<'_>, turn: Turn, wish: &mut Wish) {
    let hurts = || scene.model.tracks().any(|t| t.pain.is_some() && t.is_squeezed());
    let takes = scene.emergency || (turn != Turn::Tick && hurts());
    wish.proposal.retain(|step| if step.takes() { takes } else { is_safety(step.reason) });
    let left = fill(scene, wish);
    restore_floors(scene, left, wish);
}

/// What the adaptive engine would keep for the needs of others goes to those who hurt: a program knows no needs.
/// Returns what is left.
fn fill(scene: &Scene<'_>, wish: &mut Wish) -> Bytes {
    let cost = |step: &Move| scene.model.track(&step.id).map_or(Bytes::ZERO, |track| track.cost(step.to));
    let given: Bytes = wish.proposal.moves().iter().filter(|step| !step.takes()).map(cost).sum();
    let mut left = scene.ledger.spare.minus(given);
    for track in scene.model.tracks().filter(|track| track.is_squeezed() && track.is_reachable()) {
        let Some(reason) = relief(track) else { continue };
        let known = wish.proposal.of(&track.sample.id);
        let covered = standing(track, scene.policy, scene.now).class().is_some();
        if !covered || known.is_some_and(Move::takes) {
            continue;
        }
        let paid = known.map_or(Bytes::ZERO, |step| track.cost(step.to));
        let to = track.cap().min(track.affordable(left.plus(paid))).to_balloon_page_floor();
        if to <= known.map_or(track.target, |step| step.to) {
            continue;
        }
        left = left.minus(track.cost(to).minus(paid));
        wish.proposal.set(Move::of(track, to, reason));
    }
    left
}

/// Whoever has less than its floor, because of an emergency that is over, a floor that was raised, or turns under another policy,
/// gets it back of what is left, whatever the program says.
fn restore_floors(scene: &Scene<'_>, mut left: Bytes, wish: &mut Wish) {
    for track in scene.model.tracks().filter(|track| track.is_squeezed() && track.is_reachable()) {
        let Some(class) = standing(track, scene.policy, scene.now).class() else { continue };
        let floor = scene.floor(track, class).0.to_balloon_page_ceil().min(track.ceiling);
        let to = whole_pages(track, floor.min(track.cap()).min(track.affordable(left)));
        if to <= track.target || wish.proposal.of(&track.sample.id).is_some() {
            continue;
        }
        left = left.minus(track.cost(to));
        wish.proposal.push(Move::of(track, to, Reason::GiveNeed));
    }
}

/// Why a guest is given whatever there is.
fn relief(track: &Track) -> Option<Reason> {
    match (track.pain, track.evidence.fresh()) {
        _ if track.rebooted => Some(Reason::GiveReboot),
        (Some(pain), _) => Some(Reason::GiveDistress(pain)),
        (None, None) => Some(Reason::GiveBlind),
        (None, Some(_)) => None,
    }
}

fn is_safety(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::GiveDistress(_)
            | Reason::GiveBlind
            | Reason::GiveReboot
            | Reason::GiveExempt
            | Reason::GiveRelease
    )
}

/// What refuses a guest's control: the reason, and the words.
type Refusal = (Reason, std::sync::Arc<str>);

/// Adds the move that the program wants of a guest, unless safety moves it already.
fn propose(
    mom: &Mom,
    subject: &overcommit_policy::world::Subject,
    track: &Track,
    scene: &Scene<'_>,
    wish: &mut Wish,
) -> Result<(), Refusal> {
    let Some(value) = subject.controls.get(BALLOON).filter(|value| !value.is_nil()) else { return Ok(()) };
    let place = subject.told_at(mom.program(), BALLOON);
    let at = place.as_ref().map_or(Spot { slot: 1, line: 1 }, |place| spot(mom, place));
    let size = door::size(value).map_err(|why| {
        let place = place.as_ref().map(|place| format!("{place}: ")).unwrap_or_default();
        (Reason::ProgramRefused(at), told::cut(&format!("{place}{BALLOON} is {why}")))
    })?;
    let to = whole_pages(track, size.min(track.ceiling));
    let from = track.target;
    // In an emergency the adaptive engine takes, down to floors of its own; to a program those would be an invitation.
    if to == from || wish.proposal.of(&track.sample.id).is_some() || (scene.emergency && to < from) {
        return Ok(());
    }
    let dead = scene.policy.limits.dead_band.of(track.sample.config.full);
    let changed = to.minus(from).max(from.minus(to));
    if changed < dead && to != track.ceiling {
        return Ok(());
    }
    let reason = if to < from { Reason::TakeProgram(at) } else { Reason::GiveProgram(at) };
    wish.proposal.push(Move::of(track, to, reason));
    Ok(())
}

/// What a balloon can be set to; all that a guest may have need not be whole pages.
fn whole_pages(track: &Track, to: Bytes) -> Bytes {
    if to == track.ceiling { to } else { to.to_balloon_page_floor() }
}

/// A place by the number of its slot.
fn spot(mom: &Mom, place: &overcommit_policy::Place) -> Spot {
    let slot = mom.slots().iter().position(|slot| slot.name == place.file).unwrap_or_default();
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Spot { slot: number(slot.saturating_add(1)), line: number(place.line) }
}
