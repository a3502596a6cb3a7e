//! How much each property is shown, and how: the one place that reads what `make test` and `make soak` ask for.

use std::cell::Cell;
use std::fmt::Debug;

use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestError, TestRng, TestRunner};

/// What a check says of one turn.
pub(crate) type Verdict = Result<(), TestCaseError>;

/// Turns that each property is shown when nothing else is asked for.
const TURNS: u64 = 100_000;
/// Cases between two looks at the count.
const BATCH: u32 = 64;

/// `OVERCOMMIT_TURNS`, or what `make test` runs.
pub(crate) fn turns() -> u64 {
    std::env::var("OVERCOMMIT_TURNS").ok().map_or(TURNS, |text| text.parse().unwrap())
}

/// `OVERCOMMIT_SEED`, or 0: `make test` shows the same cases each time, so that a change is what made it fail, and
/// `make soak` others.
fn seed() -> u64 {
    std::env::var("OVERCOMMIT_SEED").ok().map_or(0, |text| text.parse().unwrap())
}

/// The cases of one batch of one seed.
fn rng(seed: u64, batch: u64) -> TestRng {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes[8..16].copy_from_slice(&batch.to_le_bytes());
    TestRng::from_seed(RngAlgorithm::ChaCha, &bytes)
}

/// Shows generated cases until so many turns were looked at, as `check` counts them; panics with the smallest case that fails.
pub(crate) fn show_over<T: Debug>(
    wanted: u64,
    cases: impl Strategy<Value = T>,
    check: impl Fn(T) -> Result<usize, TestCaseError>,
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
        let outcome = TestRunner::new_with_rng(config.clone(), rng(chosen, batch)).run(&cases, |case| {
            let turns = u64::try_from(check(case)?).unwrap();
            seen.set(seen.get().saturating_add(turns));
            Ok(())
        });
        match outcome {
            Ok(()) => {}
            Err(TestError::Fail(why, case)) => {
                panic!("seed {chosen}, after {} turns: {why}\n{case:?}", seen.get())
            }
            Err(TestError::Abort(why)) => panic!("{why}"),
        }
    }
}

/// The same over as many turns as asked for.
pub(crate) fn show<T: Debug>(
    cases: impl Strategy<Value = T>,
    check: impl Fn(T) -> Result<usize, TestCaseError>,
) {
    show_over(turns(), cases, check);
}
