//! Turns (design §5 and §6.9) over generated courses: what is crossed for them is crossed for a reason that was seen.

#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects)] // helpers outside #[test] functions are test code too

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::Duration;

use crate::course::generate::thirsty_course;
use crate::course::oracle::{self, Memory};
use crate::course::plant::Moment;
use crate::course::prove::{prove, prove_over};
use overcommit_core::sample::GuestId;
use overcommit_core::turns::Place;
use overcommit_core::units::{Bytes, Monotonic};
use proptest::prop_assert;

/// What each guest's counter of swapped memory was, and whether it ever rose since that guest's kernel booted.
#[derive(Default)]
struct Swaps(BTreeMap<GuestId, (Bytes, bool)>);

impl Swaps {
    fn observe(&mut self, moment: &Moment<'_>) {
        for guest in &moment.sample.guests {
            let Some(out) = guest.balloon.and_then(|balloon| balloon.swap_out) else { continue };
            let (before, rose) = self.0.get(&guest.id).copied().unwrap_or((out, false));
            self.0.insert(guest.id.clone(), (out, out >= before && (rose || out > before)));
        }
    }
}

#[test]
fn only_who_was_seen_to_swap_waits_its_turn() {
    prove(thirsty_course(), || {
        let mut swaps = Swaps::default();
        move |moment| {
            swaps.observe(moment);
            for view in moment.decision.guests.iter().filter(|view| view.turn == Some(Place::Waits)) {
                prop_assert!(swaps.0.get(&view.id).is_some_and(|(_, rose)| *rose), "{view:?}");
                prop_assert!(moment.decision.turns && !oracle::observing(moment), "{view:?}");
            }
            Ok(())
        }
    });
}

/// Whoever cannot be taken from, or whose words are worth nothing, does not wait either.
#[test]
fn who_must_not_be_taken_from_does_not_wait() {
    prove(thirsty_course(), || {
        let mut memory = Memory::default();
        move |moment| {
            memory.observe(moment);
            for view in moment.decision.guests.iter().filter(|view| view.turn == Some(Place::Waits)) {
                let life = memory.life(&view.id);
                prop_assert!(!oracle::exempt(moment, &memory, &view.id), "{view:?}");
                prop_assert!(!oracle::give_only(moment, life), "{view:?}");
                prop_assert!(life.words(moment.sample.at).is_some(), "{view:?}");
            }
            Ok(())
        }
    });
}

#[test]
fn turns_begin_only_after_guests_hurt_for_a_while() {
    prove(thirsty_course(), || {
        let (mut hurt_since, mut taken): (Option<Monotonic>, bool) = (None, false);
        move |moment| {
            let now = moment.sample.at;
            let hurts = moment.decision.guests.iter().any(|view| view.distressed);
            hurt_since = if hurts { hurt_since.or(Some(now)) } else { None };
            if moment.decision.turns && !taken {
                let long = hurt_since.is_some_and(|since| now.since(since) >= Duration::from_secs(15));
                prop_assert!(long, "{hurt_since:?} at {now:?}");
            }
            taken = moment.decision.turns;
            Ok(())
        }
    });
}

/// Whoever waits keeps an eighth of its size, and what its class and its pod were promised.
#[test]
fn no_take_for_a_turn_goes_below_what_was_promised() {
    prove(thirsty_course(), || {
        let mut memory = Memory::default();
        move |moment| {
            memory.observe(moment);
            for step in moment.decision.plan.moves().iter().filter(|step| step.takes()) {
                let least = oracle::least(moment, &memory, &step.id);
                prop_assert!(step.to >= least, "{step:?} < {least}");
            }
            Ok(())
        }
    });
}

/// What the courses above never reach they do not prove.
#[test]
fn somebody_waits_in_these_courses() {
    let (waits, all) = (Cell::new(0_u32), Cell::new(0_u32));
    prove_over(10_000, thirsty_course(), || {
        |moment| {
            let somebody = moment.decision.guests.iter().any(|view| view.turn == Some(Place::Waits));
            waits.set(waits.get() + u32::from(somebody));
            all.set(all.get() + 1);
            Ok(())
        }
    });
    assert!(waits.get() * 50 > all.get(), "{} of {}", waits.get(), all.get());
}
