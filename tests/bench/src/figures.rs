//! Medians, and intervals by the bootstrap (Efron, 1979): how far another run of the same rounds might have come out.

use std::fmt;

/// Draws of the bootstrap.
const DRAWS: usize = 2_000;
/// Percent that the interval leaves out at each end.
const TAIL: usize = 5;

/// A median and the interval in which nine of ten bootstrap medians lie.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Figure {
    pub(crate) median: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Figure {
    /// Of these samples; absent without any. The same samples have the same interval.
    pub(crate) fn of(samples: &[f64]) -> Option<Self> {
        let middle = median(&mut samples.to_vec())?;
        let mut random = fastrand::Rng::with_seed(samples.len() as u64);
        let mut draws: Vec<f64> = (0..DRAWS)
            .filter_map(|_| {
                let drawn = (0..samples.len()).filter_map(|_| random.choice(samples).copied());
                median(&mut drawn.collect::<Vec<_>>())
            })
            .collect();
        draws.sort_by(f64::total_cmp);
        let at = |percent: usize| draws.get((draws.len() - 1) * percent / 100).copied().unwrap_or(middle);
        Some(Self { median: middle, low: at(TAIL), high: at(100 - TAIL) })
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self { median, low, high }, digits) = (self, f.precision().unwrap_or(1));
        let told =
            |value: &f64| if value.is_finite() { format!("{value:.digits$}") } else { "∞".to_owned() };
        write!(f, "{} ({}–{})", told(median), told(low), told(high))
    }
}

fn median(samples: &mut [f64]) -> Option<f64> {
    samples.sort_by(f64::total_cmp);
    let upper = samples.get(samples.len() / 2).copied()?;
    let lower = samples.get(samples.len().checked_sub(1)? / 2).copied()?;
    Some(f64::midpoint(lower, upper))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_holds_the_median_and_is_the_samples_own() {
        let figure = Figure::of(&[3.0, 1.0, 2.0, 10.0, 4.0]).unwrap();
        assert!((figure.median - 3.0).abs() < 1e-9);
        assert!(
            figure.low <= 3.0 && 3.0 <= figure.high && figure.low >= 1.0 && figure.high <= 10.0,
            "{figure:?}"
        );
        assert_eq!(Figure::of(&[3.0, 1.0, 2.0, 10.0, 4.0]), Some(figure));
    }

    #[test]
    fn one_sample_is_its_own_interval_and_none_is_no_figure() {
        assert_eq!(Figure::of(&[5.0]), Some(Figure { median: 5.0, low: 5.0, high: 5.0 }));
        assert_eq!(Figure::of(&[]), None);
    }
}
