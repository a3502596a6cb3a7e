//! Runs one property over as many turns as asked for.

use overcommit_core::step::State;
use proptest::prelude::*;

use super::Course;
use super::plant::{Moment, Plant};
pub(crate) use crate::measure::Verdict;
use crate::measure::{show_over, turns};

/// Runs a course and shows `check` every turn.
pub fn run(course: &Course, mut check: impl FnMut(&Moment<'_>) -> Verdict) -> Verdict {
    let mut plant = Plant::new(course);
    for plan in &course.turns {
        plant.turn(plan, &mut check)?;
    }
    Ok(())
}

/// Shows courses to fresh checks until enough turns have passed; panics with the smallest course that fails. One
/// that fails becomes a test of its own in `found.rs`.
pub fn prove<C: FnMut(&Moment<'_>) -> Verdict>(
    courses: impl Strategy<Value = Course>,
    fresh: impl Fn() -> C,
) {
    prove_over(turns(), courses, fresh);
}

/// The same over so many turns.
pub fn prove_over<C: FnMut(&Moment<'_>) -> Verdict>(
    wanted: u64,
    courses: impl Strategy<Value = Course>,
    fresh: impl Fn() -> C,
) {
    show_over(wanted, courses, |course| run(&course, fresh()).map(|()| course.turns.len()));
}

/// The state as it is after it was written and read.
pub fn written_and_read(state: &State) -> State {
    serde_json::from_slice(&serde_json::to_vec(state).unwrap()).unwrap()
}
