//! An amount of memory over time.

use std::time::Duration;

use fastrand::Rng;
use overcommit_core::units::Bytes;

use crate::scenario::{Bursts, Course as Written, Point};

/// A course of one guest: what chance has to say is said. Time only goes on.
#[derive(Clone, Debug)]
pub(crate) struct Course {
    begins: Bytes,
    points: Vec<Point>,
    repeats: Option<Duration>,
    ahead: Duration,
    bursts: Option<Running>,
}

#[derive(Clone, Debug)]
struct Running {
    bursts: Bursts,
    chance: Rng,
    next: Duration,
}

impl Course {
    pub(crate) fn new(written: &Written, chance: &mut Rng) -> Self {
        let curve = &written.0;
        let repeats = curve.repeats.map(|span| span.0);
        let last = curve.points.last().filter(|_| repeats.is_some());
        let bursts = curve.bursts.map(|bursts| {
            let mut own = chance.fork();
            let next = up_to(&mut own, bursts.every.0);
            Running { bursts, chance: own, next }
        });
        Self {
            begins: last.map_or(curve.begins.0, |point| point.is.0),
            points: curve.points.clone(),
            repeats,
            ahead: up_to(chance, curve.apart.0),
            bursts,
        }
    }

    /// What it is at `now`.
    pub(crate) fn at(&mut self, now: Duration) -> Bytes {
        let within = self.within(now.saturating_add(self.ahead));
        let burst = self.bursts.as_mut().and_then(|running| running.at(now));
        within.plus(burst.unwrap_or_default())
    }

    fn within(&self, time: Duration) -> Bytes {
        let time = self.repeats.map_or(time, |repeats| remainder(time, repeats));
        let mut is = self.begins;
        for point in self.points.iter().take_while(|point| point.at.0 <= time) {
            let gone = time.saturating_sub(point.at.0);
            let part = |amount: Bytes| amount.scaled(millis(gone), millis(point.over.0).max(1));
            is = if gone >= point.over.0 {
                point.is.0
            } else {
                is.plus(part(point.is.0.minus(is))).minus(part(is.minus(point.is.0)))
            };
        }
        is
    }
}

impl Running {
    /// What comes on top now, if anything does.
    fn at(&mut self, now: Duration) -> Option<Bytes> {
        let (lasts, every) = (self.bursts.lasts.0, self.bursts.every.0);
        while now >= self.next.saturating_add(lasts) {
            // On average `every` from one to the next, and never one within another.
            let pause = every.saturating_sub(lasts);
            let gap = up_to(&mut self.chance, pause.saturating_mul(2));
            self.next = self.next.saturating_add(lasts).saturating_add(gap);
        }
        (now >= self.next).then_some(self.bursts.adds.0)
    }
}

/// Any duration below `most`.
pub(crate) fn up_to(chance: &mut Rng, most: Duration) -> Duration {
    Duration::from_millis(chance.u64(..millis(most).max(1)))
}

pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn remainder(time: Duration, of: Duration) -> Duration {
    Duration::from_millis(millis(time).checked_rem(millis(of)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{Curve, Size, Span};

    fn point(at: u64, is: u64, over: u64) -> Point {
        let span = |seconds| Span(Duration::from_secs(seconds));
        Point { at: span(at), is: Size(Bytes::from_mib(is)), over: span(over) }
    }

    fn values(curve: Curve, seconds: &[u64]) -> Vec<u64> {
        let mut course = Course::new(&Written(curve), &mut Rng::with_seed(1));
        seconds.iter().map(|s| course.at(Duration::from_secs(*s)).to_mib_floor()).collect()
    }

    #[test]
    fn a_ramp_is_straight_both_ways() {
        let points = vec![point(10, 200, 10), point(30, 100, 10)];
        let curve = Curve { begins: Size(Bytes::from_mib(100)), points, ..Curve::default() };
        assert_eq!(values(curve, &[0, 10, 15, 20, 29, 35, 40, 99]), [100, 100, 150, 200, 200, 150, 100, 100]);
    }

    #[test]
    fn what_repeats_begins_with_its_last_point() {
        let curve = Curve {
            points: vec![point(10, 200, 0), point(20, 50, 0)],
            repeats: Some(Span(Duration::from_mins(1))),
            ..Curve::default()
        };
        assert_eq!(values(curve, &[0, 10, 20, 60, 70, 80]), [50, 200, 50, 50, 200, 50]);
    }

    #[test]
    fn bursts_come_as_often_as_is_said_on_average() {
        let bursts = Bursts {
            adds: Size(Bytes::from_mib(1)),
            lasts: Span(Duration::from_secs(10)),
            every: Span(Duration::from_secs(100)),
        };
        let curve = Curve { bursts: Some(bursts), ..Curve::default() };
        let seconds: Vec<u64> = (0..100_000).collect();
        let on: u64 = values(curve, &seconds).iter().sum();
        assert!((9_000..=11_000).contains(&on), "{on} of 100,000 s");
    }
}
