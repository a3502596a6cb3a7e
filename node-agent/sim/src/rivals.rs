//! Others who could drive the balloons of a node, to be measured beside the agent's loop: on the same plant, by the same score.
//!
//! Each is as good as its idea allows: none meets a daemon that dies, a call that hangs or statistics of a wrong unit.

mod fixed;
mod mom;
mod naive;
mod oracle;

use std::time::Duration;

use overcommit_core::plan::Command;
use overcommit_core::sample::GuestSample;
use overcommit_core::units::Bytes;
use serde::Serialize;

use crate::plant::Plant;
use crate::scenario::Scenario;

use fixed::Fixed;
use mom::Mom;
use naive::Naive;
use oracle::Oracle;

/// Who drives the balloons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Rival {
    /// Nobody.
    Nothing,
    /// Each guest once gets the same part of its size, so that all fit.
    FixedSplit,
    /// Each guest is kept near what it uses, whether anybody is short or not.
    Naive,
    /// MOM's stock policy for balloons.
    Mom,
    /// One who knows what each guest needs, and will need in a moment.
    Oracle,
}

impl Rival {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Nothing, Self::FixedSplit, Self::Naive, Self::Mom, Self::Oracle];

    /// What people call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::FixedSplit => "fixed split",
            Self::Naive => "naive",
            Self::Mom => "MOM",
            Self::Oracle => "oracle",
        }
    }
}

/// One who drives, in the middle of a scenario.
pub(crate) enum Driver {
    Nothing,
    Fixed(Fixed),
    Naive(Naive),
    Mom(Mom),
    Oracle(Box<Oracle>),
}

impl Driver {
    pub(crate) fn new(rival: Rival, scenario: &Scenario) -> Self {
        match rival {
            Rival::Nothing => Self::Nothing,
            Rival::FixedSplit => Self::Fixed(Fixed::default()),
            Rival::Naive => Self::Naive(Naive::default()),
            Rival::Mom => Self::Mom(Mom::default()),
            Rival::Oracle => Self::Oracle(Box::new(Oracle::new(scenario))),
        }
    }

    /// Does what is due by now; says what was commanded.
    pub(crate) fn work(&mut self, plant: &mut Plant) -> Vec<Command> {
        let commands = match self {
            Self::Nothing => Vec::new(),
            Self::Fixed(fixed) => fixed.work(plant),
            Self::Naive(naive) => naive.work(plant),
            Self::Mom(mom) => mom.work(plant),
            Self::Oracle(oracle) => oracle.work(plant),
        };
        for command in &commands {
            plant.carry_out(command);
        }
        commands
    }
}

/// A clock that strikes each period.
#[derive(Clone, Copy, Debug)]
struct Every {
    period: Duration,
    next: Duration,
}

impl Every {
    const fn seconds(seconds: u64) -> Self {
        Self { period: Duration::from_secs(seconds), next: Duration::ZERO }
    }

    fn strikes(&mut self, now: Duration) -> bool {
        let due = now >= self.next;
        if due {
            self.next = self.next.saturating_add(self.period);
        }
        due
    }
}

/// Sets a target that differs from the one in force.
fn target(guest: &GuestSample, from: Bytes, to: Bytes) -> Option<Command> {
    let to = to.min(guest.config.full).to_balloon_page_floor();
    (to != from).then(|| Command::SetTarget { id: guest.id.clone(), from, to })
}

/// Sets the period of a guest's statistics where it is another.
fn period(guest: &GuestSample, seconds: u32) -> Option<Command> {
    let now = guest.balloon?.period?;
    (now != seconds).then(|| Command::SetPeriod { id: guest.id.clone(), seconds })
}
