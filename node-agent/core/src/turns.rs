//! Turns: where guests together need more than the node has, some have all that they need while the others wait, in an order
//! that goes round.
//!
//! Thrashing is a cliff and no slope: eight guests that shared evenly what five need did a tenth of the work of one that lacks
//! nothing, each; satisfied whole one after the other they did two thirds more together (`docs/adaptive.md`). So this is
//! declared as an emergency is, by what is seen and not by an engine: guests hurt for a while, and what they lack is not
//! there. Then, and only then, a guest that waits keeps less than its working set: what its class and its pod were promised
//! holds on, and an eighth of its size. Only guests wait that were seen to swap, for others would be killed by their own
//! kernels.

use std::cmp::Reverse;
use std::time::Duration;

use bumpalo::Bump;
use bumpalo::collections::Vec;
use serde::{Deserialize, Serialize};

use crate::conduct::Trust;
use crate::eligibility::{Standing, standing};
use crate::floor;
use crate::ledger::Ledger;
use crate::model::{Model, Track};
use crate::policy::Policy;
use crate::sample::GuestId;
use crate::units::{Bytes, Monotonic};

/// Pain that lasts so long is no burst: each sign of it is believed for 10 s, and what donors give has come by then.
const BEGINS_AFTER: Duration = Duration::from_secs(15);
/// What ends for a moment goes on.
const ENDS_AFTER: Duration = Duration::from_secs(15);
/// For how long a guest is served before another may take its place. A change costs both the time that a swap needs for what
/// they have: 400 MiB at 20 MiB/s, twice.
const SLICE: Duration = Duration::from_mins(2);
/// A guest that hurts although it was given what it was thought to need, for so long, needs more.
const SATISFIED_WITHIN: Duration = Duration::from_secs(30);
/// By which part of its size more is tried for one that is served and fills all that it has.
const STEP: (u64, u64) = (1, 8);
/// The scale on which time served is counted, by the largest weight.
const SCALE: u64 = 10_000;

/// What a guest's turn is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Place {
    /// It is to have all that it needs.
    Served {
        /// What that is.
        want: Bytes,
        /// Lower ones come first.
        rank: usize,
    },
    /// Others are served; it keeps what it was promised.
    Waits,
}

/// Whose turn it is, and whose it was.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Turns {
    /// Since when what hurting guests lack is not there.
    lacking_since: Option<Monotonic>,
    /// Since when it is, while turns are taken.
    enough_since: Option<Monotonic>,
    taken: bool,
    last: Option<Monotonic>,
}

/// What one guest had of its turns since it takes part.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Seat {
    joined: Monotonic,
    /// It was seen to swap: it can wait.
    swaps: bool,
    /// Since when it has been served, or has waited.
    since: Monotonic,
    served: bool,
    /// Time for which it was served, by its weight.
    had: u64,
    /// What it needed when it lacked nothing.
    needed: Option<Bytes>,
}

/// One who takes part, and what it takes to serve it.
#[derive(Debug)]
struct Contender {
    id: GuestId,
    seat: Seat,
    base: Bytes,
    want: Bytes,
    weight: u32,
    can_wait: bool,
    hurts: bool,
    place: Option<Place>,
}

impl Turns {
    /// True while turns are taken.
    pub fn are_taken(&self) -> bool {
        self.taken
    }

    /// Nobody waits: while observing, and while everything is given back.
    pub(crate) fn end(&mut self, model: &mut Model) {
        *self = Self::default();
        model.tracks_mut().for_each(|track| (track.turn, track.seat) = (None, None));
    }

    /// Decides whose turn it is, and notes it with each guest.
    pub(crate) fn decide(
        &mut self,
        model: &mut Model,
        ledger: &Ledger,
        policy: &Policy,
        now: Monotonic,
        arena: &Bump,
    ) {
        self.admit(model, policy, now);
        let (mut contenders, room) = contenders(model, ledger, policy, now, arena);
        let enough = serve(&mut contenders, room, now);
        self.declare(enough, now);
        let passed = self.last.map_or(Duration::ZERO, |last| now.since(last));
        self.last = Some(now);
        for contender in contenders {
            if let Some(track) = model.track_mut(&contender.id) {
                track.turn = contender.place.filter(|_| self.taken);
                let serves = matches!(track.turn, Some(Place::Served { .. }));
                track.seat = Some(contender.seat.counted(serves, contender.weight, passed, now));
            }
        }
    }

    /// Who hurts takes part; who has nothing to do with it any more does not.
    fn admit(&self, model: &mut Model, policy: &Policy, now: Monotonic) {
        // Who hurt since something is lacking has a part in it, also where it was helped before the others.
        let lacking = self.taken || self.lacking_since.is_some();
        let least = model.tracks().filter_map(|track| Some(track.seat?.had)).min().unwrap_or_default();
        for track in model.tracks_mut() {
            track.turn = None;
            let hurts = hurts(track);
            if !takes_part(track, policy, now) || !(hurts || lacking) {
                track.seat = None;
                continue;
            }
            let new = Seat { joined: now, swaps: false, since: now, served: false, had: least, needed: None };
            let Some(mut seat) = track.seat.or(hurts.then_some(new)) else { continue };
            seat.swaps |= hurts && track.swaps;
            if !hurts {
                seat.needed = track.used().map(floor::of_working_set);
            } else if seat.served && now.since(seat.since) >= SATISFIED_WITHIN {
                seat.needed = None;
            }
            track.seat = Some(seat);
        }
    }

    fn declare(&mut self, enough: bool, now: Monotonic) {
        let since = |so: bool, known: Option<Monotonic>| so.then(|| known.unwrap_or(now));
        self.lacking_since = since(!enough, self.lacking_since);
        self.enough_since = since(enough, self.enough_since);
        let over = |since: Option<Monotonic>, time| since.is_some_and(|since| now.since(since) >= time);
        if self.taken && over(self.enough_since, ENDS_AFTER) {
            self.taken = false;
        } else if over(self.lacking_since, BEGINS_AFTER) {
            self.taken = true;
        }
    }
}

/// What it takes to serve each, and what there is for that once everybody has what it keeps in any case.
fn contenders<'a>(
    model: &Model,
    ledger: &Ledger,
    policy: &Policy,
    now: Monotonic,
    arena: &'a Bump,
) -> (Vec<'a, Contender>, Bytes) {
    let mut room = ledger.allowed();
    let mut contenders = Vec::new_in(arena);
    for track in model.tracks() {
        let (class, open) = match standing(track, policy, now) {
            Standing::Exempt(_) => {
                room = room.minus(track.charge());
                continue;
            }
            Standing::GiveOnly(class, _) => (class, false),
            Standing::Open(class) => (class, track.conduct.trust() == Trust::Trusted),
        };
        let floor = if open { floor::of_regular(track, class).0 } else { track.reach() };
        room = room.minus(track.beside());
        let Some(seat) = track.seat else {
            room = room.minus(floor.min(track.cap()));
            continue;
        };
        let can_wait = open && seat.swaps;
        let base = if can_wait { floor::of_waiting(track, class).0 } else { track.reach() };
        let base = base.min(track.cap());
        room = room.minus(base);
        let want = seat.wants(track).min(track.cap()).max(base);
        let (id, hurts) = (track.sample.id.clone(), hurts(track));
        let (weight, place) = (class.weight.max(1), None);
        contenders.push(Contender { id, seat, base, want, weight, can_wait, hurts, place });
    }
    (contenders, room)
}

/// Serves as many as can be, whole: those first whose time is not over, then those who had least. True if nobody who hurts
/// has to wait.
fn serve(contenders: &mut [Contender], room: Bytes, now: Monotonic) -> bool {
    let goes_on = |seat: &Seat| seat.served && now.since(seat.since) < SLICE;
    contenders.sort_unstable_by(|a, b| {
        let key = |c: &Contender| (Reverse(goes_on(&c.seat)), c.seat.had, c.seat.joined);
        key(a).cmp(&key(b)).then_with(|| a.id.cmp(&b.id))
    });
    let (mut left, mut enough) = (room, true);
    for (rank, contender) in contenders.iter_mut().enumerate() {
        let lacks = contender.want.minus(contender.base);
        // The first is served as far as there is anything: nobody waits for nothing.
        if lacks <= left || rank == 0 {
            let gets = lacks.min(left);
            left = left.minus(gets);
            contender.place = Some(Place::Served { want: contender.base.plus(gets), rank });
        } else {
            // Who does not hurt lacks nothing yet; it is asked to wait all the same, once others have to.
            enough &= !contender.hurts;
            contender.place = contender.can_wait.then_some(Place::Waits);
        }
    }
    enough
}

impl Seat {
    /// After so much time, and with what it is from now on.
    fn counted(self, serves: bool, weight: u32, passed: Duration, now: Monotonic) -> Self {
        let millis = u64::try_from(passed.as_millis()).unwrap_or(u64::MAX);
        let counted = millis.saturating_mul(SCALE).checked_div(u64::from(weight)).unwrap_or_default();
        let had = if self.served { self.had.saturating_add(counted) } else { self.had };
        let since = if self.served == serves { self.since } else { now };
        Self { had, since, served: serves, ..self }
    }

    /// What it takes to serve it whole, as far as is known.
    fn wants(&self, track: &Track) -> Bytes {
        if !self.served {
            return self.needed.unwrap_or(Bytes::MAX);
        }
        let Some(used) = track.used() else { return Bytes::MAX };
        let (keeps, reach) = (floor::of_working_set(used.plus(track.rise)), track.reach());
        match () {
            // Who fills all that it has needs more than that, and nobody knows how much.
            () if keeps >= reach => reach.plus(track.sample.config.full.scaled(STEP.0, STEP.1)),
            // What it reads back from its swap it will need room for.
            () if hurts(track) => reach,
            () => keeps,
        }
    }
}

/// It hurts, really, while it holds less than it may have.
fn hurts(track: &Track) -> bool {
    track.is_squeezed() && track.pain.is_some_and(|pain| !pain.is_foreseen())
}

/// Its words can be believed, and what it is given reaches it.
fn takes_part(track: &Track, policy: &Policy, now: Monotonic) -> bool {
    track.is_bound() && track.is_reachable() && standing(track, policy, now).class().is_some()
}
