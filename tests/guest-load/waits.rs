//! How long requests waited for their answers, in classes of which each reaches 9 % further than the one before.
//!
//! Used on both sides: the program in the guest counts, the test bed reads. Standard library only.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// The end of the first class, in µs.
const FIRST_US: f64 = 100.0;
/// Classes until a wait is twice as long.
const PER_OCTAVE: f64 = 8.0;
/// The last class holds all that is longer than some 15 hours.
const LAST: u16 = 8 * 29;

/// Counts of waits by their class.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Waits {
    counts: BTreeMap<u16, u64>,
}

impl Waits {
    /// Counts one.
    pub fn add(&mut self, wait: Duration) {
        let us = wait.as_secs_f64() * 1e6;
        let longer = |class: &u16| end_us(*class) < us;
        let class = (0..LAST).find(|class| !longer(class)).unwrap_or(LAST);
        *self.counts.entry(class).or_default() += 1;
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.counts.values().sum()
    }

    /// With all of the others.
    #[must_use]
    pub fn plus(mut self, others: &Self) -> Self {
        for (class, count) in &others.counts {
            *self.counts.entry(*class).or_default() += count;
        }
        self
    }

    /// Without those that were counted by then.
    #[must_use]
    pub fn since(mut self, then: &Self) -> Self {
        for (class, count) in &mut self.counts {
            *count = count.saturating_sub(then.counts.get(class).copied().unwrap_or_default());
        }
        self.counts.retain(|_, count| *count > 0);
        self
    }

    /// No more than so many permille waited longer than this, in ms: the end of a class. Requests without an answer waited
    /// longer than all others: infinite where it takes them. Absent where nothing was asked.
    pub fn quantile_ms(&self, permille: u64, unanswered: u64) -> Option<f64> {
        let all = self.count() + unanswered;
        let wanted = (all * permille).div_ceil(1000);
        let mut reached = 0;
        let class = self.counts.iter().find(|(_, count)| {
            reached += **count;
            reached >= wanted
        });
        (all > 0).then(|| class.map_or(f64::INFINITY, |(class, _)| end_us(*class) / 1000.0))
    }
}

fn end_us(class: u16) -> f64 {
    FIRST_US * (f64::from(class) / PER_OCTAVE).exp2()
}

impl fmt::Display for Waits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<_> = self.counts.iter().map(|(class, count)| format!("{class}:{count}")).collect();
        f.write_str(&words.join(","))
    }
}

impl FromStr for Waits {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let pair = |word: &str| {
            let (class, count) = word.split_once(':')?;
            Some((class.parse().ok()?, count.parse().ok()?))
        };
        let words = text.split(',').filter(|word| !word.is_empty());
        let counts = words.map(|word| pair(word).ok_or_else(|| format!("not CLASS:COUNT: {word}")));
        Ok(Self { counts: counts.collect::<Result<_, _>>()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(ms: &[u64]) -> Waits {
        let mut waits = Waits::default();
        for ms in ms {
            waits.add(Duration::from_millis(*ms));
        }
        waits
    }

    #[test]
    fn quantiles_are_those_of_the_waits_within_a_class() {
        let hundred = waits(&(1..=100).collect::<Vec<_>>());
        for (permille, ms) in [(500, 50.0), (950, 95.0), (990, 99.0), (1000, 100.0)] {
            let told = hundred.quantile_ms(permille, 0).unwrap();
            assert!((ms..ms * 1.0906).contains(&told), "{permille}: {told}");
        }
        assert_eq!(Waits::default().quantile_ms(950, 0), None);
    }

    #[test]
    fn what_nobody_answered_waited_longer_than_all_others() {
        let answered = waits(&[10; 90]);
        assert!(answered.quantile_ms(900, 10).unwrap().is_finite());
        assert!(answered.quantile_ms(901, 10).unwrap().is_infinite());
        assert!(Waits::default().quantile_ms(1, 1).unwrap().is_infinite());
    }

    #[test]
    fn words_come_back_and_what_was_counted_before_goes() {
        let (early, late) = (waits(&[1, 5]), waits(&[1, 5, 5, 100_000_000]));
        assert_eq!(late.to_string().parse::<Waits>(), Ok(late.clone()));
        assert_eq!(late.clone().since(&early), waits(&[5, 100_000_000]));
        assert_eq!(late.clone().since(&late), Waits::default());
        assert_eq!(early.plus(&waits(&[5, 100_000_000])), late);
        assert!("7".parse::<Waits>().is_err() && "".parse::<Waits>() == Ok(Waits::default()));
    }
}
