//! The tables, for people and for `docs/benchmarks`.

use std::fmt::Write as _;

use crate::outcome::Outcome;
use crate::summary::{HEADS, summary};

/// A table for each scenario.
pub(crate) fn markdown(machine: &str, outcomes: &[Outcome]) -> String {
    let mut text = format!(
        "{machine}\n\nMedians, in brackets the interval in which nine of ten bootstrap medians lie. *MiB/s*: written by the loads \
         of all guests over the whole window, at the machine's median pace; time in which the machine stood still is work not \
         done. *of none*, *of the ceiling*: beside the same round without a controller, and without a squeeze. *unhurt*: guests of \
         which nothing was killed, in the worst round. *CPU*, *memory*: the controller's own.\n"
    );
    for (scenario, rows) in summary(outcomes) {
        let _ = write!(text, "\n## {scenario}: {}\n\n", scenario.title());
        text.push_str(&line(&HEADS.map(str::to_owned)));
        text.push_str(&line(&HEADS.map(|_| "---".to_owned())));
        text.extend(rows.iter().map(|row| line(&row.cells())));
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
    use crate::outcome::tests::outcome;

    #[test]
    fn a_table_says_who_did_how_much() {
        let text = markdown(
            "A machine.",
            &[
                outcome(Controller::None, 1, &[25_600, 25_600]),
                outcome(Controller::Ours, 1, &[51_200, 25_600]),
            ],
        );
        assert!(text.contains("| none | 1 | 2.0 (2.0–2.0) | 1.00 (1.00–1.00) | – | 2 of 2 |"), "{text}");
        assert!(text.contains("| ours | 1 | 3.0 (3.0–3.0) | 1.50 (1.50–1.50) |"), "{text}");
    }
}
