//! What a parameter trades: a row for each of its values, a column of bars for each measure.

use svg::node::element::{Group, Rectangle};

use super::{MARGIN, ink, sheet, text};
use crate::sweep::{Figure, Sweep, Trial};

const WIDTH: u64 = 960;
const HEAD: u64 = 124;
const ROW: u64 = 30;
const BAR: u64 = 16;
/// What the values of the parameter take of the width.
const VALUES: u64 = 130;
/// What is left beside the longest bar, for its figure.
const FIGURE: u64 = 100;

/// The picture of a sweep.
pub fn trade(sweep: &Sweep, trials: &[Trial]) -> String {
    let rows = u64::try_from(trials.len()).unwrap_or(u64::MAX);
    let height = HEAD.saturating_add(rows.saturating_mul(ROW)).saturating_add(MARGIN);
    let memory = sweep.memory.map_or_else(String::new, |memory| format!(" on {memory}"));
    let about =
        format!("scenario {}{memory}, simulated; blue: more is better, red: less is better", sweep.scenario);
    let mut document = sheet(WIDTH, height)
        .add(text(&sweep.field(), (MARGIN, 36), 20, ink::TEXT).set("font-weight", "600"))
        .add(text(sweep.shows, (MARGIN, 60), 13, ink::TEXT))
        .add(text(&about, (MARGIN, 80), 12, ink::FAINT));
    for (y, trial) in (HEAD..).step_by(step()).zip(trials) {
        let usual = trial.value == sweep.usual;
        let (value, weight) = if usual {
            (format!("{} (default)", trial.value), "600")
        } else {
            (trial.value.to_owned(), "400")
        };
        let baseline = y.saturating_add(BAR).saturating_sub(3);
        document = document.add(text(&value, (MARGIN, baseline), 13, ink::TEXT).set("font-weight", weight));
    }
    let measures = u64::try_from(sweep.measures.len()).unwrap_or(u64::MAX).max(1);
    let wide = WIDTH.saturating_sub(VALUES).saturating_sub(MARGIN) / measures;
    for (place, measure) in (0_u64..).zip(sweep.measures) {
        let x = VALUES.saturating_add(MARGIN).saturating_add(place.saturating_mul(wide));
        let colour = if measure.is_price { ink::BAD } else { ink::TARGET };
        let index = usize::try_from(place).unwrap_or(usize::MAX);
        let figures = trials.iter().filter_map(|trial| trial.figures.get(index).copied());
        document = document.add(text(measure.name, (x, HEAD.saturating_sub(14)), 12, ink::FAINT)).add(bars(
            figures,
            (x, wide.saturating_sub(FIGURE)),
            colour,
        ));
    }
    document.to_string()
}

/// A bar for each figure, the longest of all width.
fn bars(figures: impl Iterator<Item = Figure> + Clone, (x, width): (u64, u64), colour: &str) -> Group {
    let most = figures.clone().map(Figure::size).max().unwrap_or_default().max(1);
    let mut group = Group::new();
    for (y, figure) in (HEAD..).step_by(step()).zip(figures) {
        let part = u128::from(figure.size()).saturating_mul(u128::from(width)) / u128::from(most);
        let long = u64::try_from(part).unwrap_or(width).max(1);
        let bar = Rectangle::new().set("x", x).set("y", y).set("width", long).set("height", BAR);
        let beside = (x.saturating_add(long).saturating_add(6), y.saturating_add(BAR).saturating_sub(3));
        group = group.add(bar.set("fill", colour)).add(text(&figure.to_string(), beside, 12, ink::TEXT));
    }
    group
}

fn step() -> usize {
    usize::try_from(ROW).unwrap_or(usize::MAX)
}
