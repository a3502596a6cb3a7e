//! The course of a scenario or a recording, thinned to as many points as a picture has: memory that does not grow with what is simulated.

use std::time::Duration;

use overcommit_core::ledger::Ledger;
use overcommit_core::units::Bytes;
use serde::Serialize;

use crate::course::millis;
use crate::moment::{Moment, Presence};

/// Points of a course; a picture is not much wider.
const POINTS: u64 = 600;
/// Twice that, however far apart the times are that a recording names.
const MOST: usize = 1200;

/// What happened over time; all lists have one entry for each point.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Series {
    /// From one point to the next.
    pub every: Duration,
    /// The node's account.
    pub node: NodeSeries,
    /// Each guest, in the order of the scores.
    pub guests: Vec<GuestSeries>,
}

/// The node over time, bytes.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct NodeSeries {
    /// What may be committed: the least since the point before.
    pub budget: Vec<Bytes>,
    /// What counts against it (`Ledger::committed`): the most.
    pub committed: Vec<Bytes>,
    /// What guests and their overhead hold of the host's memory: the most.
    pub resident: Vec<Bytes>,
    /// When the node ended a guest.
    pub ended: Vec<Duration>,
}

/// One guest over time, bytes.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct GuestSeries {
    /// What it needs: the most since the point before.
    pub need: Vec<Bytes>,
    /// What its balloon leaves it: the least.
    pub holds: Vec<Bytes>,
    /// What its balloon was told last.
    pub target: Vec<Bytes>,
    /// In how many thousandths of the time it was in distress.
    pub distress: Vec<u64>,
}

impl NodeSeries {
    /// For so many points.
    fn with_room(points: usize) -> Self {
        let list = || Vec::with_capacity(points);
        Self { budget: list(), committed: list(), resident: list(), ended: Vec::new() }
    }
}

impl GuestSeries {
    /// The same.
    fn with_room(points: usize) -> Self {
        let list = || Vec::with_capacity(points);
        Self { need: list(), holds: list(), target: list(), distress: Vec::with_capacity(points) }
    }
}

/// Writes a [`Series`].
#[derive(Clone, Debug)]
pub(crate) struct Chart {
    series: Series,
    /// When the next point begins.
    next: Duration,
    /// Each guest's last point, once there is one. Beside each other, for every step looks at all of them, and each list of the
    /// series is elsewhere in memory.
    last: Vec<Point>,
    begun: bool,
}

/// The last point of a [`GuestSeries`], and for how long of it the guest was in distress.
#[derive(Clone, Copy, Debug, Default)]
struct Point {
    need: Bytes,
    holds: Bytes,
    target: Bytes,
    distressed: Duration,
}

impl Point {
    /// One more moment of it.
    fn with(self, now: Self) -> Self {
        Self {
            need: self.need.max(now.need),
            holds: self.holds.min(now.holds),
            target: now.target,
            distressed: self.distressed.saturating_add(now.distressed),
        }
    }
}

impl Chart {
    /// Of what `lasts` so long and comes in steps of `step`, with so many guests.
    pub(crate) fn new(lasts: Duration, step: Duration, guests: usize) -> Self {
        let steps = millis(lasts).div_ceil(millis(step).max(1)).div_ceil(POINTS).max(1);
        let every = Duration::from_millis(steps.saturating_mul(millis(step)));
        let room = usize::try_from(POINTS).unwrap_or_default().saturating_add(1);
        let guests: Vec<GuestSeries> = (0..guests).map(|_| GuestSeries::with_room(room)).collect();
        let last = vec![Point::default(); guests.len()];
        let series = Series { every, guests, node: NodeSeries::with_room(room) };
        Self { series, next: Duration::ZERO, last, begun: false }
    }

    /// A guest was ended.
    pub(crate) fn ended(&mut self, now: Duration) {
        self.series.node.ended.push(now);
    }

    /// Time passed until `now`, and the loop has decided.
    pub(crate) fn passed(
        &mut self,
        now: Duration,
        time: Duration,
        guests: impl Iterator<Item = Moment>,
        ledger: Option<&Ledger>,
    ) {
        let begins = now > self.next;
        if begins {
            self.keep_last();
            self.catch_up(now, time);
            self.next = self.next.saturating_add(self.series.every);
        }
        let first = !std::mem::replace(&mut self.begun, true);
        let mut resident = Bytes::ZERO;
        for (last, guest) in self.last.iter_mut().zip(guests) {
            resident = resident.plus(guest.resident);
            let here = |amount: Bytes| if guest.presence == Presence::Here { amount } else { Bytes::ZERO };
            let now = Point {
                need: guest.need.min(guest.size),
                holds: here(guest.holds),
                target: here(guest.target),
                distressed: if guest.distress { time } else { Duration::ZERO },
            };
            *last = if first { now } else { last.with(now) };
        }
        let node = &mut self.series.node;
        let (budget, committed) = ledger.map_or((Bytes::ZERO, Bytes::ZERO), |l| (l.budget, l.committed));
        merge(&mut node.budget, begins, budget, Bytes::min);
        merge(&mut node.committed, begins, committed, Bytes::max);
        merge(&mut node.resident, begins, resident, Bytes::max);
    }

    /// Points for the time in which nothing was told: as it was where it lasted until now, and of what nobody knows nothing.
    fn catch_up(&mut self, now: Duration, time: Duration) {
        let known = now.saturating_sub(time) <= self.next;
        while self.next.saturating_add(self.series.every) < now && self.series.node.budget.len() < MOST {
            self.next = self.next.saturating_add(self.series.every);
            let node = &mut self.series.node;
            for list in [&mut node.budget, &mut node.committed, &mut node.resident] {
                go_on(list, known);
            }
            for guest in &mut self.series.guests {
                for list in [&mut guest.need, &mut guest.holds, &mut guest.target] {
                    go_on(list, known);
                }
                go_on(&mut guest.distress, known);
            }
        }
    }

    /// The last points are over.
    fn keep_last(&mut self) {
        let every = millis(self.series.every).max(1);
        if !std::mem::take(&mut self.begun) {
            return;
        }
        for (series, last) in self.series.guests.iter_mut().zip(&self.last) {
            series.need.push(last.need);
            series.holds.push(last.holds);
            series.target.push(last.target);
            series.distress.push((millis(last.distressed).saturating_mul(1000) / every).min(1000));
        }
    }

    pub(crate) fn series(mut self) -> Series {
        self.keep_last();
        self.series
    }
}

fn go_on<T: Copy + Default>(list: &mut Vec<T>, known: bool) {
    let before = list.last().copied().filter(|_| known);
    list.push(before.unwrap_or_default());
}

fn merge<T: Copy>(list: &mut Vec<T>, begins: bool, now: T, both: impl Fn(T, T) -> T) {
    match list.last_mut() {
        Some(point) if !begins => *point = both(*point, now),
        _ => list.push(now),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a guest holds at each point: one that always holds 100 MiB, told at these seconds, each after so many seconds that
    /// are known.
    fn course(lasts: u64, told: &[(u64, u64)]) -> Vec<u64> {
        let mut chart = Chart::new(Duration::from_secs(lasts), Duration::from_secs(1), 1);
        let holds = Bytes::from_mib(100);
        let guest = Moment { presence: Presence::Here, size: holds, holds, ..Moment::default() };
        for (now, time) in told {
            let (now, time) = (Duration::from_secs(*now), Duration::from_secs(*time));
            chart.passed(now, time, std::iter::once(guest), None);
        }
        let series = chart.series();
        assert!(
            series.every == Duration::from_secs(1)
                && series.node.budget.len() == series.guests[0].holds.len()
        );
        series.guests[0].holds.iter().map(|bytes| bytes.to_mib_floor()).collect()
    }

    #[test]
    fn a_point_stands_where_its_time_is_and_what_nobody_knows_is_empty() {
        assert_eq!(course(6, &[(1, 1), (2, 1), (6, 4)]), [100; 6], "told rarely");
        assert_eq!(course(6, &[(1, 1), (2, 1), (6, 0)]), [100, 100, 0, 0, 0, 100], "a gap");
    }

    #[test]
    fn times_that_nothing_can_be_between_cost_no_memory() {
        let mut chart = Chart::new(Duration::from_secs(1), Duration::from_secs(1), 0);
        chart.passed(Duration::MAX, Duration::ZERO, std::iter::empty(), None);
        assert!(chart.series().node.budget.len() <= MOST + 1);
    }
}
