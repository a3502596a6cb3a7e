//! Distress of a guest among calm ones (design §6.4): it is given what is spare, and only what it lacks beyond that is taken,
//! in the same decision, from who can give it. Who can is known here from what the plant's guests use.

#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects)] // helpers outside #[test] functions are test code too

use std::time::Duration;

use crate::course::oracle::{self, Memory};
use crate::course::plain::{calm, one_class};
use crate::course::plant::{Moment, Plant};
use crate::course::{Change, Course, Host, TurnPlan};
use crate::measure::{Verdict, show};
use overcommit_core::policy::Limits;
use overcommit_core::sample::{GuestId, GuestSample};
use overcommit_core::step::Turn;
use overcommit_core::units::{Amount, Bytes, Permille};
use proptest::prelude::*;

/// Turns after which guests that idle rest where they were squeezed to.
const SETTLED: usize = 30;
const STEP: Duration = Duration::from_secs(5);
/// What whole pages may make of a share, for each guest.
const ROUNDED: Bytes = Bytes::from_kib(16);

/// A node whose guests idle until one of them, the first, fills what it was left.
#[derive(Clone, Debug)]
struct Rush {
    /// Full size and what it uses in thousandths of that, of each.
    guests: Vec<(u64, u64)>,
    /// What the node has, in thousandths of what its guests could have.
    room: u64,
    take: Permille,
    /// What is spare by then, in thousandths of what the first guest has.
    pool: u64,
    after: Duration,
    turn: Turn,
}

fn rush() -> impl Strategy<Value = Rush> {
    let turn = prop::sample::select(vec![Turn::Tick, Turn::Relief, Turn::Alarm]);
    let pool = prop_oneof![1 => Just(0_u64), 3 => 0..1200_u64];
    let guests = prop::collection::vec((1024..4096_u64, 50..300_u64), 2..6);
    (guests, 500..900_u64, 50..300_u32, pool, 1..10_u64, turn).prop_map(
        |(guests, room, take, pool, after, turn)| Rush {
            guests,
            room,
            take: Permille::new(take),
            pool,
            after: Duration::from_secs(after),
            turn,
        },
    )
}

impl Rush {
    fn room(&self) -> Bytes {
        let all: u64 = self.guests.iter().map(|(full, _)| full).sum();
        Bytes::from_mib(all).scaled(self.room, 1000)
    }

    fn plant(&self) -> Plant {
        let guest = |(full, used): &(u64, u64)| {
            let full = Bytes::from_mib(*full);
            calm(full, full.scaled(*used, 1000))
        };
        let mut policy = one_class(STEP);
        policy.limits = Limits { take_per_guest: Amount::Part(self.take), ..policy.limits };
        Plant::new(&Course {
            host: Host::of(self.room()),
            policy,
            guests: self.guests.iter().map(guest).collect(),
            keep_found: false,
            turns: Vec::new(),
        })
    }
}

fn first() -> GuestId {
    GuestId::new("g0")
}

/// What a guest that does not hurt can give: down to what it uses with the headroom that it is left.
fn can_give(moment: &Moment<'_>, memory: &Memory, id: &GuestId) -> Bytes {
    let guest = memory.known(id);
    let (total, usable) = memory.life(id).statistics(guest, moment.sample.at).unwrap();
    let headroom = u64::from(moment.policy.adaptive.headroom.get());
    let keeps = total.minus(usable).scaled(1000, 1000 - headroom);
    oracle::view(moment, id).previous_target.minus(keeps)
}

/// What is taken in this decision.
fn taken(moment: &Moment<'_>) -> Bytes {
    let takes = moment.decision.plan.moves().iter().filter(|step| step.takes());
    takes.map(|step| step.from.minus(step.to)).sum()
}

/// The decision in which it is known that the first guest hurts.
fn is_relieved(moment: &Moment<'_>, memory: &Memory) -> Verdict {
    let view = oracle::view(moment, &first());
    let lack = view.full.minus(view.previous_target);
    let promised = oracle::promised(moment, memory, |view| view.previous_target);
    let spare = oracle::most(moment, memory).minus(promised);
    let given = view.target.minus(view.previous_target);
    prop_assert!(given.plus(ROUNDED) >= lack.min(spare), "{given} of {lack}, spare {spare}: {view:?}");
    let taken = taken(moment);
    let short = promised.minus(oracle::most(moment, memory));
    let donors = || moment.sample.guests.iter().filter(|guest| guest.id != first());
    let most: Bytes = donors().map(|donor| can_give(moment, memory, &donor.id)).sum();
    // However it is divided among them: if one of them may not give all of its part at once, it gives what it may.
    let limit = |donor: &GuestSample| moment.policy.limits.take_per_guest.of(donor.config.full);
    let at_once = donors().map(limit).min().unwrap();
    let rounded = ROUNDED.scaled(u64::try_from(moment.sample.guests.len()).unwrap(), 1);
    let lacking = lack.minus(spare).plus(short);
    let least = lacking.min(most).min(at_once);
    let taken_of =
        format!("{taken} of {lacking} (lack {lack}, spare {spare}, could {most}, at once {at_once})");
    prop_assert!(taken.plus(rounded) >= least, "too little: {taken_of}");
    prop_assert!(taken <= lacking.plus(rounded), "too much: {taken_of}");
    Ok(())
}

/// Invariant 4: the pool first, then donors, in one event; what they gave is the next thing that it gets.
#[test]
fn who_hurts_is_given_the_pool_and_in_the_same_event_donors_are_asked_for_the_rest() {
    show(rush(), |rush| {
        let (mut plant, mut memory) = (rush.plant(), Memory::default());
        let (mut target, mut rests) = (Bytes::ZERO, false);
        for _ in 0..SETTLED {
            (target, rests) = plant.turn(&TurnPlan::plain(Turn::Tick, STEP), |moment| {
                memory.observe(moment);
                (oracle::view(moment, &first()).target, moment.decision.plan.is_empty())
            });
        }
        // What was taken a moment ago counts for this interval, too.
        if !rests {
            return Ok(SETTLED);
        }
        let pool = Bytes::from_mib(rush.guests[0].0).scaled(rush.pool, 1000);
        let mut plan = TurnPlan {
            host: Some(Host::of(rush.room().plus(pool))),
            changes: vec![(0, Change::Uses(target.scaled(97, 100)))],
            ..TurnPlan::plain(rush.turn, rush.after)
        };
        let (lacked, taken) = plant.turn(&plan, |moment| {
            memory.observe(moment);
            prop_assert!(memory.life(&first()).hurts(moment.sample.at));
            is_relieved(moment, &memory)?;
            let view = oracle::view(moment, &first());
            Ok((view.full.minus(view.target), taken(moment)))
        })?;
        (plan.turn, plan.after, plan.changes) = (Turn::Relief, Duration::from_secs(1), Vec::new());
        plant.turn(&plan, |moment| {
            let view = oracle::view(moment, &first());
            let given = view.target.minus(view.previous_target);
            prop_assert!(
                given.plus(ROUNDED) >= lacked.min(taken),
                "{given} of {taken} that were given: {view:?}"
            );
            Ok(())
        })?;
        Ok(SETTLED + 2)
    });
}
