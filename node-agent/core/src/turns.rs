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
use crate::floor::{self, Headroom};
use crate::ledger::Ledger;
use crate::model::{Model, Track};
use crate::policy::Policy;
use crate::sample::GuestId;
use crate::units::{Bytes, Monotonic};

/// Pain that lasts so long is no burst: each sign of it is believed for 10 s, and what donors give has come by then.
const BEGINS_AFTER: Duration = Duration::from_secs(15);
/// What ends for a moment goes on.
const ENDS_AFTER: Duration = Duration::from_secs(15);
/// For how long a guest is served that never gets there, if that is not longer than so many of its turns: large ones are
/// filled as fast as takes and swaps allow.
const LONGEST: (Duration, u32) = (Duration::from_mins(10), 5);
/// A guest that hurts although it was given what it was thought to need, for so long, needs more.
const SATISFIED_WITHIN: Duration = Duration::from_secs(30);
/// Who uses this part of what it has fills it: half of the headroom that it is left.
const FULL: (u64, u64) = (20, 19);
/// By which part of its size more is tried for one that is served and fills all that it has.
const STEP: (u64, u64) = (1, 8);
/// Others lend one that hurts what they are left beyond what they use, if that is this part of its size at least.
const WORTH: (u64, u64) = (1, 32);
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
    /// Others are served; it was never seen to swap, and keeps what it has.
    Keeps,
}

impl Place {
    /// Others are served.
    pub const fn is_behind(self) -> bool {
        matches!(self, Self::Waits | Self::Keeps)
    }
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
    /// Since when it has had all that it wants, of the time that it was served.
    whole_since: Option<Monotonic>,
    /// Time for which it was served, by its weight.
    had: u64,
    /// What it used when it lacked nothing.
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
    reach: Bytes,
    can_wait: bool,
    hurts: bool,
    /// What is lent to it is to be more than this.
    worth: Bytes,
    place: Option<Place>,
}

impl Contender {
    /// It swaps, and cannot wait yet.
    fn is_backed_off(&self) -> bool {
        self.seat.swaps && !self.can_wait
    }
}

impl Turns {
    /// True while turns are taken.
    pub fn are_taken(&self) -> bool {
        self.taken
    }

    /// Nobody waits: while observing, while everything is given back, and where nothing may be taken.
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
        // Nobody hurts, as nearly always: there is nothing to divide.
        let mut contenders = Vec::new_in(arena);
        let mut enough = true;
        if model.tracks().any(|track| track.seat.is_some()) {
            let scene = (ledger, policy, now);
            let mut serve_with = |headroom| {
                contenders.clear();
                let room = contend(model, scene, headroom, &mut contenders);
                (room, serve(&mut contenders, room, policy.adaptive.turn, now))
            };
            let (room, regular) = serve_with(Headroom::Regular);
            // Nobody waits for what others are left beyond what they use.
            let (more, _) = serve_with(Headroom::Close);
            let lent = more.minus(room);
            enough = regular.enough && regular.worth.is_none_or(|worth| lent < worth);
        }
        self.declare(enough, now);
        let passed = self.last.map_or(Duration::ZERO, |last| now.since(last));
        self.last = Some(now);
        for contender in contenders {
            if let Some(track) = model.track_mut(&contender.id) {
                track.turn = contender.place.filter(|_| self.taken);
                let want = match track.turn {
                    Some(Place::Served { want, .. }) => Some(want),
                    _ => None,
                };
                let whole = want.is_some_and(|want| contender.reach >= want);
                let seat = contender.seat.counted(contender.weight, passed);
                track.seat = Some(seat.placed(want.is_some(), whole, now));
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
            let takes_part = (lacking || hurts) && takes_part(track, policy, now);
            let joins = hurts && takes_part;
            if !lacking && !joins {
                track.seat = None;
                continue;
            }
            // Who falls silent or may not be touched for a while is no contender, and what it had is not forgotten.
            let new = Seat {
                joined: now,
                swaps: false,
                since: now,
                served: false,
                whole_since: None,
                had: least,
                needed: None,
            };
            let Some(mut seat) = track.seat.or(joins.then_some(new)) else { continue };
            seat.swaps |= hurts && track.swaps;
            let long = now.since(seat.since) >= SATISFIED_WITHIN;
            if !takes_part {
                seat = seat.placed(false, false, now);
            } else if !hurts && (seat.served || !self.taken) {
                // Of one that waits its use follows its cap.
                seat.needed = track.used();
            } else if hurts && !self.taken {
                // What it has by now it needs at least.
                seat.needed = seat.needed.max(track.used());
            } else if hurts && seat.served && long {
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

/// What it takes to serve each; returns what there is for that once everybody has what it keeps in any case.
fn contend(
    model: &Model,
    (ledger, policy, now): (&Ledger, &Policy, Monotonic),
    headroom: Headroom,
    contenders: &mut Vec<'_, Contender>,
) -> Bytes {
    let mut room = ledger.allowed_with_swap();
    for track in model.tracks() {
        let (class, open) = match standing(track, policy, now) {
            Standing::Exempt(_) => {
                room = room.minus(track.charge());
                continue;
            }
            Standing::GiveOnly(class, _) => (class, false),
            Standing::Open(class) => (class, track.conduct.trust() == Trust::Trusted),
        };
        let floor = if open { headroom.floor(track, class).0 } else { track.reach() };
        room = room.minus(track.beside());
        let Some(seat) = track.seat.filter(|_| is_heard(track)) else {
            room = room.minus(floor.min(track.cap()));
            continue;
        };
        let can_wait = open && seat.swaps;
        let (reach, hurts) = (track.reach(), hurts(track));
        // Of who never swapped only what it does not use can be had, nor what its kernel killed for, which is started anew.
        let base = match () {
            () if can_wait => floor::of_waiting(track, class).0,
            () if open && !hurts => floor.max(track.lost(now)).min(reach),
            () => reach,
        };
        let base = base.min(track.cap());
        room = room.minus(base);
        let want = seat.wants(track, headroom).max(track.lost(now)).min(track.cap()).max(base);
        let (id, weight, place) = (track.sample.id.clone(), class.weight.max(1), None);
        let worth = track.sample.config.full.scaled(WORTH.0, WORTH.1);
        contenders.push(Contender { id, seat, base, want, weight, reach, can_wait, hurts, worth, place });
    }
    room
}

/// What serving came to.
#[derive(Clone, Copy, Debug)]
struct Service {
    /// Nobody who hurts has to wait, or would if others could.
    enough: bool,
    /// Somebody who is served hurts and lacks something all the same: so much more would be worth while.
    worth: Option<Bytes>,
}

/// Serves as many as can be, whole: those first whose time is not over, then those who had least.
fn serve(contenders: &mut [Contender], room: Bytes, turn: Duration, now: Monotonic) -> Service {
    contenders.sort_unstable_by(|a, b| {
        let key = |c: &Contender| (Reverse(c.seat.goes_on(turn, now)), c.seat.had, c.seat.joined);
        key(a).cmp(&key(b)).then_with(|| a.id.cmp(&b.id))
    });
    let part = room.scaled(1, u64::try_from(contenders.len()).unwrap_or(1).max(1));
    let backed_off = contenders.iter().filter(|contender| contender.is_backed_off()).count();
    let (mut left, mut enough, mut blocked, mut worth) = (room, true, false, None);
    for (rank, contender) in contenders.iter_mut().enumerate() {
        let wanted = contender.want.minus(contender.base);
        // What one is given that cannot wait cannot be had back: no more than an even part.
        let lacks = if contender.can_wait { wanted } else { wanted.min(part) };
        // Whose time is not over keeps what it has of it, and has more as far as there is more.
        let goes_on = contender.seat.goes_on(turn, now);
        let keeps = goes_on && contender.reach.minus(contender.base) <= left;
        // The first is served as far as there is anything: nobody waits for nothing.
        let fits = lacks.is_zero() || keeps || (lacks <= left && !blocked) || rank == 0;
        if fits {
            // Nothing is taken for half a minute from those whose last take hurt. They will be able to wait.
            let others = backed_off > usize::from(contender.is_backed_off());
            enough &= !(contender.hurts && !contender.can_wait && wanted > left && others);
            let gets = lacks.min(left);
            worth = worth.or((contender.hurts && gets < wanted).then_some(contender.worth));
            left = left.minus(gets);
            contender.place = Some(Place::Served { want: contender.base.plus(gets), rank });
            continue;
        }
        // Who does not hurt lacks nothing yet; it is asked to wait all the same, once others have to.
        enough &= !contender.hurts;
        // Smaller ones whose turn comes later would fit, each a while, and it would wait for ever.
        blocked |= contender.hurts && !goes_on;
        contender.place = Some(if contender.can_wait { Place::Waits } else { Place::Keeps });
    }
    Service { enough, worth }
}

impl Seat {
    /// Its time is not over.
    fn goes_on(&self, turn: Duration, now: Monotonic) -> bool {
        let whole = self.whole_since.is_none_or(|since| now.since(since) < turn);
        self.served && whole && now.since(self.since) < LONGEST.0.max(turn.saturating_mul(LONGEST.1))
    }

    /// After so much time.
    fn counted(self, weight: u32, passed: Duration) -> Self {
        let millis = u64::try_from(passed.as_millis()).unwrap_or(u64::MAX);
        let counted = millis.saturating_mul(SCALE).checked_div(u64::from(weight)).unwrap_or_default();
        let had = if self.served { self.had.saturating_add(counted) } else { self.had };
        Self { had, ..self }
    }

    /// With what it is from now on.
    fn placed(self, serves: bool, whole: bool, now: Monotonic) -> Self {
        let since = if self.served == serves { self.since } else { now };
        let whole_since = self.whole_since.or(whole.then_some(now)).filter(|_| serves);
        Self { since, whole_since, served: serves, ..self }
    }

    /// Of a new kernel nothing is known but what the guest had.
    pub(crate) fn begin_life_anew(self) -> Self {
        Self { swaps: false, needed: None, served: false, whole_since: None, ..self }
    }

    /// What it takes to serve it whole, as far as is known.
    fn wants(&self, track: &Track, headroom: Headroom) -> Bytes {
        if !self.served {
            return self.needed.map_or(Bytes::MAX, |used| headroom.around(used));
        }
        let Some(used) = track.used() else { return Bytes::MAX };
        let (keeps, reach) = (headroom.around(used.plus(track.rise)), track.reach());
        match () {
            // Who fills all that it has needs more than that, and nobody knows how much. What it is left when it rests is no
            // sign of that, but while it hurts: a small kernel that thrashes keeps that much free for itself.
            () if used.scaled(FULL.0, FULL.1) >= reach
                || (hurts(track) && Headroom::Regular.around(used) >= reach) =>
            {
                reach.plus(track.sample.config.full.scaled(STEP.0, STEP.1))
            }
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
fn is_heard(track: &Track) -> bool {
    track.is_bound() && track.is_reachable()
}

/// The same, and it is no business of its owner's alone.
fn takes_part(track: &Track, policy: &Policy, now: Monotonic) -> bool {
    is_heard(track) && standing(track, policy, now).class().is_some()
}
