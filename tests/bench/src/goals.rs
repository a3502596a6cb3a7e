//! What the project wants the agent to reach beside everybody whom one could have instead, and whether the figures show it.

use crate::controller::Controller;
use crate::outcome::Outcome;
use crate::recovery::Recovery;
use crate::scenario::Scenario;
use crate::summary::Row;

/// Who decides instead of the agent. An equal part for each, and no squeeze, are what is possible, and nobody's to have.
const OTHERS: [Controller; 4] =
    [Controller::None, Controller::Mom, Controller::MomScaled, Controller::Ksmtuned];
/// All are to be back at work so many seconds after a surge.
const BACK_S: f64 = 30.0;

/// What a figure is to be.
#[derive(Clone, Copy)]
enum Line {
    AtLeast(f64),
    AtMost(f64),
}

/// The goals of a scenario, each with the agent's figure and whether it is reached; and which part of the way from the best of the others
/// to the ceiling the agent goes. What has nothing to be compared with is left out.
pub(crate) fn goals(scenario: Scenario, rows: &[Row], outcomes: &[&Outcome]) -> Vec<String> {
    let of = |controller: Controller| rows.iter().find(|row| row.controller == controller && row.rounds > 0);
    let Some(ours) = of(Controller::Ours) else { return Vec::new() };
    let mom = best(rows, &[Controller::Mom, Controller::MomScaled]);
    let mut goals = Goals { ours, none: of(Controller::None), said: Vec::new() };
    match scenario {
        Scenario::A => {
            goals.work_beside("none", goals.none, 1.3);
            goals.work_beside("MOM", mom, 1.15);
            let swap = |row: &Row| row.host_swap_mib.map(|figure| figure.median);
            goals.beside("host swap", "none", goals.none, swap, Line::AtMost(0.5));
        }
        Scenario::B => goals.not_below_none(),
        Scenario::C => {
            goals.not_below_none();
            goals.work_beside("none", goals.none, 1.2);
        }
        Scenario::D => {
            goals.not_below_none();
            let p95 = |row: &Row| row.p95_ms.map(|figure| figure.median);
            let p99 = |row: &Row| row.p99_ms.map(|figure| figure.median);
            goals.beside("p95", "none", goals.none, p95, Line::AtMost(1.0));
            goals.beside("p99", "none", goals.none, p99, Line::AtMost(1.0));
        }
        Scenario::E => {
            goals.work_beside("none", goals.none, 0.99);
            goals.say("targets set", ours.commands.map(|figure| figure.median), Line::AtMost(0.0));
        }
        Scenario::F | Scenario::FNoSwap => {
            goals.alive();
            goals.work_beside("the best of the others", best(rows, &OTHERS), 1.2);
            goals.say("of the ceiling", ours.of_ceiling.map(|figure| figure.median), Line::AtLeast(0.35));
            goals.say("least/mean", ours.fairness.map(|figure| figure.median), Line::AtLeast(0.4));
        }
        Scenario::G | Scenario::GNoSwap => {
            goals.alive();
            goals.say("back after a surge, s", back(outcomes), Line::AtMost(BACK_S));
        }
        Scenario::H => {
            let ksmtuned = of(Controller::Ksmtuned);
            let merged = |row: &Row| row.merged_mib.map(|figure| figure.median);
            let ksmd = |row: &Row| row.ksmd_cpu_s.map(|figure| figure.median);
            goals.beside("merged", "ksmtuned", ksmtuned, merged, Line::AtLeast(1.0));
            goals.beside("ksmd's time", "ksmtuned", ksmtuned, ksmd, Line::AtMost(0.5));
        }
        Scenario::Density => {}
    }
    goals.said.extend(way(ours, best(rows, &OTHERS), of(Controller::Ceiling)));
    goals.said
}

struct Goals<'a> {
    ours: &'a Row,
    none: Option<&'a Row>,
    said: Vec<String>,
}

impl Goals<'_> {
    fn say(&mut self, what: &str, value: Option<f64>, line: Line) {
        let Some(value) = value else { return };
        let (sign, line, reached) = match line {
            Line::AtLeast(least) => ("≥", least, value >= least),
            Line::AtMost(most) => ("≤", most, value <= most),
        };
        let verdict = if reached { "reached" } else { "missed" };
        let value = if value.is_finite() { format!("{value:.2}") } else { "∞".to_owned() };
        self.said.push(format!("goal: {what} {sign} {line}; {value}, {verdict}"));
    }

    fn beside(
        &mut self,
        what: &str,
        whom: &str,
        other: Option<&Row>,
        of: impl Fn(&Row) -> Option<f64>,
        line: Line,
    ) {
        let (ours, other) = (of(self.ours), other.and_then(&of).filter(|other| *other > 0.0));
        let value = ours.zip(other).map(|(ours, other)| ours / other);
        self.say(&format!("{what} beside {whom}"), value, line);
    }

    fn work_beside(&mut self, whom: &str, other: Option<&Row>, least: f64) {
        self.beside("work", whom, other, work, Line::AtLeast(least));
    }

    /// By what the interval leaves open.
    fn not_below_none(&mut self) {
        let high = self.ours.of_none.map(|figure| figure.high);
        self.say("work beside none, at the upper end of its interval", high, Line::AtLeast(1.0));
    }

    fn alive(&mut self) {
        let hurt = self.ours.guests - self.ours.unhurt + self.ours.livelocks;
        self.say("guests hurt, and livelocks", u32::try_from(hurt).ok().map(f64::from), Line::AtMost(0.0));
    }
}

fn work(row: &Row) -> Option<f64> {
    row.work.map(|figure| figure.median)
}

/// Who of these did most.
fn best<'a>(rows: &'a [Row], among: &[Controller]) -> Option<&'a Row> {
    let all = rows.iter().filter(|row| among.contains(&row.controller));
    all.filter(|row| work(row).is_some())
        .max_by(|a, b| work(a).unwrap_or(0.0).total_cmp(&work(b).unwrap_or(0.0)))
}

/// The longest that it took the agent's guests; without bound where they were not back.
fn back(outcomes: &[&Outcome]) -> Option<f64> {
    let ours = outcomes.iter().filter(|outcome| outcome.key.controller == Controller::Ours);
    let seconds = ours
        .filter(|outcome| outcome.void().is_none())
        .filter_map(|outcome| Recovery::of(outcome))
        .map(|recovery| match recovery {
            Recovery::After(seconds) => u32::try_from(seconds).map_or(f64::INFINITY, f64::from),
            Recovery::Never => f64::INFINITY,
        });
    seconds.reduce(f64::max)
}

fn way(ours: &Row, best: Option<&Row>, ceiling: Option<&Row>) -> Option<String> {
    let (best, ceiling) = (best?, work(ceiling?)?);
    let (from, to) = (work(best)?, work(ours)?);
    let part = (ceiling > from).then(|| (to - from) / (ceiling - from) * 100.0)?;
    Some(format!(
        "of the way from {}, the best of the others, to the ceiling ours goes {part:.0} %",
        best.controller
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::tests::{outcome, relief};
    use crate::summary::summary;
    use overcommit_tests::valve::Cause;

    fn told(scenario: Scenario, outcomes: &mut [Outcome]) -> Vec<String> {
        for outcome in outcomes.iter_mut() {
            outcome.key.scenario = scenario;
        }
        let summary = summary(outcomes);
        goals(scenario, &summary[&scenario], &outcomes.iter().collect::<Vec<_>>())
    }

    #[test]
    fn each_goal_is_told_with_its_figure_and_whether_it_is_reached() {
        let mut standing = outcome(Controller::None, 1, &[10, 10]);
        standing.relief = Some(relief(5.0, Cause::Livelock));
        let mut outcomes = [
            outcome(Controller::Ceiling, 1, &[500, 500]),
            standing,
            outcome(Controller::MomScaled, 1, &[100, 100]),
            outcome(Controller::Split, 1, &[400, 400]),
            outcome(Controller::Ours, 1, &[150, 250]),
        ];
        assert_eq!(
            told(Scenario::F, &mut outcomes),
            [
                "goal: guests hurt, and livelocks ≤ 0; 0.00, reached",
                "goal: work beside the best of the others ≥ 1.2; 2.00, reached",
                "goal: of the ceiling ≥ 0.35; 0.40, reached",
                "goal: least/mean ≥ 0.4; 0.75, reached",
                "of the way from mom-scaled, the best of the others, to the ceiling ours goes 25 %",
            ]
        );
    }

    #[test]
    fn a_goal_that_is_missed_says_so() {
        let mut outcomes = [outcome(Controller::None, 1, &[100]), outcome(Controller::Ours, 1, &[90])];
        let told = told(Scenario::E, &mut outcomes);
        assert_eq!(
            told,
            ["goal: work beside none ≥ 0.99; 0.90, missed", "goal: targets set ≤ 0; 0.00, reached"]
        );
    }

    #[test]
    fn what_has_nothing_to_be_compared_with_is_left_out() {
        assert_eq!(told(Scenario::A, &mut [outcome(Controller::Ours, 1, &[9])]), Vec::<String>::new());
        assert_eq!(told(Scenario::F, &mut [outcome(Controller::None, 1, &[9])]), Vec::<String>::new());
    }
}
