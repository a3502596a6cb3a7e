//! A figure of an outcome, and how it is told.

use std::fmt;
use std::time::Duration;

use overcommit_core::units::Bytes;

use crate::course::millis;
use crate::table::time;
use crate::{GuestScore, GuestSeries, Outcome};

/// What a measure says of one outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Figure {
    /// A time.
    Time(Duration),
    /// Memory.
    Memory(Bytes),
    /// How often.
    Count(u64),
}

impl Figure {
    /// By which figures of one measure are compared.
    pub fn size(self) -> u64 {
        match self {
            Self::Time(time) => millis(time),
            Self::Memory(bytes) => bytes.get(),
            Self::Count(count) => count,
        }
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Time(span) => f.write_str(&time(*span)),
            Self::Memory(bytes) => bytes.fmt(f),
            Self::Count(count) => count.fmt(f),
        }
    }
}

/// Time in which guests did not have what they need, all together.
pub(super) fn suffering(outcome: &Outcome) -> Figure {
    Figure::Time(outcome.node.suffering())
}

/// The same of the guests whose names begin so, on average.
pub(super) fn suffering_of(outcome: &Outcome, name: &str) -> Figure {
    let guests: Vec<&GuestScore> =
        outcome.guests.iter().filter(|guest| guest.name.starts_with(name)).collect();
    let sum: Duration = guests.iter().map(|guest| guest.suffering()).sum();
    let count = u32::try_from(guests.len()).unwrap_or(u32::MAX);
    Figure::Time(sum.checked_div(count).unwrap_or_default())
}

/// Guests that the node ended.
pub(super) fn ended(outcome: &Outcome) -> Figure {
    Figure::Count(outcome.node.ended())
}

/// What guests' own kernels killed.
pub(super) fn killed_within(outcome: &Outcome) -> Figure {
    Figure::Count(outcome.node.killed_within)
}

/// Targets that were set.
pub(super) fn commands(outcome: &Outcome) -> Figure {
    Figure::Count(outcome.node.commands)
}

/// Time in which more was promised than there is.
pub(super) fn short(outcome: &Outcome) -> Figure {
    Figure::Time(outcome.node.short)
}

/// What the node could promise to guests, on average.
pub(super) fn budget(outcome: &Outcome) -> Figure {
    let budget = &outcome.series.node.budget;
    let sum: Bytes = budget.iter().copied().sum();
    Figure::Memory(sum.scaled(1, u64::try_from(budget.len()).unwrap_or(u64::MAX)))
}

/// For how long a guest suffered without a break, at most; in points of the picture.
pub(super) fn longest(outcome: &Outcome) -> Figure {
    let of = |series: &GuestSeries| {
        let mut longest = (0_u32, 0_u32);
        for part in &series.distress {
            longest.1 = if *part > 500 { longest.1.saturating_add(1) } else { 0 };
            longest.0 = longest.0.max(longest.1);
        }
        longest.0
    };
    let points = outcome.series.guests.iter().map(of).max().unwrap_or_default();
    Figure::Time(outcome.series.every.saturating_mul(points))
}
