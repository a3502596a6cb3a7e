//! One window second by second.

use svg::Document;
use svg::node::element::path::Data;
use svg::node::element::{Line, Path, Text};

use crate::outcome::Outcome;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 180.0;
/// Where the axis' words are.
const LEFT: f64 = 60.0;
const BOTTOM: f64 = 18.0;
/// How long a command is drawn.
const TICK: f64 = 7.0;
/// One for each guest, and from the first again.
const COLOURS: [&str; 8] =
    ["#4a7fb5", "#7fb069", "#e6a23c", "#9b6fb0", "#5bb0a8", "#b5654a", "#8a8a3c", "#6f7fa0"];

/// What each guest held, one above the other, and what the machine had beside.
pub(super) fn course(outcome: &Outcome) -> Document {
    let held = |second: usize| -> Vec<f64> {
        let of = |course: &[crate::outcome::GuestMoment]| {
            course.get(second).map_or(0.0, |look| small(look.resident_mib))
        };
        outcome.guests.iter().map(|guest| of(&guest.course)).collect()
    };
    let sums: Vec<f64> = (0..outcome.host.len()).map(|second| held(second).iter().sum()).collect();
    let left: Vec<f64> = outcome.host.iter().map(|look| small(look.available_mib)).collect();
    // Without a squeeze all of the machine is left, which would press everything else flat.
    let most = sums.iter().copied().fold(1.0, f64::max) * 1.3;
    let across = |at: f64| LEFT + at / outcome.window_s.max(1.0) * (WIDTH - LEFT);
    let up = |value: f64| HEIGHT - BOTTOM - value.min(most) / most * (HEIGHT - BOTTOM - 4.0);
    let times: Vec<f64> = outcome.host.iter().map(|look| across(look.at)).collect();

    let mut document = Document::new().set("viewBox", (0, 0, WIDTH, HEIGHT)).set("width", WIDTH);
    let mut below = vec![0.0; times.len()];
    for (number, colour) in (0..outcome.guests.len()).zip(COLOURS.iter().cycle()) {
        let above: Vec<f64> = below
            .iter()
            .enumerate()
            .map(|(second, below)| below + held(second).get(number).copied().unwrap_or(0.0))
            .collect();
        let lower = times.iter().zip(&below).rev().map(|(x, value)| (*x, up(*value)));
        let outline = times.iter().zip(&above).map(|(x, value)| (*x, up(*value))).chain(lower);
        document = document.add(Path::new().set("d", way(outline).close()).set("fill", *colour));
        below = above;
    }
    let beside = times.iter().zip(&left).map(|(x, value)| (*x, up(*value)));
    document = document.add(
        Path::new()
            .set("d", way(beside))
            .set("fill", "none")
            .set("stroke", "#222")
            .set("stroke-dasharray", "4 3"),
    );
    for told in outcome.told.iter().filter(|told| (0.0..=outcome.window_s).contains(&told.at)) {
        document = document.add(tick(told.takes(), across(told.at)));
    }
    for at in hurts(outcome) {
        let x = format!("{:.1}", across(at));
        let mark = Line::new().set("x1", x.clone()).set("x2", x).set("y1", 0).set("y2", HEIGHT - BOTTOM);
        document = document.add(mark.set("stroke", "#c22").set("stroke-width", 2));
    }
    let words = [(format!("{most:.0} MiB"), 0.0, 12.0), ("0".to_owned(), LEFT - 12.0, HEIGHT - BOTTOM)];
    let end = (format!("{:.0} s", outcome.window_s), WIDTH - 40.0, HEIGHT - 4.0);
    for (text, x, y) in words.into_iter().chain([end]) {
        document = document.add(
            Text::new(text).set("x", x).set("y", y).set("font-size", 11).set("font-family", "sans-serif"),
        );
    }
    document
}

/// A balloon was told something: down from the axis for a take, up for a give.
fn tick(takes: bool, x: f64) -> Line {
    let (colour, to) = if takes { ("#b5651d", TICK) } else { ("#2a7a2a", -TICK) };
    let (x, axis) = (format!("{x:.1}"), HEIGHT - BOTTOM);
    Line::new().set("x1", x.clone()).set("x2", x).set("y1", axis).set("y2", axis + to).set("stroke", colour)
}

fn way(points: impl Iterator<Item = (f64, f64)>) -> Data {
    points.enumerate().fold(Data::new(), |data, (number, (x, y))| {
        let point = ((x * 10.0).round() / 10.0, (y * 10.0).round() / 10.0);
        if number == 0 { data.move_to(point) } else { data.line_to(point) }
    })
}

/// When somebody's work was seen to end for ever, and when the machine stood still.
fn hurts(outcome: &Outcome) -> Vec<f64> {
    let ended = |guest: &&crate::outcome::GuestOutcome| guest.gone || guest.kills > 0;
    let last_work = |guest: &crate::outcome::GuestOutcome| {
        guest.course.iter().find(|look| look.done == guest.done).map(|look| look.at)
    };
    let killed = outcome.guests.iter().filter(ended).filter_map(last_work);
    killed.chain(outcome.livelock()).collect()
}

/// MiB of a machine's memory, of which there are not so many.
fn small(mib: u64) -> f64 {
    u32::try_from(mib).map_or(f64::MAX, f64::from)
}
