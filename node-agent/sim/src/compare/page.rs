//! Comparisons as the table of a page for people, `docs/adaptive.md`: a row for each scenario.

use std::fmt::Write as _;

use super::{Comparison, Run};
use crate::table::time;

/// What the table's first line begins with.
const HEAD: &str = "| scenario |";

/// A page without such a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no table in it whose first line begins with `{HEAD}`")]
pub struct NoTable;

/// The row of one comparison, the agent's loop first.
pub fn row(comparison: &Comparison) -> String {
    let mut row = format!("{}|", begin(&comparison.scenario));
    for (place, run) in comparison.runs.iter().enumerate() {
        let bold = if place == 0 { "**" } else { "" };
        let _ = write!(row, " {bold}{}{bold} |", cell(run));
    }
    row
}

/// The page with the rows of these comparisons in the places of those of the same scenarios, and new ones below.
///
/// # Errors
/// Where it has no such table.
pub fn replace(page: &str, comparisons: &[Comparison]) -> Result<String, NoTable> {
    let mut lines: Vec<String> = page.lines().map(str::to_owned).collect();
    let head = lines.iter().position(|line| line.starts_with(HEAD)).ok_or(NoTable)?;
    for comparison in comparisons {
        let rows = lines.iter().skip(head).take_while(|line| line.starts_with('|')).count();
        let end = head.saturating_add(rows);
        let begins = begin(&comparison.scenario);
        let known = lines.iter_mut().take(end).skip(head).find(|line| line.starts_with(&begins));
        match known {
            Some(known) => *known = row(comparison),
            None => lines.insert(end, row(comparison)),
        }
    }
    Ok(lines.join("\n") + "\n")
}

fn begin(scenario: &str) -> String {
    format!("| `{scenario}` ")
}

fn cell(run: &Run) -> String {
    let suffering = time(run.suffering);
    let mut cell = match run.way {
        Some(way) => format!("{way} % ({suffering})"),
        None => suffering,
    };
    for (count, what) in [(run.node.ended(), "ended"), (run.node.killed_within, "kills within")] {
        if count > 0 {
            let _ = write!(cell, ", {count} {what}");
        }
    }
    cell
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::score::NodeScore;

    fn run(minutes: u64, way: Option<i64>, killed: u64, killed_within: u64) -> Run {
        let node = NodeScore { killed, killed_within, ..NodeScore::default() };
        let suffering = Duration::from_mins(minutes);
        Run { who: "somebody".to_owned(), suffering, worst: suffering, way, node }
    }

    fn comparison(scenario: &str) -> Comparison {
        Comparison { scenario: scenario.to_owned(), runs: vec![run(5, Some(50), 0, 0), run(10, None, 1, 2)] }
    }

    #[test]
    fn a_row_takes_the_place_of_its_scenarios_and_a_new_one_comes_below_the_others() {
        let page = "text\n\n| scenario | loop | nobody |\n| --- | --- | --- |\n| `a` | 1 | 2 |\n| `b` | 3 | 4 |\n\n`b` is said\n";
        let row = "| **50 % (5.0 min)** | 10.0 min, 1 ended, 2 kills within |";
        assert_eq!(
            replace(page, &[comparison("c"), comparison("a")]).unwrap(),
            format!(
                "text\n\n| scenario | loop | nobody |\n| --- | --- | --- |\n| `a` {row}\n| `b` | 3 | 4 |\n| `c` {row}\n\n`b` is said\n"
            )
        );
        assert_eq!(replace("text\n", &[]), Err(NoTable));
    }
}
