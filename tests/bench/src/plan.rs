//! Which windows are run, in which order.

use std::time::Duration;

use crate::controller::Controller;
use crate::outcome::{Key, Outcome};
use crate::scenario::Scenario;

/// All controllers once in each round, of each scenario in turn; who comes first changes from round to round, for the machine's drift
/// within a round must not always hit the same.
pub(crate) fn plan(scenarios: &[Scenario], controllers: &[Controller], seed: u64, rounds: u32) -> Vec<Key> {
    let mut keys = Vec::new();
    for (turn, round) in (1..=rounds).enumerate() {
        for scenario in scenarios {
            let first = turn.checked_rem(controllers.len()).unwrap_or_default();
            let order = controllers.iter().cycle().skip(first).take(controllers.len());
            // Another demand in each round: one pattern may suit one controller by chance.
            let seed = seed.wrapping_add(u64::from(round) - 1);
            keys.extend(order.map(|controller| Key {
                scenario: *scenario,
                seed,
                round,
                controller: *controller,
                count: None,
            }));
        }
    }
    keys
}

/// What a window takes beside its work: boot, squeeze, settling, relief.
const BESIDE: Duration = Duration::from_secs(150);

fn estimate(key: Key) -> Duration {
    key.scenario.window() + BESIDE
}

/// How long the rest takes: as estimated, and as much longer or shorter as windows took that were measured here.
pub(crate) fn left<'a>(rest: &[Key], measured: impl Iterator<Item = &'a Outcome>) -> Duration {
    let results = measured.filter(|outcome| outcome.void().is_none() && outcome.livelock().is_none());
    let (took, estimated) = results.fold((0.0, 0.0), |(took, estimated), outcome| {
        (took + outcome.took_s, estimated + estimate(outcome.key).as_secs_f64())
    });
    let all: Duration = rest.iter().copied().map(estimate).sum();
    if estimated > 0.0 { all.mul_f64(took / estimated) } else { all }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::tests::{outcome, relief};
    use overcommit_tests::valve::Cause;

    #[test]
    fn what_windows_took_says_how_long_the_rest_takes() {
        let rest = plan(&[Scenario::F], &[Controller::None], 1, 2);
        let took = |took_s| Outcome { took_s, ..outcome(Controller::None, 1, &[1]) };
        let left = |measured: &[Outcome]| left(&rest, measured.iter()).as_secs();
        assert_eq!(left(&[]), 600);
        assert_eq!(left(&[took(400.0), took(500.0)]), 900);
        let short = Outcome { relief: Some(relief(1.0, Cause::Livelock)), ..took(100.0) };
        let failed = Outcome { failed: Some("why".into()), ..took(1.0) };
        assert_eq!(left(&[took(600.0), short, failed]), 1200, "these ended early");
    }

    #[test]
    fn each_round_has_all_controllers_on_one_demand_and_another_one_begins() {
        let controllers = [Controller::None, Controller::Ours, Controller::Mom];
        let keys = plan(&[Scenario::F], &controllers, 7, 3);
        assert_eq!(keys.len(), 9);
        for (round, seed) in [(1, 7), (2, 8), (3, 9)] {
            let of = keys.iter().filter(|key| key.round == round).collect::<Vec<_>>();
            assert!(of.iter().all(|key| key.seed == seed));
            assert!(controllers.iter().all(|controller| of.iter().any(|key| key.controller == *controller)));
        }
        let first = |round| keys.iter().find(|key| key.round == round).unwrap().controller;
        assert_eq!([first(1), first(2), first(3)], controllers);
    }

    #[test]
    fn nothing_asked_for_is_no_window() {
        assert!(
            plan(&[Scenario::F], &[], 1, 3).is_empty() && plan(&[], &[Controller::None], 1, 3).is_empty()
        );
    }
}
