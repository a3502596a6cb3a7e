//! All rounds of a scenario, a row for each controller.

use std::collections::BTreeMap;

use crate::controller::Controller;
use crate::figures::Figure;
use crate::outcome::Outcome;
use crate::scenario::Scenario;

/// What is said of one controller in one scenario.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    pub(crate) controller: Controller,
    pub(crate) rounds: usize,
    /// MiB written a second by all guests, at the median pace of the machine.
    pub(crate) work: Option<Figure>,
    /// The same as a part of what was done in the same round without a controller, and without a squeeze.
    pub(crate) of_none: Option<Figure>,
    pub(crate) of_ceiling: Option<Figure>,
    /// Of all rounds.
    pub(crate) kills: u64,
    pub(crate) livelocks: usize,
    /// Guests that lived unhurt, in the worst round, and how many there are.
    pub(crate) unhurt: usize,
    pub(crate) guests: usize,
    /// Work of the least guest beside the mean.
    pub(crate) fairness: Option<Figure>,
    /// MiB swapped by the machine.
    pub(crate) host_swap_mib: Option<Figure>,
    /// CPU time of the controller, in s, and its memory, in MiB.
    pub(crate) cpu_s: Option<Figure>,
    pub(crate) resident_mib: Option<Figure>,
}

/// What stands over a table of rows.
pub(crate) const HEADS: [&str; 12] = [
    "controller",
    "rounds",
    "MiB/s",
    "of none",
    "of the ceiling",
    "unhurt",
    "kills",
    "livelocks",
    "least/mean",
    "host swap, MiB",
    "CPU, s",
    "memory, MiB",
];

impl Row {
    /// What is told of it, below [`HEADS`].
    pub(crate) fn cells(&self) -> [String; 12] {
        let told = |figure: Option<Figure>, digits: usize| {
            figure.map_or_else(|| "–".to_owned(), |figure| format!("{figure:.digits$}"))
        };
        [
            self.controller.to_string(),
            self.rounds.to_string(),
            told(self.work, 1),
            told(self.of_none, 2),
            told(self.of_ceiling, 2),
            format!("{} of {}", self.unhurt, self.guests),
            self.kills.to_string(),
            self.livelocks.to_string(),
            told(self.fairness, 2),
            told(self.host_swap_mib, 0),
            told(self.cpu_s, 1),
            told(self.resident_mib, 0),
        ]
    }
}

/// The scenarios of which there are outcomes, each with a row for each controller.
pub(crate) fn summary(outcomes: &[Outcome]) -> BTreeMap<Scenario, Vec<Row>> {
    let mut scenarios: BTreeMap<Scenario, BTreeMap<Controller, Vec<&Outcome>>> = BTreeMap::new();
    for outcome in outcomes {
        let controllers = scenarios.entry(outcome.key.scenario).or_default();
        controllers.entry(outcome.key.controller).or_default().push(outcome);
    }
    scenarios.into_iter().map(|(scenario, controllers)| (scenario, rows(&controllers))).collect()
}

fn rows(controllers: &BTreeMap<Controller, Vec<&Outcome>>) -> Vec<Row> {
    let paces: Vec<f64> =
        controllers.values().flatten().flat_map(|outcome| [outcome.index.0, outcome.index.1]).collect();
    let reference = Figure::of(&paces).map_or(1.0, |pace| pace.median);
    let beside = |ours: &[&Outcome], other: Controller| {
        let others = controllers.get(&other).map_or(&[][..], Vec::as_slice);
        let pair = |outcome: &&Outcome| {
            let key = |of: &Outcome| (of.key.seed, of.key.round);
            let other = others.iter().find(|other| key(other) == key(outcome))?.work_at(reference);
            (other > 0.0).then(|| outcome.work_at(reference) / other)
        };
        Figure::of(&ours.iter().filter_map(pair).collect::<Vec<_>>())
    };
    let row = |(controller, outcomes): (&Controller, &Vec<&Outcome>)| {
        let figure = |of: &dyn Fn(&Outcome) -> Option<f64>| {
            Figure::of(&outcomes.iter().filter_map(|outcome| of(outcome)).collect::<Vec<_>>())
        };
        Row {
            controller: *controller,
            rounds: outcomes.len(),
            work: figure(&|outcome| Some(outcome.work_at(reference))),
            of_none: beside(outcomes, Controller::None),
            of_ceiling: beside(outcomes, Controller::Ceiling),
            kills: outcomes.iter().map(|outcome| outcome.kills()).sum(),
            livelocks: outcomes.iter().filter(|outcome| outcome.livelock.is_some()).count(),
            unhurt: outcomes.iter().map(|outcome| outcome.unhurt()).min().unwrap_or(0),
            guests: outcomes.iter().map(|outcome| outcome.guests.len()).max().unwrap_or(0),
            fairness: figure(&Outcome::fairness),
            host_swap_mib: figure(&|outcome| u32::try_from(outcome.host_swap_mib()).ok().map(f64::from)),
            cpu_s: figure(&|outcome| outcome.cost.map(|cost| cost.cpu_ms / 1000.0)),
            resident_mib: figure(&|outcome| outcome.cost.map(|cost| cost.resident_mib)),
        }
    };
    controllers.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::tests::outcome;

    #[test]
    fn controllers_are_compared_within_their_rounds() {
        let outcomes = [
            outcome(Controller::None, 1, &[100]),
            outcome(Controller::Ours, 1, &[300]),
            // Everything was ten times as fast, and nobody is better for that.
            outcome(Controller::None, 2, &[1000]),
            outcome(Controller::Ours, 2, &[3000]),
            // No pair.
            outcome(Controller::Ours, 3, &[9]),
        ];
        let summary = summary(&outcomes);
        let rows = &summary[&Scenario::F];
        let ours = rows.iter().find(|row| row.controller == Controller::Ours).unwrap();
        assert_eq!(ours.rounds, 3);
        let ratio = ours.of_none.unwrap();
        assert!((ratio.low - 3.0).abs() < 1e-9 && (ratio.high - 3.0).abs() < 1e-9, "{ratio:?}");
        assert_eq!(ours.of_ceiling, None);
    }

    #[test]
    fn the_worst_round_says_how_many_lived() {
        let mut hurt = outcome(Controller::None, 2, &[1, 1]);
        hurt.guests[0].kills = 3;
        hurt.livelock = Some((5.0, "opened".into()));
        let summary = summary(&[outcome(Controller::None, 1, &[1, 1]), hurt]);
        let row = &summary[&Scenario::F][0];
        assert_eq!((row.unhurt, row.guests, row.kills, row.livelocks), (1, 2, 3, 1));
    }
}
