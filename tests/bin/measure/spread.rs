//! Samples, summed up.

use std::fmt;

/// Minimum, median and maximum of some samples.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Spread {
    sorted: Vec<f64>,
}

impl Spread {
    /// Of these samples.
    pub(crate) fn of(samples: impl IntoIterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = samples.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        Self { sorted }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.sorted.len()
    }

    /// The sample below which so many of a hundred lie (nearest rank); 0 without samples.
    pub(crate) fn percentile(&self, percent: usize) -> f64 {
        let rank = (self.sorted.len() * percent).div_ceil(100).saturating_sub(1);
        self.sorted.get(rank).copied().unwrap_or_default()
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = f.precision().unwrap_or(1);
        let [least, median, most] = [0, 50, 100].map(|percent| self.percentile(percent));
        write!(f, "{least:.digits$} / {median:.digits$} / {most:.digits$}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_samples() {
        let spread = Spread::of([3.0, 1.0, 2.0, 10.0]);
        assert_eq!([0, 50, 75, 99].map(|p| spread.percentile(p).to_string()), ["1", "2", "3", "10"]);
        assert_eq!(format!("{spread:.0}"), "1 / 2 / 10");
        assert_eq!(Spread::of([]).to_string(), "0.0 / 0.0 / 0.0");
    }
}
