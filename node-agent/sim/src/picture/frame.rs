//! One panel's coordinates and what is drawn in it.

use std::fmt::Write as _;

use overcommit_core::units::Bytes;
use svg::node::element::Path;

/// Where values of a series are drawn: pixels in tenths, so that no number here is a fraction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    pub(super) x: u64,
    pub(super) y: u64,
    pub(super) width: u64,
    pub(super) height: u64,
    /// What the upper edge stands for.
    pub(super) most: Bytes,
    /// How many points there are.
    pub(super) points: usize,
}

impl Frame {
    /// Where point `index` is, in tenths.
    pub(super) fn across(&self, index: usize) -> u64 {
        let (index, last) = (wide(index), wide(self.points.saturating_sub(1)).max(1));
        let gone = self.width.saturating_mul(10).saturating_mul(index) / last;
        self.x.saturating_mul(10).saturating_add(gone)
    }

    fn up(&self, value: Bytes) -> u64 {
        let part = value.min(self.most).scaled(self.height.saturating_mul(10), self.most.get().max(1));
        self.bottom().saturating_mul(10).saturating_sub(part.get())
    }

    pub(super) fn bottom(&self) -> u64 {
        self.y.saturating_add(self.height)
    }

    /// The height of `value`, in whole pixels.
    pub(super) fn level(&self, value: Bytes) -> u64 {
        self.up(value) / 10
    }

    /// A line through all values.
    pub(super) fn line(&self, values: &[Bytes], colour: &str) -> Path {
        Path::new()
            .set("d", self.way(values, 'M', false))
            .set("fill", "none")
            .set("stroke", colour)
            .set("stroke-width", "1.5")
            .set("stroke-linejoin", "round")
    }

    /// All that is between two series.
    pub(super) fn between(&self, lower: &[Bytes], upper: &[Bytes], colour: &str) -> Path {
        let mut way = self.way(upper, 'M', false);
        way.push_str(&self.way(lower, 'L', true));
        way.push('Z');
        Path::new().set("d", way).set("fill", colour)
    }

    /// All that is below a series.
    pub(super) fn below(&self, values: &[Bytes], colour: &str) -> Path {
        self.between(&vec![Bytes::ZERO; values.len()], values, colour)
    }

    fn way(&self, values: &[Bytes], first: char, back: bool) -> String {
        let mut way = String::new();
        // What stays as it is needs no point of its own.
        let turns = |index: &usize| {
            let before = index.checked_sub(1).and_then(|before| values.get(before));
            let (now, after) = (values.get(*index), values.get(index.saturating_add(1)));
            before != now || now != after
        };
        let forth: Vec<(usize, &Bytes)> =
            values.iter().enumerate().filter(|(index, _)| turns(index)).collect();
        let mut step = |place: usize, (index, value): (usize, &Bytes)| {
            let letter = if place == 0 { first } else { 'L' };
            let (x, y) = (self.across(index), self.up(*value));
            let _ = write!(way, "{letter}{}.{} {}.{}", x / 10, x % 10, y / 10, y % 10);
        };
        if back {
            forth.into_iter().rev().enumerate().for_each(|(place, at)| step(place, at));
        } else {
            forth.into_iter().enumerate().for_each(|(place, at)| step(place, at));
        }
        way
    }
}

pub(super) fn wide(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
