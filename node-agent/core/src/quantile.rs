//! A bounded window of observations and its quantiles.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::units::{Bytes, Permille};

/// The last observations, at most [`Window::CAPACITY`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "Seen<T>", bound(deserialize = "T: Copy + Ord + Deserialize<'de>"))]
pub struct Window<T = Bytes> {
    seen: VecDeque<T>,
    /// The same in order, so that a quantile costs nothing each turn.
    #[serde(skip)]
    sorted: Vec<T>,
}

/// A window as it is written: what is read may be of any length.
#[derive(Deserialize)]
struct Seen<T> {
    seen: VecDeque<T>,
}

impl<T: Copy + Ord> From<Seen<T>> for Window<T> {
    fn from(mut written: Seen<T>) -> Self {
        let too_many = written.seen.len().saturating_sub(Self::CAPACITY);
        drop(written.seen.drain(..too_many));
        let mut sorted: Vec<T> = written.seen.iter().copied().collect();
        sorted.sort_unstable();
        Self { seen: written.seen, sorted }
    }
}

impl<T: Copy + Ord> Window<T> {
    /// An hour at one observation each 5 s: long enough to hold what returns every few minutes.
    pub const CAPACITY: usize = 720;

    /// Adds an observation, forgetting the oldest when full.
    pub fn push(&mut self, value: T) {
        // Once, and not again and again over the first hour.
        self.seen.reserve(Self::CAPACITY.saturating_sub(self.seen.len()));
        self.sorted.reserve(Self::CAPACITY.saturating_sub(self.sorted.len()));
        let oldest = if self.seen.len() >= Self::CAPACITY { self.seen.pop_front() } else { None };
        if let Some(Ok(at)) = oldest.map(|oldest| self.sorted.binary_search(&oldest)) {
            self.sorted.remove(at);
        }
        let at = self.sorted.partition_point(|kept| *kept <= value);
        self.sorted.insert(at, value);
        self.seen.push_back(value);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.seen.len()
    }

    /// True when nothing was seen yet.
    pub fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }

    /// The smallest observation that at least `part` of all do not exceed (nearest rank); absent when empty.
    pub fn quantile(&self, part: Permille) -> Option<T> {
        nearest_rank(&self.sorted, part)
    }
}

/// Of values in order, the smallest that at least `part` of all do not exceed (nearest rank); absent without values.
pub fn nearest_rank<T: Copy>(sorted: &[T], part: Permille) -> Option<T> {
    let count = u64::try_from(sorted.len()).unwrap_or(u64::MAX);
    let rank = count.saturating_mul(u64::from(part.get())).div_ceil(1000).max(1);
    let index = usize::try_from(rank.saturating_sub(1)).unwrap_or(usize::MAX);
    sorted.get(index.min(sorted.len().saturating_sub(1))).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quantile_is_the_nearest_rank() {
        let mut window = Window::<Bytes>::default();
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
        let mut window = Window::<Bytes>::default();
        window.push(Bytes::MAX);
        for _ in 0..Window::<Bytes>::CAPACITY {
            window.push(Bytes::ZERO);
        }
        assert_eq!(window.quantile(Permille::new(1000)), Some(Bytes::ZERO));
    }

    proptest::proptest! {
        #[test]
        fn the_order_is_kept_while_the_oldest_are_forgotten(values in proptest::collection::vec(0_u64..50, 0..2000)) {
            let mut window = Window::default();
            for value in &values {
                window.push(Bytes::new(*value));
            }
            let kept = &values[values.len().saturating_sub(Window::<Bytes>::CAPACITY)..];
            let mut sorted = kept.to_vec();
            sorted.sort_unstable();
            let seen: Vec<u64> = window.sorted.iter().map(|b| b.get()).collect();
            proptest::prop_assert_eq!(seen, sorted);
        }
    }
}
