//! Who is believed, and what becomes of takes that fail (design §6, 6 and 7), over generated courses.

#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects)] // helpers outside #[test] functions are test code too

use std::collections::BTreeMap;
use std::time::Duration;

use crate::course::generate::{Temper, any_course, tempered};
use crate::course::oracle::{self, Memory};
use crate::course::prove::prove;
use overcommit_core::conduct::Trust;
use overcommit_core::reason::Failure;
use overcommit_core::sample::{GuestId, GuestSample, RunState};
use overcommit_core::units::{Bytes, Monotonic};
use proptest::{prop_assert, prop_assert_eq};

/// Less than this between target and actual is no disobedience.
const TOLERANCE: Bytes = Bytes::from_mib(4);
/// What the kernel says of a guest this much before the host is read is taken for of one moment with it.
const OF_ONE_MOMENT: Duration = Duration::from_secs(1);

/// Invariant 6: a guest whose balloon obeys and whose process lets go is never accused of anything else.
#[test]
fn who_obeys_is_never_accused() {
    prove(tempered(Temper::Honest), || {
        |moment| {
            for view in &moment.decision.guests {
                prop_assert!(matches!(view.failure, None | Some(Failure::Hurt(_))), "{view:?}");
                prop_assert_eq!(view.trust, Trust::Trusted);
            }
            Ok(())
        }
    });
}

/// Invariant 7: who has not moved for half a minute although it should is not believed any more.
#[test]
fn who_does_not_follow_is_not_believed() {
    prove(tempered(Temper::Valid), || {
        let mut stuck: BTreeMap<GuestId, (Bytes, Monotonic)> = BTreeMap::new();
        let mut memory = Memory::default();
        move |moment| {
            memory.observe(moment);
            stuck.retain(|id, _| moment.sample.guests.iter().any(|g| g.id == *id));
            for guest in &moment.sample.guests {
                let view = oracle::view(moment, &guest.id);
                let life = memory.life(&guest.id);
                let looked_at = guest.run_state == RunState::Running && !life.awaited() && !life.is_blurred();
                let balloon = guest.balloon.filter(|_| looked_at && !oracle::observing(moment));
                // Nobody holds more than it has, whatever its device says.
                let actual = balloon.map(|b| b.actual.min(guest.config.full));
                let squeezed = view.previous_target < view.ceiling();
                let apart = |a: &Bytes| squeezed && *a > view.previous_target.plus(TOLERANCE);
                let Some(actual) = actual.filter(apart) else {
                    stuck.remove(&guest.id);
                    continue;
                };
                let before = stuck.get(&guest.id).filter(|(was, _)| *was == actual).map(|(_, since)| *since);
                let since = before.filter(|_| !life.is_new(moment)).unwrap_or(moment.sample.at);
                stuck.insert(guest.id.clone(), (actual, since));
                let late = moment.sample.at.since(since) > Duration::from_secs(31);
                prop_assert!(!late || view.trust != Trust::Trusted, "{view:?}");
            }
            Ok(())
        }
    });
}

/// Invariant 7: from who lies nothing is taken, whatever an engine wants.
#[test]
fn nothing_is_taken_from_who_lies() {
    prove(any_course(), || {
        |moment| {
            for step in moment.decision.plan.moves().iter().filter(|step| step.takes()) {
                let trust = oracle::view(moment, &step.id).trust;
                // More than the host has, or its pod may hold, it never had.
                let bound = oracle::guest(moment, &step.id).facts.bound.unwrap_or(Bytes::MAX);
                let idle = step.to >= moment.sample.host.memory.total.min(bound);
                prop_assert!(idle || trust != Trust::Untrusted, "{step:?}");
            }
            Ok(())
        }
    });
}

/// Invariants 6 and 7: a failed take is undone as far as the host can pay, and for half a minute nothing is taken.
#[test]
fn a_failed_take_is_not_repeated_at_once() {
    prove(any_course(), || {
        let mut failed: BTreeMap<GuestId, Monotonic> = BTreeMap::new();
        let mut failures: BTreeMap<GuestId, Option<Failure>> = BTreeMap::new();
        let mut memory = Memory::default();
        move |moment| {
            memory.observe(moment);
            let now = moment.sample.at;
            failed.retain(|id, _| moment.sample.guests.iter().any(|g| g.id == *id));
            for view in &moment.decision.guests {
                if memory.life(&view.id).is_new(moment) {
                    failed.remove(&view.id);
                }
                let before = failures.insert(view.id.clone(), view.failure).flatten();
                if view.failure.is_some() && view.failure != before {
                    failed.insert(view.id.clone(), now);
                }
            }
            for step in moment.decision.plan.moves().iter().filter(|m| m.takes()) {
                let since = failed.remove(&step.id);
                let waited = since.is_none_or(|s| now.since(s) >= Duration::from_secs(30));
                prop_assert!(waited, "{step:?}");
            }
            Ok(())
        }
    });
}

/// Invariant 7 and design §4: what is promised is never less than what guests may touch, everything for those who
/// are not believed, have no balloon, or have rebooted and not reported.
#[test]
fn the_ledger_charges_all_that_guests_may_touch() {
    prove(any_course(), || {
        let mut memory = Memory::default();
        move |moment| {
            memory.observe(moment);
            let least = oracle::promised(moment, &memory, |view| view.previous_target);
            let promised = moment.decision.ledger.promised;
            prop_assert!(moment.decision.observing || promised >= least, "{promised} < {least}");
            Ok(())
        }
    });
}

/// Design §4: the budget is never more than the host has beside what is no guest, by its own count.
#[test]
fn the_budget_is_never_more_than_the_host_has() {
    prove(any_course(), || {
        let mut memory = Memory::default();
        move |moment| {
            memory.observe(moment);
            let (budget, most) = (moment.decision.ledger.budget, oracle::most(moment, &memory));
            prop_assert!(moment.decision.observing || budget <= most, "{budget} > {most}");
            Ok(())
        }
    });
}

/// Design §4: while the kernel does not answer about a guest, what is no guest is not believed to have shrunk: what went
/// may be that guest's, and memory that is there twice would be given away.
#[test]
fn what_cannot_be_told_apart_is_never_spare() {
    prove(tempered(Temper::Valid), || {
        let mut memory = Memory::default();
        let mut told: Option<Bytes> = None;
        move |moment| {
            memory.observe(moment);
            let (own, believed) = (oracle::own(moment), moment.decision.ledger.non_guest);
            let age = |g: &GuestSample| memory.life(&g.id).facts_age(moment.sample.at);
            let is_now = |g: &GuestSample| age(g).is_none_or(|a| a.is_zero() && g.incarnation.is_some());
            if moment.sample.guests.iter().all(is_now) {
                told = Some(own);
            }
            // What moves within that time is nobody's.
            let just_now = |g: &&GuestSample| !is_now(g) && age(g).is_some_and(|age| age <= OF_ONE_MOMENT);
            if moment.sample.guests.iter().any(|g| just_now(&g)) {
                told = Some(told.unwrap_or(own).min(own).min(believed));
                return Ok(());
            }
            let least = told.map_or(own, |told| told.min(own));
            prop_assert!(moment.decision.observing || believed >= least, "{believed} < {least}");
            Ok(())
        }
    });
}
