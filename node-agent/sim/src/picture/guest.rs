//! A guest's panel: what it holds, needs and was told, and when it hurt.

use svg::node::element::{Group, Rectangle};

use super::frame::Frame;
use super::node::line;
use super::{ink, text};
use crate::table::time;
use crate::{GuestScore, GuestSeries};

const TITLE: u64 = 20;
/// The strip that shows distress.
const STRIP: u64 = 6;

pub(super) fn panel(
    score: &GuestScore,
    series: &GuestSeries,
    (x, y): (u64, u64),
    (width, height): (u64, u64),
) -> Group {
    let frame = Frame {
        x,
        y: y.saturating_add(TITLE),
        width,
        height: height.saturating_sub(TITLE + STRIP + 2),
        most: score.size.scaled(21, 20),
        points: series.need.len(),
    };
    let right = x.saturating_add(width);
    let name = score.name.trim_start_matches("default/");
    let full = frame.level(score.size);
    let mut group = Group::new()
        .add(text(&format!("{name} · {}", score.size), (x, y.saturating_add(13)), 12, ink::TEXT))
        .add(figures(score, (right, y.saturating_add(13))))
        .add(frame.below(&series.holds, ink::HELD))
        .add(line((x, full), (right, full), ink::GRID))
        .add(frame.line(&series.target, ink::TARGET))
        .add(frame.line(&series.need, ink::NEED))
        .add(line((x, frame.bottom()), (right, frame.bottom()), ink::FAINT));
    for (index, part) in series.distress.iter().enumerate().filter(|(_, part)| **part > 0) {
        let (from, to) = (frame.across(index), frame.across(index.saturating_add(1)));
        let wide = to.saturating_sub(from).max(20);
        let strong = (*part).clamp(500, 999);
        group = group.add(
            Rectangle::new()
                .set("x", format!("{}.{}", from / 10, from % 10))
                .set("y", frame.bottom().saturating_add(2))
                .set("width", format!("{}.{}", wide / 10, wide % 10))
                .set("height", STRIP)
                .set("fill", ink::BAD)
                .set("fill-opacity", format!("0.{strong:03}")),
        );
    }
    group
}

/// What went wrong, if anything did.
fn figures(score: &GuestScore, at: (u64, u64)) -> svg::node::element::Text {
    let mut said = Vec::new();
    if !score.distress.is_zero() {
        said.push(format!("distress {}", time(score.distress)));
    }
    for (count, what) in
        [(score.killed, "killed"), (score.evicted, "evicted"), (score.killed_within, "killed within")]
    {
        if count > 0 {
            said.push(format!("{what} {count}x"));
        }
    }
    text(&said.join(", "), at, 11, ink::BAD).set("text-anchor", "end")
}
