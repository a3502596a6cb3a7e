//! Work of each controller, with whiskers.

use svg::Document;
use svg::node::element::{Line, Rectangle, Text};

use crate::summary::Row;

const WIDTH: f64 = 760.0;
const NAMES: f64 = 110.0;
const VALUES: f64 = 90.0;
const HEIGHT: f64 = 26.0;

/// A bar for each row.
pub(super) fn bars(rows: &[Row]) -> Document {
    let most = rows.iter().filter_map(|row| row.work).map(|work| work.high).fold(f64::MIN_POSITIVE, f64::max);
    let across = |value: f64| NAMES + value / most * (WIDTH - NAMES - VALUES);
    let mut document = Document::new();
    let mut top = 4.0;
    for row in rows {
        let middle = top + HEIGHT / 2.0 - 2.0;
        document = document.add(label(&row.controller.to_string(), 0.0, middle));
        if let Some(work) = row.work {
            let bar = Rectangle::new()
                .set("x", NAMES)
                .set("y", top)
                .set("width", format!("{:.1}", across(work.median) - NAMES))
                .set("height", HEIGHT - 6.0)
                .set("fill", "#4a7fb5");
            let whisker = Line::new()
                .set("x1", format!("{:.1}", across(work.low)))
                .set("x2", format!("{:.1}", across(work.high)))
                .set("y1", middle)
                .set("y2", middle)
                .set("stroke", "#222")
                .set("stroke-width", 2);
            document = document.add(bar).add(whisker);
            document = document.add(label(&format!("{:.1}", work.median), across(work.high) + 6.0, middle));
        }
        top += HEIGHT;
    }
    document.set("viewBox", (0, 0, WIDTH, top + 4.0)).set("width", WIDTH)
}

fn label(text: &str, x: f64, middle: f64) -> Text {
    Text::new(text)
        .set("x", format!("{x:.1}"))
        .set("y", middle)
        .set("dominant-baseline", "middle")
        .set("font-size", 13)
        .set("font-family", "sans-serif")
}
