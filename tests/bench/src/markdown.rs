//! The tables, for people and for `docs/benchmarks`.

use std::fmt::Write as _;

use crate::goals::goals;
use crate::outcome::Outcome;
use crate::scenario::Scenario;
use crate::summary::{CARRIED, CARRIED_HEADS, LEGEND, carried, heads, notes, summary};

/// A table for each scenario; over it its picture, where there are pictures of that name.
pub(crate) fn markdown(machine: &str, outcomes: &[Outcome], pictures: Option<&str>) -> String {
    let mut text = format!("{machine}\n\n{LEGEND}\n");
    for (scenario, rows) in summary(outcomes) {
        let _ = write!(text, "\n## {scenario}: {}\n\n", scenario.title());
        if let Some(name) = pictures {
            let _ = write!(text, "![Work, {}]({name}-{scenario}.svg)\n\n", scenario.unit());
        }
        text.push_str(&line(&heads(scenario).map(str::to_owned)));
        text.push_str(&line(&heads(scenario).map(|_| "---".to_owned())));
        text.extend(rows.iter().map(|row| line(&row.cells())));
        let of_this: Vec<_> = outcomes.iter().filter(|outcome| outcome.key.scenario == scenario).collect();
        let all = goals(scenario, &rows, &of_this).into_iter().chain(notes(&of_this));
        let notes: Vec<_> = all.map(|note| format!("- {note}\n")).collect();
        if !notes.is_empty() {
            let _ = write!(text, "\n{}", notes.concat());
        }
    }
    let carried = carried(outcomes);
    if !carried.is_empty() {
        let _ = write!(text, "\n## {0}: {1}\n\n{CARRIED}\n\n", Scenario::Density, Scenario::Density.title());
        text.push_str(&line(&CARRIED_HEADS.map(str::to_owned)));
        text.push_str(&line(&CARRIED_HEADS.map(|_| "---".to_owned())));
        text.extend(carried.iter().map(|row| line(row)));
    }
    text
}

fn line(cells: &[String]) -> String {
    format!("| {} |\n", cells.join(" | "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::Controller;
    use crate::outcome::Key;
    use crate::outcome::tests::outcome;

    #[test]
    fn a_table_says_who_did_how_much() {
        let text = markdown(
            "A machine.",
            &[
                outcome(Controller::None, 1, &[25_600, 25_600]),
                outcome(Controller::Ours, 1, &[51_200, 25_600]),
            ],
            None,
        );
        assert!(
            text.contains("| none | 1 | 2.0 (2.0–2.0) | 1.00 (1.00–1.00) | – | – | – | 2 of 2 |"),
            "{text}"
        );
        assert!(
            text.contains("\n- goal: work beside the best of the others ≥ 1.2; 1.50, reached\n"),
            "{text}"
        );
        assert!(text.contains("| ours | 1 | 3.0 (3.0–3.0) | 1.50 (1.50–1.50) |"), "{text}");
    }

    #[test]
    fn how_many_guests_are_carried_has_a_table_of_its_own() {
        let of = |controller, count: usize, each| {
            let mut of = outcome(controller, 1, &vec![each; count]);
            of.key = Key { scenario: Scenario::Density, count: u64::try_from(count).ok(), ..of.key };
            of
        };
        let [ceiling, ours] = [Controller::Ceiling, Controller::Ours];
        let text = markdown(
            "A machine.",
            &[of(ceiling, 6, 100), of(ours, 6, 95), of(ceiling, 9, 100), of(ours, 9, 50)],
            None,
        );
        assert!(text.ends_with("| ours | 1 | 6 | 9: 50 % of the work |\n"), "{text}");
        assert!(!text.contains("MiB/s |"), "no table of work: {text}");
    }

    #[test]
    fn what_came_to_nothing_is_told_below_the_table() {
        let mut failed = outcome(Controller::Mom, 2, &[]);
        failed.failed = Some("no such program".into());
        let text = markdown("A machine.", &[outcome(Controller::Mom, 1, &[25_600]), failed], None);
        assert!(text.contains("| mom | 1 | 1.0 (1.0–1.0) |"), "{text}");
        assert!(text.ends_with("\n\n- mom, round 2, is no result: no such program\n"), "{text}");
    }
}
