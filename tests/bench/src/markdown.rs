//! The tables, for people and for `docs/benchmarks`.

use std::fmt::Write as _;

use crate::figures::Figure;
use crate::outcome::Outcome;
use crate::summary::{Row, summary};

const HEAD: &str = "| controller | rounds | MiB/s | of none | of the ceiling | unhurt | kills | livelocks | least/mean | host swap, MiB | \
                    CPU, s | memory, MiB |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n";

/// A table for each scenario.
pub(crate) fn markdown(machine: &str, outcomes: &[Outcome]) -> String {
    let mut text = format!(
        "{machine}\n\nMedians, in brackets the interval in which nine of ten bootstrap medians lie. *MiB/s*: written by the loads \
         of all guests over the whole window, at the machine's median pace; time in which the machine stood still is work not \
         done. *of none*, *of the ceiling*: beside the same round without a controller, and without a squeeze. *unhurt*: guests of \
         which nothing was killed, in the worst round. *CPU*, *memory*: the controller's own.\n"
    );
    for (scenario, rows) in summary(outcomes) {
        let _ = write!(text, "\n## {scenario}: {}\n\n{HEAD}", scenario.title());
        text.extend(rows.iter().map(line));
    }
    text
}

fn line(row: &Row) -> String {
    let told =
        |figure: Option<Figure>, digits| figure.map_or_else(|| "–".to_owned(), |f| figure_words(f, digits));
    format!(
        "| {} | {} | {} | {} | {} | {} of {} | {} | {} | {} | {} | {} | {} |\n",
        row.controller,
        row.rounds,
        told(row.work, 1),
        told(row.of_none, 2),
        told(row.of_ceiling, 2),
        row.unhurt,
        row.guests,
        row.kills,
        row.livelocks,
        told(row.fairness, 2),
        told(row.host_swap_mib, 0),
        told(row.cpu_s, 1),
        told(row.resident_mib, 0),
    )
}

fn figure_words(figure: Figure, digits: usize) -> String {
    let Figure { median, low, high } = figure;
    format!("{median:.digits$} ({low:.digits$}–{high:.digits$})")
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
