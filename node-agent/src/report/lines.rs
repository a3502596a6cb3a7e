//! Reports for a terminal: a table of the guests, or one JSON line per turn.

use std::io::Write as _;

use overcommit_core::step::Release;
use tracing_appender::non_blocking::NonBlocking;

use super::Report;
use crate::args::Output;

/// Prints on standard output.
#[derive(Debug)]
pub(crate) struct Printer {
    output: Output,
    out: NonBlocking,
}

impl Printer {
    /// A printer of that kind.
    pub(crate) fn new(output: Output, out: NonBlocking) -> Self {
        Self { output, out }
    }

    /// Prints one report. Text is printed only when something was done, for a log that people read.
    pub(crate) fn print(&mut self, report: &Report) {
        let text = match self.output {
            Output::Json => serde_json::to_string(report).unwrap_or_default() + "\n",
            Output::Text if report.actions.is_empty() => return,
            Output::Text => table(report),
        };
        // A closed pipe must not stop the loop, and one that nobody empties is behind a thread.
        drop(self.out.write_all(text.as_bytes()));
    }
}

/// The report as a table.
pub(crate) fn table(report: &Report) -> String {
    let mut text = headline(report);
    for trouble in &report.troubles {
        text.extend(["  ! ", trouble, "\n"]);
    }
    if let Some(sum) = unlisted(report) {
        text.extend(["  unlisted: ", &sum, "\n"]);
    }
    if !report.guests.is_empty() {
        text.push_str(&row("GUEST", "FULL", "TARGET", "ACTUAL", "FLOOR", "WHY"));
    }
    for g in &report.guests {
        let amounts = [g.full, g.target, g.actual, g.floor].map(|b| b.to_string());
        let [full, target, actual, floor] = amounts;
        text.push_str(&row(&g.name.to_string(), &full, &target, &actual, &floor, &g.reason.to_string()));
    }
    text
}

/// Pods that look like guests and are not listed, as one sum: of them nothing is known but what they say. Absent if there
/// is none.
pub(crate) fn unlisted(report: &Report) -> Option<String> {
    let sum = &report.unlisted;
    let pods = if sum.pods == 1 { "pod" } else { "pods" };
    (sum.pods > 0)
        .then(|| format!("{} {pods}, {} ({} of that untouched)", sum.pods, sum.charge, sum.untouched))
}

fn row(name: &str, full: &str, target: &str, actual: &str, floor: &str, why: &str) -> String {
    format!("  {name:<28} {full:>10} {target:>10} {actual:>10} {floor:>10}  {why}\n")
}

/// The node in one line.
pub(crate) fn headline(report: &Report) -> String {
    let mode = if report.paused { "paused" } else { "" };
    let Some(ledger) = &report.ledger else {
        return format!("{} policy {}: the host cannot be read\n", report.at, report.policy);
    };
    let state = match report.release {
        None if ledger.shortfall.is_zero() => format!("spare {}", ledger.spare),
        None => format!("SHORT OF {}", ledger.shortfall),
        Some(Release::Done) => "released".to_owned(),
        Some(Release::Underway { outstanding }) => format!("releasing, {outstanding} to go"),
        Some(Release::Blocked { short }) => format!("release blocked: short of {short}"),
    };
    format!(
        "{} policy {} {:?} {mode}: budget {}, promised {}, reclaimed {}, {state}\n",
        overcommit_crds::condition::rfc3339(report.at),
        report.policy,
        report.mode,
        ledger.budget,
        ledger.promised,
        ledger.reclaimed,
    )
}
