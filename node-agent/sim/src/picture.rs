//! An outcome as a picture (SVG): the node's account above, then each guest, all over the same time.

mod frame;
mod guest;
mod node;
mod trade;

use svg::Document;
use svg::node::element::{Group, Rectangle, Text};

use crate::Outcome;
use crate::table::{harmless, time};

pub use trade::trade;

const WIDTH: u64 = 1240;
const MARGIN: u64 = 24;
const HEAD: u64 = 96;
const NODE: u64 = 260;
const GUEST: u64 = 132;
const GAP: u64 = 16;
const FONT: &str = "system-ui, -apple-system, 'Segoe UI', 'Liberation Sans', sans-serif";

/// What is drawn in which colour; told apart by people who see no red or green, too.
mod ink {
    pub(super) const TEXT: &str = "#212529";
    pub(super) const FAINT: &str = "#868e96";
    pub(super) const GRID: &str = "#e9ecef";
    pub(super) const HELD: &str = "#a5d8ff";
    pub(super) const TARGET: &str = "#1864ab";
    pub(super) const NEED: &str = "#e8590c";
    pub(super) const BAD: &str = "#c2255c";
}

/// The picture of an outcome.
pub fn picture(outcome: &Outcome) -> String {
    let columns: u64 = if outcome.guests.len() <= 4 { 2 } else { 4 };
    let count = u64::try_from(outcome.guests.len()).unwrap_or(u64::MAX);
    let rows = count.div_ceil(columns);
    let below = HEAD.saturating_add(NODE).saturating_add(GAP);
    let height = below.saturating_add(rows.saturating_mul(GUEST.saturating_add(GAP))).saturating_add(MARGIN);
    let mut document = sheet(WIDTH, height).add(head(outcome)).add(node::panel(
        outcome,
        (MARGIN, HEAD),
        (WIDTH.saturating_sub(2 * MARGIN), NODE),
    ));
    let wide = WIDTH.saturating_sub(2 * MARGIN).saturating_add(GAP) / columns;
    for ((number, score), series) in (0_u64..).zip(&outcome.guests).zip(&outcome.series.guests) {
        let (column, row) = (number % columns, number / columns);
        let x = MARGIN.saturating_add(column.saturating_mul(wide));
        let y = below.saturating_add(row.saturating_mul(GUEST.saturating_add(GAP)));
        document = document.add(guest::panel(score, series, (x, y), (wide.saturating_sub(GAP), GUEST)));
    }
    document.to_string()
}

/// An empty white picture.
fn sheet(width: u64, height: u64) -> Document {
    Document::new()
        .set("viewBox", (0, 0, width, height))
        .set("width", width)
        .set("height", height)
        .set("font-family", FONT)
        .add(Rectangle::new().set("width", width).set("height", height).set("fill", "#ffffff"))
}

fn head(outcome: &Outcome) -> Group {
    let node = &outcome.node;
    let ended = node.ended();
    let figures = format!(
        "{} guests, {} under policy {} · distress {} of guests' time · {ended} guests killed or evicted · {} reclaimed on average",
        outcome.guests.len(),
        time(outcome.lasted),
        outcome.policy,
        time(node.distress),
        node.reclaimed,
    );
    Group::new()
        .add(text(&outcome.scenario, (MARGIN, 38), 24, ink::TEXT).set("font-weight", "600"))
        .add(text(&outcome.shows, (MARGIN, 60), 14, ink::TEXT))
        .add(text(&figures, (MARGIN, 80), 12, ink::FAINT))
}

fn text(words: &str, (x, y): (u64, u64), size: u64, fill: &str) -> Text {
    Text::new(harmless(words)).set("x", x).set("y", y).set("font-size", size).set("fill", fill)
}
