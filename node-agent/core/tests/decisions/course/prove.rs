//! Runs one property over as many turns as asked for.

use std::cell::Cell;

use overcommit_core::step::State;
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestError, TestRng, TestRunner};

use super::Course;
use super::plant::{Moment, Plant};

/// What a check says of one turn.
pub type Verdict = Result<(), TestCaseError>;

/// Turns that each property is shown when nothing else is asked for.
const TURNS: u64 = 100_000;
/// Courses between two looks at the count.
const BATCH: u32 = 64;

/// `OVERCOMMIT_TURNS`, or what `make test` runs.
fn turns() -> u64 {
    std::env::var("OVERCOMMIT_TURNS").ok().map_or(TURNS, |text| text.parse().unwrap())
}

/// `OVERCOMMIT_SEED`, or 0: `make test` shows the same courses each time, so that a change is what made it fail, and
/// `make soak` others.
fn seed() -> u64 {
    std::env::var("OVERCOMMIT_SEED").ok().map_or(0, |text| text.parse().unwrap())
}

/// The courses of one batch of one seed.
fn rng(seed: u64, batch: u64) -> TestRng {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes[8..16].copy_from_slice(&batch.to_le_bytes());
    TestRng::from_seed(RngAlgorithm::ChaCha, &bytes)
}

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
    let seen = Cell::new(0_u64);
    let config = ProptestConfig {
        cases: BATCH,
        max_shrink_iters: 50_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let chosen = seed();
    for batch in 0.. {
        if seen.get() >= wanted {
            return;
        }
        let outcome = TestRunner::new_with_rng(config.clone(), rng(chosen, batch)).run(&courses, |course| {
            seen.set(seen.get() + u64::try_from(course.turns.len()).unwrap());
            run(&course, fresh())
        });
        match outcome {
            Ok(()) => {}
            Err(TestError::Fail(why, course)) => {
                panic!("seed {chosen}, after {} turns: {why}\n{course:?}", seen.get())
            }
            Err(TestError::Abort(why)) => panic!("{why}"),
        }
    }
}

/// The state as it is after it was written and read.
pub fn written_and_read(state: &State) -> State {
    serde_json::from_slice(&serde_json::to_vec(state).unwrap()).unwrap()
}
