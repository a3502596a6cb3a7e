//! All rounds of a scenario, a row for each controller.

use std::collections::{BTreeMap, BTreeSet};

use crate::controller::Controller;
use crate::density::Search;
use crate::figures::Figure;
use crate::outcome::Outcome;
use crate::recovery::Recovery;
use crate::scenario::Scenario;

/// What is said of one controller in one scenario.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    pub(crate) controller: Controller,
    pub(crate) rounds: usize,
    /// Of all guests, in the scenario's unit, at the median pace of the machine; of requests, of which no more can be answered
    /// than come, as it was.
    pub(crate) work: Option<Figure>,
    /// The same as a part of what was done in the same round without a controller, and without a squeeze.
    pub(crate) of_none: Option<Figure>,
    pub(crate) of_ceiling: Option<Figure>,
    /// How long requests waited.
    pub(crate) p95_ms: Option<Figure>,
    pub(crate) p99_ms: Option<Figure>,
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
    /// MiB that merging saved at the end, and its CPU time, in s.
    pub(crate) merged_mib: Option<Figure>,
    pub(crate) ksmd_cpu_s: Option<Figure>,
    /// Targets that the controller set.
    pub(crate) commands: Option<Figure>,
    /// CPU time of the controller, in s, and its memory, in MiB.
    pub(crate) cpu_s: Option<Figure>,
    pub(crate) resident_mib: Option<Figure>,
    pub(crate) steal_percent: Option<Figure>,
}

/// What the columns are.
pub(crate) const LEGEND: &str = "Medians, in brackets the interval in which nine of ten bootstrap medians lie. MiB/s: written by the loads of all guests over \
     the whole window, at the machine's median pace; time in which the machine stood still is work not done. \
     requests/s: answered; p95, p99: how long so many percent of all that came had waited for their answer, at most; ∞ where \
     more than the others had none. of none, of the \
     ceiling: beside the same round without a controller, and without a squeeze; ∞ where that did nothing at all and this something. \
     unhurt: guests of which nothing was killed and that could be told to work, in the worst round. least/mean: of the guests that \
     were to work. merged, ksmd: what merging of equal pages saves at the end, and its CPU time from the controller's start on. targets: set by the controller, from its start on. CPU, memory: the controller's own. steal: processor time that the machine wanted and did not get.";

/// What stands over a table of rows.
pub(crate) fn heads(scenario: Scenario) -> [&'static str; 18] {
    [
        "controller",
        "rounds",
        scenario.unit(),
        "of none",
        "of the ceiling",
        "p95, ms",
        "p99, ms",
        "unhurt",
        "kills",
        "livelocks",
        "least/mean",
        "host swap, MiB",
        "merged, MiB",
        "ksmd, s",
        "targets",
        "CPU, s",
        "memory, MiB",
        "steal, %",
    ]
}

impl Row {
    /// What is told of it, below [`heads`].
    pub(crate) fn cells(&self) -> [String; 18] {
        let told = |figure: Option<Figure>, digits: usize| {
            figure.map_or_else(|| "–".to_owned(), |figure| format!("{figure:.digits$}"))
        };
        [
            self.controller.to_string(),
            self.rounds.to_string(),
            told(self.work, 1),
            told(self.of_none, 2),
            told(self.of_ceiling, 2),
            told(self.p95_ms, 1),
            told(self.p99_ms, 1),
            format!("{} of {}", self.unhurt, self.guests),
            self.kills.to_string(),
            self.livelocks.to_string(),
            told(self.fairness, 2),
            told(self.host_swap_mib, 0),
            told(self.merged_mib, 0),
            told(self.ksmd_cpu_s, 1),
            told(self.commands, 0),
            told(self.cpu_s, 1),
            told(self.resident_mib, 0),
            told(self.steal_percent, 1),
        ]
    }
}

/// The scenarios of which there are outcomes, each with a row for each controller.
pub(crate) fn summary(outcomes: &[Outcome]) -> BTreeMap<Scenario, Vec<Row>> {
    let mut scenarios: BTreeMap<Scenario, BTreeMap<Controller, Vec<&Outcome>>> = BTreeMap::new();
    for outcome in outcomes.iter().filter(|outcome| outcome.key.count.is_none()) {
        let controllers = scenarios.entry(outcome.key.scenario).or_default();
        let row = controllers.entry(outcome.key.controller).or_default();
        // One that never came to a result has a row, of no rounds.
        row.extend(outcome.void().is_none().then_some(outcome));
    }
    scenarios.into_iter().map(|(scenario, controllers)| (scenario, rows(&controllers))).collect()
}

/// What that table is of.
pub(crate) const CARRIED: &str = "Carried are guests of which none is hurt, with no livelock, and which do at least 90 % of the work that as many do without a \
     squeeze, by the machine's pace. Found by halving; the next number is not carried, for the reason that stands there.";

/// What stands over a table of how many guests are carried.
pub(crate) const CARRIED_HEADS: [&str; 4] = ["controller", "round", "guests carried", "the next number"];

/// How many guests each controller's machine carries, round by round.
pub(crate) fn carried(outcomes: &[Outcome]) -> Vec<[String; 4]> {
    let of =
        |outcome: &&Outcome| outcome.key.count.is_some() && outcome.key.controller != Controller::Ceiling;
    let searches: BTreeSet<_> =
        outcomes.iter().filter(of).map(|outcome| (outcome.key.round, outcome.key.controller)).collect();
    let row = |(round, controller): (u32, Controller)| {
        let search = Search::of(controller, round, outcomes);
        [controller.to_string(), round.to_string(), search.carried.to_string(), search.told()]
    };
    searches.into_iter().map(row).collect()
}

fn rows(controllers: &BTreeMap<Controller, Vec<&Outcome>>) -> Vec<Row> {
    let paces: Vec<f64> = controllers.values().flatten().map(|outcome| outcome.pace.steps).collect();
    let reference = Figure::of(&paces).map_or(1.0, |pace| pace.median);
    let beside = |ours: &[&Outcome], other: Controller| {
        let others = controllers.get(&other).map_or(&[][..], Vec::as_slice);
        let pair = |outcome: &&Outcome| {
            let key = |of: &Outcome| (of.key.seed, of.key.round);
            let other = others.iter().find(|other| key(other) == key(outcome))?.work_at(reference);
            Some(ratio(outcome.work_at(reference), other))
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
            p95_ms: figure(&|outcome| outcome.waited_ms(950)),
            p99_ms: figure(&|outcome| outcome.waited_ms(990)),
            kills: outcomes.iter().map(|outcome| outcome.kills()).sum(),
            livelocks: outcomes.iter().filter(|outcome| outcome.livelock().is_some()).count(),
            unhurt: outcomes.iter().map(|outcome| outcome.unhurt()).min().unwrap_or(0),
            guests: outcomes.iter().map(|outcome| outcome.guests.len()).max().unwrap_or(0),
            fairness: figure(&Outcome::fairness),
            host_swap_mib: figure(&|outcome| u32::try_from(outcome.host_swap_mib()).ok().map(f64::from)),
            merged_mib: figure(&|outcome| u32::try_from(outcome.merged_mib()).ok().map(f64::from)),
            ksmd_cpu_s: figure(&|outcome| Some(outcome.ksmd_cpu_ms / 1000.0)),
            commands: figure(&|outcome| u32::try_from(outcome.told.len()).ok().map(f64::from)),
            cpu_s: figure(&|outcome| outcome.cost.map(|cost| cost.cpu_ms / 1000.0)),
            resident_mib: figure(&|outcome| outcome.cost.map(|cost| cost.resident_mib)),
            steal_percent: figure(&|outcome| Some(outcome.pace.steal_percent)),
        }
    };
    controllers.iter().map(row).collect()
}

/// Ours beside the other. Where the other did nothing, which a livelock is, anything is boundlessly more, and nothing is as much.
fn ratio(ours: f64, other: f64) -> f64 {
    match (ours > 0.0, other > 0.0) {
        (_, true) => ours / other,
        (true, false) => f64::INFINITY,
        (false, false) => 1.0,
    }
}

/// What is to be said of single windows beside figures: what came to nothing, what stood still, whose controller died, which
/// guests could not be told to work, and how soon all were back after a surge.
pub(crate) fn notes(outcomes: &[&Outcome]) -> Vec<String> {
    let of = |outcome: &&Outcome| {
        let window = format!("{}, round {}", outcome.key.controller, outcome.key.round);
        if let Some(why) = outcome.void() {
            return vec![format!("{window}, is no result: {}", short(&why))];
        }
        let stood = outcome.livelock().map(|at| format!("{window}: livelock after {at:.0} s"));
        let died = outcome.controller_died.as_ref();
        let died = died.map(|why| format!("{window}: the controller died: {}", short(why)));
        let refused = outcome.guests.iter().filter_map(|guest| {
            let why = guest.refused.as_ref()?;
            Some(format!("{window}: {} could not be told to work: {}", guest.name, short(why)))
        });
        let back = Recovery::of(outcome).map(|recovery| match recovery {
            Recovery::After(seconds) => {
                format!("{window}: back at 90 % of the rate before the surge {seconds} s after it")
            }
            Recovery::Never => format!("{window}: not back at 90 % of the rate before the surge"),
        });
        stood.into_iter().chain(died).chain(refused).chain(back).collect()
    };
    outcomes.iter().flat_map(of).collect()
}

/// Reasons quote logs: their beginning and their end, in one line.
fn short(text: &str) -> String {
    const KEPT: usize = 150;
    let words: Vec<char> = text.split_whitespace().collect::<Vec<_>>().join(" ").chars().collect();
    match (words.get(..KEPT), words.len().checked_sub(KEPT).and_then(|from| words.get(from..))) {
        (Some(begin), Some(end)) if words.len() > 2 * KEPT => {
            begin.iter().chain(&[' ', '…', ' ']).chain(end).collect()
        }
        _ => words.iter().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::tests::{outcome, relief};
    use overcommit_tests::valve::Cause;

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
        hurt.relief = Some(relief(5.0, Cause::Livelock));
        let summary = summary(&[outcome(Controller::None, 1, &[1, 1]), hurt]);
        let row = &summary[&Scenario::F][0];
        assert_eq!((row.unhurt, row.guests, row.kills, row.livelocks), (1, 2, 3, 1));
    }

    #[test]
    fn a_round_in_which_nobody_got_anything_done_counts() {
        let row = |rounds: &[(u64, u64)]| {
            let outcomes: Vec<_> = (1..)
                .zip(rounds)
                .flat_map(|(round, (none, ours))| {
                    [outcome(Controller::None, round, &[*none]), outcome(Controller::Ours, round, &[*ours])]
                })
                .collect();
            summary(&outcomes)[&Scenario::F][1].of_none.unwrap()
        };
        assert!(row(&[(0, 5), (0, 5), (10, 20)]).median.is_infinite());
        assert!((row(&[(0, 5), (10, 20), (10, 20)]).median - 2.0).abs() < 1e-9);
        assert!((row(&[(0, 0)]).median - 1.0).abs() < 1e-9, "as little as that");
        assert_eq!(format!("{:.2}", row(&[(0, 5)])), "∞ (∞–∞)");
    }

    #[test]
    fn a_reason_that_quotes_a_log_is_told_by_its_beginning_and_its_end() {
        let told = short(&format!("why\n  {}\nthe end", "a line of a log\n".repeat(100)));
        assert!(
            told.starts_with("why a line") && told.ends_with("log the end") && told.chars().count() == 303,
            "{told}"
        );
        assert_eq!(short("why"), "why");
    }

    #[test]
    fn what_is_no_result_enters_no_figure_and_is_told() {
        let mut failed = outcome(Controller::Mom, 1, &[]);
        failed.failed = Some("it ended\nits log".into());
        let mut late = outcome(Controller::None, 2, &[9]);
        late.relief = Some(relief(5.0, Cause::Deadline));
        let mut died = outcome(Controller::Ours, 1, &[7]);
        died.controller_died = Some("ended with 1".into());
        died.guests[0].refused = Some("no answer".into());
        let outcomes = [failed, outcome(Controller::None, 1, &[7]), late, died];
        let rows = &summary(&outcomes)[&Scenario::F];
        let rounds: Vec<_> = rows.iter().map(|row| (row.controller, row.rounds, row.livelocks)).collect();
        assert_eq!(rounds, [(Controller::None, 1, 0), (Controller::Ours, 1, 0), (Controller::Mom, 0, 0)]);
        assert_eq!(
            notes(&outcomes.iter().collect::<Vec<_>>()),
            [
                "mom, round 1, is no result: it ended its log",
                "none, round 2, is no result: the squeeze ended after 5 s: the valve opened",
                "ours, round 1: the controller died: ended with 1",
                "ours, round 1: g0 could not be told to work: no answer",
            ]
        );
    }
}
