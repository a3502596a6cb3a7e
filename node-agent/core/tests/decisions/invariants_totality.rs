//! Whatever comes in, the loop decides, the same each time, and never wraps (overflow checks are on in tests).

#![allow(clippy::unwrap_used)] // helpers outside #[test] functions are test code too

use std::cell::RefCell;

use crate::course::generate::{Temper, any_course, tempered};
use crate::course::plant::Plant;
use crate::course::prove::{prove, prove_over, written_and_read};
use overcommit_core::reason::Reason;
use overcommit_core::step::{Decision, Release};
use overcommit_core::units::Bytes;
use proptest::prelude::*;

/// No panic and no wrap, and every guest has a reason.
#[test]
fn every_turn_decides_and_says_why() {
    prove(tempered(Temper::Hostile), || {
        |moment| {
            prop_assert_eq!(moment.decision.guests.len(), moment.sample.guests.len());
            for view in &moment.decision.guests {
                prop_assert!(!view.reason.code().is_empty() && !view.reason.to_string().is_empty());
                prop_assert!(view.target == view.previous_target || !matches!(view.reason, Reason::Held(_)));
            }
            Ok(())
        }
    });
}

/// A ledger never wraps: no part of it is more than the whole that it is part of.
#[test]
fn the_ledger_adds_up() {
    prove(any_course(), || {
        |moment| {
            let l = &moment.decision.ledger;
            prop_assert!(l.budget <= l.total && l.overhead <= l.promised);
            prop_assert!(l.committed <= l.promised.max(l.resident));
            prop_assert!(l.shortfall <= l.committed && l.spare <= l.budget);
            prop_assert!(
                l.shortfall == l.committed.minus(l.budget) && l.spare == l.budget.minus(l.committed)
            );
            let full: Bytes = moment.sample.guests.iter().map(|g| g.config.full).sum();
            prop_assert!(l.reclaimed <= full);
            if let Some(Release::Blocked { short }) = moment.decision.release {
                prop_assert!(!short.is_zero());
            }
            Ok(())
        }
    });
}

fn same(a: &Decision, b: &Decision) -> bool {
    format!("{a:?}") == format!("{b:?}")
}

/// The same input gives the same decision, also from a state that was written and read in between.
#[test]
fn the_same_input_gives_the_same_decision() {
    prove(any_course(), || {
        |moment| {
            let mut again = written_and_read(moment.before);
            prop_assert_eq!(&again, moment.before);
            let decision = again.step(&moment.input);
            prop_assert!(same(&decision, moment.decision));
            prop_assert_eq!(&again, moment.state);
            Ok(())
        }
    });
}

/// The courses show what they are to test: each kind of decision is made many times.
#[test]
fn the_courses_reach_every_kind_of_decision() {
    let seen = RefCell::new(std::collections::BTreeMap::<&str, u64>::new());
    prove_over(200_000, any_course(), || {
        |moment| {
            let mut seen = seen.borrow_mut();
            for view in &moment.decision.guests {
                *seen.entry(view.reason.code()).or_default() += 1;
            }
            *seen.entry("Emergency").or_default() += u64::from(moment.decision.emergency);
            Ok(())
        }
    });
    let seen = seen.into_inner();
    for code in [
        "TakeUnused",
        "TakeCache",
        "TakeEmergency",
        "GiveDistress",
        "GiveNeed",
        "GiveSlack",
        "GiveBlind",
        "GiveReboot",
        "GiveRelease",
        "GiveExempt",
        "UndoNotFollowed",
        "UndoDeflated",
        "UndoNotFreed",
        "UndoSilent",
        "UndoHurt",
        "BackingOff",
        "NodeLimit",
        "GuestLimit",
        "BalloonLags",
        "Booting",
        "Paused",
        "Busy",
        "Migrating",
        "Plugging",
        "StaleStatistics",
        "NoStatistics",
        "ImpossibleStatistics",
        "AwaitingStatistics",
        "NotFollowing",
        "Unproven",
        "OldFacts",
        "TakingPaused",
        "FirstLook",
        "Waiting",
        "TakeProgram",
        "GiveProgram",
        "ProgramFailed",
        "ProgramRefused",
        "Hurts",
        "Emergency",
    ] {
        assert!(seen.get(code).is_some_and(|n| *n >= 1), "{code}: {seen:?}");
    }
}

#[test]
fn a_course_can_be_run_twice() {
    proptest!(ProptestConfig { cases: 20, failure_persistence: None, ..ProptestConfig::default() },
        |(course in any_course())| {
        let states = |mut plant: Plant| {
            course.turns.iter().for_each(|plan| plant.turn(plan, |_| ()));
            plant.state
        };
        prop_assert_eq!(states(Plant::new(&course)), states(Plant::new(&course)));
    });
}
