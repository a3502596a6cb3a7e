//! Making memory short on this machine by reserving huge pages, which nothing can take back but us. There is none without a live valve.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::hugepages::{self, HugePages};
use crate::machine::{self, MIB};
use crate::session::Session;
use crate::valve::{Valve, ValveOrder};

/// What the tools that run the test need themselves.
const LEAST_LEFT_MIB: u64 = 1024;

/// How long another squeeze, of a test that runs beside, is waited for.
const PATIENCE: Duration = Duration::from_mins(10);

/// Memory kept from everybody. Dropping it gives it back.
#[derive(Debug)]
pub struct Squeeze {
    // Given back before the valve goes.
    taken: HugePages,
    valve: Valve,
}

impl Squeeze {
    /// Takes away as much as leaves the machine with so many MiB available (`MemAvailable`). The valve opens by this deadline at the
    /// latest, counted from when the squeeze begins.
    pub fn leaving(session: &Session, left_mib: u64, deadline: Duration) -> Result<Self> {
        let order = ValveOrder::huge_pages(deadline);
        Self::begin(session, &order, |available| (available.saturating_sub(left_mib), left_mib))
    }

    /// Takes away so many MiB.
    pub fn taking(session: &Session, mib: u64, deadline: Duration) -> Result<Self> {
        Self::taking_behind(session, mib, &ValveOrder::huge_pages(deadline))
    }

    /// Takes away so many MiB behind a valve of other patience.
    pub fn taking_behind(session: &Session, mib: u64, order: &ValveOrder) -> Result<Self> {
        Self::begin(session, order, |available| (mib, available.saturating_sub(mib)))
    }

    /// `split` divides what is available into what is taken and what is left.
    fn begin(session: &Session, order: &ValveOrder, split: impl Fn(u64) -> (u64, u64)) -> Result<Self> {
        let pool = HugePages::take_over(session, PATIENCE)?;
        // What caches hold is not short: a squeeze that leaves them only puts the moment off.
        hugepages::make_room()?;
        let (take, left) = split(machine::meminfo("MemAvailable")? / MIB);
        ensure!(left >= LEAST_LEFT_MIB, "a squeeze must leave {LEAST_LEFT_MIB} MiB, not {left}");
        let valve = Valve::start(session, order)?;
        let squeeze = Self { taken: pool, valve };
        squeeze.taken.grow(take * MIB, || squeeze.valve.check())?;
        Ok(squeeze)
    }

    /// Takes so many MiB more than are taken now.
    pub fn take_more(&self, mib: u64) -> Result<()> {
        let left = (machine::meminfo("MemAvailable")? / MIB).saturating_sub(mib);
        ensure!(left >= LEAST_LEFT_MIB, "a squeeze must leave {LEAST_LEFT_MIB} MiB, not {left}");
        self.taken.grow((self.taken_mib()? + mib) * MIB, || self.valve.check())
    }

    /// What is really taken now, in MiB; 0 after the valve has opened.
    pub fn taken_mib(&self) -> Result<u64> {
        Ok(self.taken.grown()? / MIB)
    }

    /// Why the valve opened, if it has: what was measured since was no squeeze, and before it the machine may have stood still.
    pub fn opened(&self) -> Option<String> {
        self.valve.opened()
    }

    /// Gives it back now.
    pub fn release(self) -> Result<()> {
        self.taken.release()
    }
}
