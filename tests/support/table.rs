//! The live table of a demonstration: a row with a bar per guest, and the node's account below them.

use anyhow::{Context as _, Result};
use overcommit_core::ledger::Ledger;
use overcommit_core::policy::Mode;
use overcommit_core::units::Bytes;
use overcommit_core::view::GuestView;
use serde::Deserialize;

/// Characters of a bar.
const BAR: u64 = 24;
/// What the characters of a bar mean.
const LEGEND: &str = "█ uses  ▓ holds  ░ taken";

/// What the agent tells of one turn, as far as the table shows it.
#[derive(Clone, Debug, Deserialize)]
pub struct Report {
    /// Observe or Enforce.
    pub mode: Mode,
    /// The account; absent when the host could not be read.
    pub ledger: Option<Ledger>,
    /// Every guest.
    pub guests: Vec<GuestView>,
}

/// One guest of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// `namespace/name`, or the domain's name.
    pub name: String,
    /// Full size.
    pub full: Bytes,
    /// Balloon target, what it holds, and the floor; absent while no agent looks after it.
    pub held: Option<Held>,
    /// What it cannot do without, if it says so.
    pub used: Option<Bytes>,
    /// Why, in one sentence.
    pub why: String,
}

/// What an agent says of one guest's balloon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Target.
    pub target: Bytes,
    /// What the guest holds.
    pub actual: Bytes,
    /// Nothing is taken below this.
    pub floor: Bytes,
}

impl Report {
    /// Reads what `overcommit-agent status --output json` printed.
    ///
    /// # Errors
    /// When it is no report.
    pub fn read(text: &str) -> Result<Self> {
        serde_json::from_str(text).with_context(|| format!("not a report of the agent: {text}"))
    }

    /// A guest, by the last part of its name.
    pub fn guest(&self, name: &str) -> Option<&GuestView> {
        self.guests.iter().find(|g| &*g.name.name == name)
    }

    /// The table, in the order of the guests' names.
    pub fn lines(&self) -> Vec<String> {
        let mut rows: Vec<Row> = self.guests.iter().map(Row::from).collect();
        rows.sort_by(|a, b| a.name.cmp(&b.name));
        let mut lines = table(&rows);
        lines.extend(self.ledger.as_ref().map(|ledger| account(ledger, self.mode)));
        lines
    }
}

impl From<&GuestView> for Row {
    fn from(guest: &GuestView) -> Self {
        Self {
            name: guest.name.to_string(),
            full: guest.full,
            held: Some(Held { target: guest.target, actual: guest.actual, floor: guest.floor }),
            used: guest.used,
            why: guest.reason.to_string(),
        }
    }
}

/// Heading and rows.
pub fn table(rows: &[Row]) -> Vec<String> {
    let width = rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0).max(5);
    let head = ["full", "target", "holds", "floor", "uses"].map(|word| format!("{word:>8}")).concat();
    let heading = format!("  {:<width$}  {LEGEND:<24}  {head}  (MiB)", "guest");
    std::iter::once(heading).chain(rows.iter().map(|row| line(row, width))).collect()
}

fn line(row: &Row, width: usize) -> String {
    let held = |amount: fn(&Held) -> Bytes| row.held.as_ref().map(amount);
    let amounts = [Some(row.full), held(|h| h.target), held(|h| h.actual), held(|h| h.floor), row.used];
    let amounts = amounts
        .map(|amount| amount.map_or_else(|| format!("{:>8}", "-"), |b| format!("{:>8}", mib(b))))
        .concat();
    format!("  {:<width$}  {}  {amounts}  {}", row.name, bar(row), row.why)
}

/// The full size as a bar: what is used, what is held beyond that, what was taken.
fn bar(row: &Row) -> String {
    let held = row.held.map_or(row.full, |h| h.actual).min(row.full);
    let part =
        |bytes: Bytes| bytes.get().saturating_mul(BAR).checked_div(row.full.get()).unwrap_or(0).min(BAR);
    let (used, held) = (part(row.used.unwrap_or_default().min(held)), part(held));
    let run = |letter: &str, from: u64, to: u64| {
        letter.repeat(usize::try_from(to.saturating_sub(from)).unwrap_or(0))
    };
    [run("█", 0, used), run("▓", used, held), run("░", held, BAR)].concat()
}

fn account(ledger: &Ledger, mode: Mode) -> String {
    let balance = if ledger.shortfall.is_zero() {
        format!("spare {}", mib(ledger.spare))
    } else {
        // Never "SHORT OF 0".
        format!("SHORT OF {}", ledger.shortfall.get().div_ceil(1 << 20))
    };
    let plan = if mode == Mode::Observe { "  (observing: a plan; nobody is touched)" } else { "" };
    format!(
        "  node: budget {}, promised {}, {balance}, reclaimed {} MiB{plan}",
        mib(ledger.budget),
        mib(ledger.promised),
        mib(ledger.reclaimed)
    )
}

fn mib(bytes: Bytes) -> u64 {
    bytes.get() >> 20
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(used: Option<u64>, actual: u64) -> Row {
        let held = Held {
            target: Bytes::from_mib(100),
            actual: Bytes::from_mib(actual),
            floor: Bytes::from_mib(48),
        };
        Row {
            name: "default/idle".into(),
            full: Bytes::from_mib(192),
            held: Some(held),
            used: used.map(Bytes::from_mib),
            why: "gives page cache".into(),
        }
    }

    #[test]
    fn a_bar_is_the_full_size_and_shows_what_is_used_held_and_taken() {
        assert_eq!(bar(&row(Some(48), 96)), format!("{}{}{}", "█".repeat(6), "▓".repeat(6), "░".repeat(12)));
        assert_eq!(bar(&row(None, 96)), format!("{}{}", "▓".repeat(12), "░".repeat(12)));
        let stale = format!("{}{}", "█".repeat(12), "░".repeat(12));
        assert_eq!(bar(&row(Some(150), 96)), stale, "it cannot use what it does not hold");
        assert_eq!(bar(&row(Some(400), 400)), "█".repeat(24), "never longer than itself");
        assert_eq!(bar(&Row { held: None, ..row(None, 0) }), "▓".repeat(24), "no agent: it has all");
        assert_eq!(bar(&Row::default()).chars().count(), 24);
    }

    #[test]
    fn columns_stand_below_their_headings() {
        let lines = table(&[row(None, 96), Row { name: "a-much-longer/name".into(), ..Row::default() }]);
        let [head, first, second] = &lines[..] else { unreachable!() };
        let end_of = |line: &str, word: &str| {
            let at = line.rfind(word).unwrap() + word.len();
            line[..at].chars().count()
        };
        assert_eq!(end_of(head, "full"), end_of(first, " 192"));
        assert_eq!(end_of(head, "target"), end_of(first, " 100"));
        assert_eq!(end_of(head, "uses"), end_of(first, " -"));
        assert_eq!(end_of(head, "full"), end_of(second, " 0"));
    }
}
