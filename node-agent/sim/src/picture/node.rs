//! The node's panel: budget, what is committed of it, what is resident; when it was short; when it ended a guest.

use std::time::Duration;

use overcommit_core::units::Bytes;
use svg::node::element::{Group, Line};

use super::frame::{Frame, wide};
use super::{ink, text};
use crate::course::millis;
use crate::table::time;
use crate::{NodeSeries, Outcome};

const AXIS: u64 = 72;
const LEGEND: u64 = 24;
const TICKS: u64 = 22;

pub(super) fn panel(outcome: &Outcome, (x, y): (u64, u64), (width, height): (u64, u64)) -> Group {
    let series = &outcome.series.node;
    let highest = [&series.budget, &series.committed, &series.resident].into_iter().flatten().max();
    let frame = Frame {
        x: x.saturating_add(AXIS),
        y: y.saturating_add(LEGEND),
        width: width.saturating_sub(AXIS),
        height: height.saturating_sub(LEGEND + TICKS),
        most: highest.copied().unwrap_or_default().scaled(21, 20),
        points: series.budget.len(),
    };
    let over: Vec<Bytes> = series.budget.iter().zip(&series.committed).map(|(b, p)| *b.max(p)).collect();
    let mut group = grid(Group::new(), &frame);
    group = clock(group, &frame, outcome);
    group = group
        .add(frame.below(&series.resident, ink::HELD))
        .add(frame.between(&series.budget, &over, ink::BAD).set("fill-opacity", "0.25"))
        .add(frame.line(&series.committed, ink::TARGET))
        .add(frame.line(&series.budget, ink::TEXT).set("stroke-dasharray", "6 3"));
    group = ended(group, &frame, series, outcome.lasted);
    legend(group, (frame.x, y.saturating_add(14)))
}

/// Quarters of the height, each with its amount.
fn grid(group: Group, frame: &Frame) -> Group {
    (0..=4_u64).fold(group, |group, quarter| {
        let value = frame.most.scaled(quarter, 4);
        let level = frame.level(value);
        let label =
            text(&value.to_string(), (frame.x.saturating_sub(8), level.saturating_add(4)), 11, ink::FAINT);
        group
            .add(line((frame.x, level), (frame.x.saturating_add(frame.width), level), ink::GRID))
            .add(label.set("text-anchor", "end"))
    })
}

/// Between four and ten marks of round times.
fn clock(mut group: Group, frame: &Frame, outcome: &Outcome) -> Group {
    const ROUND: [u64; 16] =
        [1, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 14_400, 43_200, 86_400, 604_800, 2_592_000];
    let seconds = outcome.lasted.as_secs().max(1);
    let step = ROUND.into_iter().find(|step| seconds / step <= 10).unwrap_or(seconds);
    let mut at = 0_u64;
    while at <= seconds {
        let x = frame.x.saturating_add(frame.width.saturating_mul(at) / seconds);
        let words = if at == 0 { "0".to_owned() } else { time(Duration::from_secs(at)) };
        let below = (x, frame.bottom().saturating_add(16));
        let anchor = if at == seconds { "end" } else { "middle" };
        group = group
            .add(line((x, frame.y), (x, frame.bottom()), ink::GRID))
            .add(text(&words, below, 11, ink::FAINT).set("text-anchor", anchor));
        let Some(next) = at.checked_add(step) else { break };
        at = next;
    }
    group
}

fn ended(group: Group, frame: &Frame, series: &NodeSeries, lasted: Duration) -> Group {
    series.ended.iter().fold(group, |group, at| {
        let x = frame.x.saturating_add(frame.width.saturating_mul(millis(*at)) / millis(lasted).max(1));
        let cross = text("✕", (x, frame.y.saturating_add(12)), 14, ink::BAD).set("text-anchor", "middle");
        group.add(line((x, frame.y.saturating_add(16)), (x, frame.bottom()), ink::BAD)).add(cross)
    })
}

fn legend(group: Group, (x, y): (u64, u64)) -> Group {
    let entries = [
        ("budget", ink::TEXT),
        ("committed", ink::TARGET),
        ("resident, or held by a guest", ink::HELD),
        ("short, or in distress", ink::BAD),
        ("a guest's need", ink::NEED),
        ("a guest's target", ink::TARGET),
        ("✕ a guest was ended", ink::BAD),
    ];
    let mut across = x;
    entries.into_iter().fold(group, |group, (words, colour)| {
        let at = across;
        across = across.saturating_add(34).saturating_add(wide(words.chars().count()).saturating_mul(6));
        let swatch = (at, y.saturating_sub(4));
        let mark = line(swatch, (at.saturating_add(16), swatch.1), colour).set("stroke-width", 4);
        group.add(mark).add(text(words, (at.saturating_add(22), y), 11, ink::TEXT))
    })
}

pub(super) fn line((x1, y1): (u64, u64), (x2, y2): (u64, u64), colour: &str) -> Line {
    Line::new().set("x1", x1).set("y1", y1).set("x2", x2).set("y2", y2).set("stroke", colour)
}
