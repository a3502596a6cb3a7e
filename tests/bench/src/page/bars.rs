//! One figure of each controller, with whiskers.

use svg::Document;
use svg::node::element::{Line, Rectangle, Text};

use crate::figures::Figure;
use crate::summary::Row;

const WIDTH: f64 = 760.0;
const NAMES: f64 = 110.0;
const VALUES: f64 = 90.0;
const HEIGHT: f64 = 26.0;

/// A bar for each row, as long as its figure; what is without bound goes to the end.
pub(crate) fn bars(rows: &[Row], of: impl Fn(&Row) -> Option<Figure>) -> Document {
    let highs = rows.iter().filter_map(&of).map(|figure| figure.high).filter(|high| high.is_finite());
    let most = highs.fold(f64::MIN_POSITIVE, f64::max);
    let across = |value: f64| NAMES + value.min(most) / most * (WIDTH - NAMES - VALUES);
    let mut document = Document::new();
    let mut top = 4.0;
    for row in rows {
        let middle = top + HEIGHT / 2.0 - 2.0;
        document = document.add(label(&row.controller.to_string(), 0.0, middle));
        if let Some(figure) = of(row) {
            let bar = Rectangle::new()
                .set("x", NAMES)
                .set("y", top)
                .set("width", format!("{:.1}", across(figure.median) - NAMES))
                .set("height", HEIGHT - 6.0)
                .set("fill", "#4a7fb5");
            let whisker = Line::new()
                .set("x1", format!("{:.1}", across(figure.low)))
                .set("x2", format!("{:.1}", across(figure.high)))
                .set("y1", middle)
                .set("y2", middle)
                .set("stroke", "#222")
                .set("stroke-width", 2);
            document = document.add(bar).add(whisker);
            document = document.add(label(&told(figure.median), across(figure.high) + 6.0, middle));
        }
        top += HEIGHT;
    }
    document.set("viewBox", (0, 0, WIDTH, top + 4.0)).set("width", WIDTH)
}

fn told(value: f64) -> String {
    if value.is_finite() { format!("{value:.1}") } else { "∞".to_owned() }
}

fn label(text: &str, x: f64, middle: f64) -> Text {
    Text::new(text)
        .set("x", format!("{x:.1}"))
        .set("y", middle)
        .set("dominant-baseline", "middle")
        .set("font-size", 13)
        .set("font-family", "sans-serif")
}
