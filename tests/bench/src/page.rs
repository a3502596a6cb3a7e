//! The report as one page: tables and drawings, nothing fetched from anywhere.

pub(crate) mod bars;
mod course;

use std::fmt::Write as _;

use crate::goals::goals;
use crate::outcome::Outcome;
use crate::scenario::Scenario;
use crate::summary::{CARRIED, CARRIED_HEADS, LEGEND, Row, carried, heads, notes, summary};

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:62rem;padding:0 1rem;color:#222}\
                     table{border-collapse:collapse;margin:1rem 0}td,th{padding:.2rem .7rem;border-bottom:1px solid #ddd;text-align:right}\
                     td:first-child,th:first-child{text-align:left}figure{margin:1rem 0}figcaption{color:#555}svg{max-width:100%}";

/// The whole page.
pub(crate) fn page(machine: &str, outcomes: &[Outcome]) -> String {
    let mut text = format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>Controllers of memory compared</title><style>{STYLE}</style>\n\
         <h1>Controllers of memory compared</h1>\n<p>{}</p>\n<p>{}</p>\n",
        escaped(machine),
        escaped(LEGEND)
    );
    for (scenario, rows) in summary(outcomes) {
        let _ = writeln!(text, "<h2>{scenario}: {}</h2>", escaped(scenario.title()));
        let _ = writeln!(
            text,
            "<figure>{}<figcaption>Work, {}.</figcaption></figure>",
            bars::bars(&rows, |row| row.work),
            scenario.unit()
        );
        if scenario.answers() {
            let _ = writeln!(
                text,
                "<figure>{}<figcaption>99 of 100 requests waited no longer for their answer, ms.</figcaption></figure>",
                bars::bars(&rows, |row| row.p99_ms)
            );
        }
        text.push_str(&table(scenario, &rows));
        let of_this: Vec<_> = outcomes.iter().filter(|outcome| outcome.key.scenario == scenario).collect();
        let all = goals(scenario, &rows, &of_this).into_iter().chain(notes(&of_this));
        let notes: Vec<_> = all.map(|note| format!("<li>{}</li>", escaped(&note))).collect();
        let _ = writeln!(text, "<ul>{}</ul>", notes.concat());
        let drawn = |outcome: &&&Outcome| outcome.void().is_none();
        let last = of_this.iter().filter(drawn).map(|outcome| outcome.key.round).max();
        for outcome in of_this.iter().filter(drawn).filter(|outcome| Some(outcome.key.round) == last) {
            let _ = writeln!(
                text,
                "<figure>{}<figcaption>{}, round {}: what the guests hold, one above the other, and what the machine has \
                 beside (dashed); below them what their balloons were told to take (down) and to give (up); red: a kill or a livelock.</figcaption></figure>",
                course::course(outcome),
                outcome.key.controller,
                outcome.key.round
            );
        }
    }
    let carried = carried(outcomes);
    if !carried.is_empty() {
        let _ =
            writeln!(text, "<h2>{}: {}</h2><p>{CARRIED}</p>", Scenario::Density, Scenario::Density.title());
        let _ = writeln!(text, "<table><tr><th>{}</tr>", CARRIED_HEADS.join("<th>"));
        for row in carried {
            let _ = writeln!(text, "<tr><td>{}</tr>", row.map(|cell| escaped(&cell)).join("<td>"));
        }
        text.push_str("</table>\n");
    }
    text
}

fn table(scenario: Scenario, rows: &[Row]) -> String {
    let mut text = format!("<table><tr><th>{}</tr>\n", heads(scenario).join("<th>"));
    for row in rows {
        let _ = writeln!(text, "<tr><td>{}</tr>", row.cells().join("<td>"));
    }
    text + "</table>\n"
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use overcommit_tests::valve::Cause;

    use crate::commands::Told;
    use crate::controller::Controller;
    use crate::outcome::tests::{outcome, relief};
    use crate::outcome::{GuestMoment, HostMoment};

    #[test]
    fn a_page_draws_each_controller_and_fetches_nothing() {
        let mut ours = outcome(Controller::Ours, 1, &[100, 200]);
        for second in 1..=3_u32 {
            let at = f64::from(second);
            ours.guests[0].course.push(GuestMoment { at, done: 1, resident_mib: 100 });
            ours.host.push(HostMoment {
                at,
                available_mib: 900,
                swapped_in_mib: 0,
                swapped_out_mib: 0,
                merged_mib: 0,
            });
        }
        let told = |at, to_mib| Told { at, guest: "g0".into(), from_mib: 300, to_mib };
        ours.told = vec![told(-5.0, 200), told(1.0, 200), told(2.0, 300)];
        ours.relief = Some(relief(2.0, Cause::Livelock));
        let page = page("A <machine>.", &[outcome(Controller::None, 1, &[10, 20]), ours]);
        assert!(page.contains("A &lt;machine&gt;.") && page.contains("ours, round 1"));
        assert_eq!(page.matches("<svg").count(), 3);
        assert!(!page.contains("src=") && !page.contains("href="));
        assert!(page.contains("#c22"), "the livelock is marked");
        let commands = ["#b5651d", "#2a7a2a"].map(|colour| page.matches(colour).count());
        assert_eq!(commands, [1, 1], "those of the window");
    }
}
