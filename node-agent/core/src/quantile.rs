//! A bounded window of observations and its quantiles.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::units::{Bytes, Permille};

/// The last observations, at most [`Window::CAPACITY`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Window {
    seen: VecDeque<Bytes>,
}

impl Window {
    /// An hour at one observation each 5 s: long enough to hold what returns every few minutes.
    pub const CAPACITY: usize = 720;

    /// Adds an observation, forgetting the oldest when full.
    pub fn push(&mut self, value: Bytes) {
        if self.seen.len() >= Self::CAPACITY {
            self.seen.pop_front();
        }
        self.seen.push_back(value);
    }

    /// The smallest observation that at least `part` of all do not exceed (nearest rank); absent when empty.
    pub fn quantile(&self, part: Permille) -> Option<Bytes> {
        let mut sorted: Vec<Bytes> = self.seen.iter().copied().collect();
        sorted.sort_unstable();
        let count = u64::try_from(sorted.len()).unwrap_or(u64::MAX);
        let rank = count.saturating_mul(u64::from(part.get())).div_ceil(1000).max(1);
        let index = usize::try_from(rank.saturating_sub(1)).unwrap_or(usize::MAX);
        sorted.get(index.min(sorted.len().saturating_sub(1))).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quantile_is_the_nearest_rank() {
        let mut window = Window::default();
        assert_eq!(window.quantile(Permille::new(990)), None);
        for n in 1..=100 {
            window.push(Bytes::new(n));
        }
        assert_eq!(window.quantile(Permille::new(990)), Some(Bytes::new(99)));
        assert_eq!(window.quantile(Permille::new(1000)), Some(Bytes::new(100)));
        assert_eq!(window.quantile(Permille::new(0)), Some(Bytes::new(1)));
    }

    #[test]
    fn the_window_forgets_the_oldest() {
        let mut window = Window::default();
        window.push(Bytes::MAX);
        for _ in 0..Window::CAPACITY {
            window.push(Bytes::ZERO);
        }
        assert_eq!(window.quantile(Permille::new(1000)), Some(Bytes::ZERO));
    }
}
