//! MOM's stock policy for balloons, by its rules and constants as they ship with MOM 0.6 (`doc/balloon.rules` of oVirt's mom):
//! below a fifth of free host memory guests are shrunk by a twentieth each cycle, above it they grow by as much.

use std::collections::{BTreeMap, VecDeque};

use overcommit_core::plan::Command;
use overcommit_core::ports::Reading;
use overcommit_core::sample::{GuestId, Sample};
use overcommit_core::units::Bytes;

use super::{Every, target};
use crate::plant::Plant;

/// `pressure_threshold` and `min_guest_free_percent`, thousandths.
const PRESSURE: u64 = 200;
/// `pressure_critical`.
const CRITICAL: u64 = 50;
/// `max_balloon_change_percent`.
const STEP: u64 = 50;
/// `min_balloon_change_percent`, by which a change is worth it: a four hundredth.
const LEAST_CHANGE: (u64, u64) = (1, 400);
/// `sample-history-length`.
const HISTORY: usize = 10;

#[derive(Debug)]
pub(crate) struct Mom {
    collect: Every,
    decide: Every,
    host_free: History,
    guests: BTreeMap<GuestId, Guest>,
}

#[derive(Debug, Default)]
struct Guest {
    held: History,
    unused: History,
}

/// Samples of which the average counts (`StatAvg`).
#[derive(Debug, Default)]
struct History(VecDeque<Bytes>);

impl History {
    fn push(&mut self, sample: Bytes) {
        if self.0.len() >= HISTORY {
            self.0.pop_front();
        }
        self.0.push_back(sample);
    }

    fn average(&self) -> Bytes {
        let count = u64::try_from(self.0.len()).unwrap_or(1).max(1);
        self.0.iter().copied().sum::<Bytes>().scaled(1, count)
    }
}

impl Default for Mom {
    fn default() -> Self {
        // `*-monitor-interval` and `policy-engine-interval`.
        let (collect, decide) = (Every::seconds(5), Every::seconds(10));
        Self { collect, decide, host_free: History::default(), guests: BTreeMap::new() }
    }
}

impl Mom {
    pub(crate) fn work(&mut self, plant: &mut Plant) -> Vec<Command> {
        let now = plant.time();
        if !self.collect.strikes(now) {
            return Vec::new();
        }
        let sample = plant.read(Reading::Fresh);
        self.collect(sample);
        if self.decide.strikes(now) { self.decide(sample) } else { Vec::new() }
    }

    fn collect(&mut self, sample: &Sample) {
        // `mem_free` counts page cache as free.
        self.host_free.push(sample.host.memory.available);
        self.guests.retain(|id, _| sample.guests.iter().any(|guest| guest.id == *id));
        for guest in &sample.guests {
            let Some(balloon) = guest.balloon else { continue };
            let history = self.guests.entry(guest.id.clone()).or_default();
            history.held.push(balloon.actual);
            history.unused.push(balloon.unused.unwrap_or_default());
        }
    }

    fn decide(&self, sample: &Sample) -> Vec<Command> {
        let total = sample.host.memory.total;
        let free = self.host_free.average().scaled(1000, total.get().max(1)).get();
        let mut commands = Vec::new();
        for guest in &sample.guests {
            let (Some(history), Some(balloon)) = (self.guests.get(&guest.id), guest.balloon) else {
                continue;
            };
            let (now, full) = (balloon.actual, guest.config.full);
            let used = history.held.average().minus(history.unused.average());
            let to = if free < PRESSURE {
                // Below the critical line the part is negative: guests are forced to swap.
                let part = if free <= CRITICAL { 0 } else { free };
                let less = now.scaled(CRITICAL.saturating_sub(free), 1000);
                let floor = used.plus(now.scaled(part, 1000)).minus(less);
                now.minus(now.scaled(STEP, 1000)).max(floor).min(now)
            } else {
                let floor = used.plus(full.scaled(PRESSURE, 1000));
                now.plus(now.scaled(STEP, 1000)).max(floor).min(full).max(now)
            };
            let change = to.minus(now).max(now.minus(to));
            if change > now.scaled(LEAST_CHANGE.0, LEAST_CHANGE.1) {
                commands.extend(target(guest, now, to));
            }
        }
        commands
    }
}
