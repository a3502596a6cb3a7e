//! Reports for a terminal: a table of the guests, or one JSON line per turn.

use std::io::Write as _;

use overcommit_core::ledger::Ledger;
use overcommit_core::step::Release;
use overcommit_core::units::Bytes;
use overcommit_crds::condition::rfc3339;
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
    text.extend(report.ledger.as_ref().map(account));
    for trouble in report.troubles.iter() {
        text.extend(["  ! ", trouble, "\n"]);
    }
    for note in report.program.iter().flat_map(|told| &*told.notes) {
        text.extend(["  program: ", note, "\n"]);
    }
    text.extend(merging(report).map(|ksm| format!("  ksm: {ksm}\n")));
    if let Some(sum) = unlisted(report) {
        text.extend(["  unlisted: ", &sum, "\n"]);
    }
    if !report.guests.is_empty() {
        text.push_str(&row("GUEST", "FULL", "TARGET", "ACTUAL", "FLOOR", "WHY"));
    }
    for g in &report.guests {
        let [full, target, actual] = [g.full, g.target, g.actual].map(|b| b.to_string());
        let floor = if g.exempt { "-".to_owned() } else { g.floor.to_string() };
        text.push_str(&row(&g.name.to_string(), &full, &target, &actual, &floor, &g.why()));
    }
    text
}

/// What is done about merging equal pages; absent where the policy leaves it alone.
fn merging(report: &Report) -> Option<String> {
    let ksm = &report.ksm;
    if ksm.is_unasked() {
        return None;
    }
    let does = match (ksm.scan, ksm.observing) {
        (true, false) => "scans",
        (true, true) => "would scan",
        (false, _) => "does not scan",
    };
    let cpu = ksm.cpu.map_or(String::new(), |share| format!(", {share} of one CPU"));
    Some(format!("{does}: {}; merged {}{cpu}", ksm.reason, ksm.merged))
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

/// How the budget comes about; the names are those of `docs/ledger.md`.
fn account(ledger: &Ledger) -> String {
    let less = ledger.kept().map(|(name, bytes)| format!(" - {name} {bytes}")).concat();
    let (total, budget) = (ledger.total, ledger.budget);
    format!("  total {total}{less} = budget {budget}; promised {}\n", ledger.promised)
}

/// What is still to be given back, and whom that waits for.
pub(crate) fn to_go(outstanding: Bytes, waits_for: Option<&str>) -> String {
    match (outstanding, waits_for) {
        (Bytes::ZERO, Some(whom)) => format!("waits for {whom}"),
        (outstanding, None) => format!("{outstanding} to go"),
        (outstanding, Some(whom)) => format!("{outstanding} to go, and waits for {whom}"),
    }
}

/// How far a release is, for whoever waits for it.
pub(crate) fn giving_back(release: Option<Release>, waits_for: Option<&str>) -> String {
    match release {
        Some(Release::Underway { outstanding }) => to_go(outstanding, waits_for),
        Some(Release::Blocked { short }) => {
            let whom = waits_for.map_or_else(String::new, |whom| format!(", and it waits for {whom}"));
            format!("the node lacks {short}; more comes as memory becomes free{whom}")
        }
        Some(Release::Done) => "all is given".to_owned(),
        None => "what guests hold is being asked".to_owned(),
    }
}

/// The node in one line.
pub(crate) fn headline(report: &Report) -> String {
    let paused = if report.paused { ", paused" } else { "" };
    let program = if report.program.is_some() { " by its program" } else { "" };
    let (orders, how) = report.orders_missing_since.map_or_else(
        || (format!("policy {}", report.policy), format!(" {:?}{program}{paused}", report.mode)),
        |since| (format!("NO ORDERS since {}", rfc3339(since)), String::new()),
    );
    let Some(ledger) = &report.ledger else {
        return format!("{} {orders}: the host cannot be read\n", report.at);
    };
    let state = match report.release {
        None if ledger.shortfall.is_zero() => format!("spare {}", ledger.spare),
        None => format!("SHORT OF {}", ledger.shortfall),
        Some(Release::Done) => "released".to_owned(),
        Some(Release::Underway { outstanding }) => {
            format!("releasing, {}", to_go(outstanding, report.waits_for.as_deref()))
        }
        Some(Release::Blocked { short }) => format!("release blocked: short of {short}"),
    };
    format!(
        "{} {orders}{how}: budget {}, promised {}, reclaimed {}, {state}\n",
        rfc3339(report.at),
        ledger.budget,
        ledger.promised,
        ledger.reclaimed,
    )
}

#[cfg(test)]
mod tests {
    use overcommit_core::units::Bytes;

    use super::*;
    use crate::report::fixture;

    #[test]
    fn the_table_shows_how_the_budget_comes_about() {
        let gib = Bytes::from_gib;
        let ledger = Ledger {
            total: gib(16),
            reserve: gib(3),
            eviction: gib(1),
            non_guest: gib(2),
            non_guest_growth: gib(4),
            budget: gib(6),
            promised: gib(5),
            ..Ledger::default()
        };
        let told = table(&Report { ledger: Some(ledger), ..fixture::report(Vec::new()) });
        let account = "  total 16.0 GiB - reserve 3.0 GiB - eviction 1.0 GiB - huge_pages 0 KiB - non_guest 2.0 GiB \
                       - non_guest_growth 4.0 GiB - unlisted 0 KiB = budget 6.0 GiB; promised 5.0 GiB\n";
        assert!(told.contains(account), "{told}");
        assert!(told.contains(" policy p Observe: budget 6.0 GiB"), "{told}");
        let paused = table(&Report { paused: true, ..fixture::report(Vec::new()) });
        assert!(paused.contains(" policy p Observe, paused: budget"), "{paused}");
        let told = overcommit_core::mom::Told::default();
        let program = Report { paused: true, program: Some(told), ..fixture::report(Vec::new()) };
        assert!(table(&program).contains(" policy p Observe by its program, paused:"), "{}", table(&program));
        let since = Some(jiff::Timestamp::UNIX_EPOCH);
        let none = Report { paused: true, orders_missing_since: since, ..fixture::report(Vec::new()) };
        assert!(table(&none).contains(" NO ORDERS since 1970-01-01T00:00:00Z: budget"), "{}", table(&none));
        let unreadable = table(&Report { ledger: None, ..none });
        assert!(unreadable.contains(" NO ORDERS since 1970-01-01T00:00:00Z: the host"), "{unreadable}");
    }
}
