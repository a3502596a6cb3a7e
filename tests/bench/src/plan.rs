//! Which windows are run, in which order.

use crate::controller::Controller;
use crate::outcome::Key;
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
            }));
        }
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

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
