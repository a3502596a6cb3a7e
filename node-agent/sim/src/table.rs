//! An outcome as a table for people.

use std::fmt::Write as _;
use std::time::Duration;

use overcommit_core::units::Bytes;

use crate::Outcome;
use crate::score::{GuestScore, NodeScore};

const HEAD: [&str; 11] = [
    "GUEST",
    "SIZE",
    "DISTRESS",
    "SQUEEZED",
    "RECLAIMED",
    "OVERSHOOT",
    "TURNS",
    "COMMANDS",
    "UNDONE",
    "OOM WITHIN",
    "ENDED",
];

/// The node's sums, and a line for each guest.
pub fn table(outcome: &Outcome) -> String {
    let rows: Vec<[String; 11]> = std::iter::once(HEAD.map(str::to_owned))
        .chain(outcome.guests.iter().map(|guest| row(outcome, guest)))
        .collect();
    let mut widths = [0_usize; 11];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = head(outcome);
    for row in &rows {
        let mut line = String::new();
        for (place, (cell, width)) in row.iter().zip(widths).enumerate() {
            let _ =
                if place == 0 { write!(line, "{cell:<width$}") } else { write!(line, "  {cell:>width$}") };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    harmless(&text)
}

fn head(outcome: &Outcome) -> String {
    let Outcome { scenario, shows, policy, seed, lasted, node, .. } = outcome;
    let NodeScore { distress, distress_squeezed, reclaimed, killed, evicted, killed_within, .. } = node;
    let NodeScore { stalled, shortfall, short, emergency, commands, undone, turns, decisions, .. } = node;
    let overshoot = tenths(node.overshoot_permille);
    let merging = if node.ksmd.is_zero() {
        String::new()
    } else {
        let (merged, cpu) = (node.merged, time(node.ksmd));
        format!("merging       {merged} saved on average, for {cpu} of a processor\n")
    };
    let (lasted, stalled) = (time(*lasted), time(*stalled));
    let seed = seed.map_or_else(String::new, |seed| format!("seed {seed}, "));
    let ended = if outcome.seed.is_some() {
        format!(
            "ended         {killed} killed by the node's kernel, {evicted} evicted by the kubelet; {killed_within} killed within guests\n\
             node          stalled {stalled}, "
        )
    } else {
        "node          ".to_owned()
    };
    format!(
        "{scenario}: {shows}\npolicy {policy}, {seed}{lasted}\n\n\
         distress      {} of guests' time, {} of it while their balloons held memory\n\
         reclaimed     {reclaimed} on average\n\
         {ended}short {}, by {shortfall} at most; emergencies {}\n\
         control       {decisions} decisions, {commands} targets set, {undone} takes undone, {turns} turns, overshoot {overshoot} % at most\n{merging}\n",
        time(*distress),
        time(*distress_squeezed),
        time(*short),
        time(*emergency),
    )
}

fn row(outcome: &Outcome, guest: &GuestScore) -> [String; 11] {
    let known = |cell: String| if outcome.seed.is_some() { cell } else { "?".to_owned() };
    let overshoot = guest.overshoot.scaled(1000, guest.size.get()).get();
    [
        guest.name.clone(),
        size(guest.size),
        time(guest.distress),
        time(guest.distress_squeezed),
        size(guest.reclaimed),
        format!("{} %", tenths(overshoot)),
        guest.turns.to_string(),
        guest.commands.to_string(),
        guest.undone.to_string(),
        known(guest.killed_within.to_string()),
        known(ended(guest)),
    ]
}

fn ended(guest: &GuestScore) -> String {
    let said = |count: u64, what: &str| (count > 0).then(|| format!("{what} {count}x"));
    let said = [said(guest.killed, "killed"), said(guest.evicted, "evicted")];
    let said: Vec<String> = said.into_iter().flatten().collect();
    if said.is_empty() { "-".to_owned() } else { said.join(", ") }
}

fn size(bytes: Bytes) -> String {
    bytes.to_string()
}

fn tenths(permille: u64) -> String {
    format!("{}.{}", permille / 10, permille % 10)
}

/// Names come from tenants and files from anybody: what a terminal would obey, or no picture may hold, is a question mark.
pub fn harmless(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '?' } else { c }).collect()
}

/// `0`, `45 s`, `3.5 min`, `12.0 h`, `7.0 d`.
pub(crate) fn time(span: Duration) -> String {
    let of = |unit: u64, name: &str| {
        let tenths = span.as_secs().saturating_mul(10) / unit;
        format!("{}.{} {name}", tenths / 10, tenths % 10)
    };
    match span.as_secs() {
        _ if span.is_zero() => "0".to_owned(),
        0..60 => format!("{} s", span.as_secs()),
        60..3_600 => of(60, "min"),
        3_600..172_800 => of(3_600, "h"),
        _ => of(86_400, "d"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_the_unit_that_people_would_use() {
        let told = |seconds| time(Duration::from_secs(seconds));
        assert_eq!([0, 45, 210, 43_200, 604_800].map(told), ["0", "45 s", "3.5 min", "12.0 h", "7.0 d"]);
    }
}
