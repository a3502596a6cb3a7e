//! Making memory short on this machine by reserving huge pages, which nothing can take back but us. There is none without a live valve.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use overcommit_core::units::Bytes;

use crate::hugepages::{self, HugePages};
use crate::machine::{self, MIB};
use crate::session::Session;
use crate::table::Report;
use crate::valve::{Opening, Valve, ValveOrder};
use crate::wait;

/// What the tools that run the test need themselves.
const LEAST_LEFT_MIB: u64 = 1024;

/// How long another squeeze, of a test that runs beside, is waited for.
const PATIENCE: Duration = Duration::from_mins(10);

/// What the account of a machine on which others build may be off by from one look to the next.
const WANDERS_MIB: u64 = 100;
/// How long an account may take to tell of memory that is gone.
const TOLD: Duration = Duration::from_mins(3);

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

    /// Takes more until so many MiB are missing by the agent's own account, if all guests had their full size: what was there
    /// when a squeeze was reckoned may not have been all, for an agent that has just begun may not know yet what is whose,
    /// and others leave memory behind. Returns the report that says so, and what is missing by it.
    pub fn until_missing(&self, mib: u64, told: impl Fn() -> Result<Report>) -> Result<(Report, u64)> {
        wait::until(TOLD, format!("{mib} MiB to be missing"), || {
            let report = told()?;
            let account = report.ledger.as_ref().context("no account")?;
            ensure!(account.huge_pages.get() == machine::meminfo("Hugetlb")?, "an account of before");
            let missing = missing(&report)?.get() / MIB;
            let lacks = mib.saturating_sub(missing);
            if lacks >= WANDERS_MIB {
                self.take_more(lacks)?;
            }
            ensure!(lacks < WANDERS_MIB, "{missing} MiB missing");
            Ok((report, missing))
        })
    }

    /// What is really taken now, in MiB; 0 after the valve has opened.
    pub fn taken_mib(&self) -> Result<u64> {
        Ok(self.taken.grown()? / MIB)
    }

    /// Why the valve opened, if it has: what was measured since was no squeeze, and before it the machine may have stood still.
    pub fn opened(&self) -> Option<String> {
        self.valve.opened()
    }

    /// Whether, when and why the valve opened, or that it is gone and nobody guards the machine.
    pub fn opening(&self) -> Option<Opening> {
        self.valve.opening()
    }

    /// Gives it back now.
    pub fn release(self) -> Result<()> {
        self.taken.release()
    }
}

/// What all guests may touch at their full size, overhead included.
///
/// # Errors
/// When the report has no account.
pub fn promised_in_full(report: &Report) -> Result<Bytes> {
    let account = report.ledger.as_ref().context("no account")?;
    let full: Bytes = report.guests.iter().map(|guest| guest.full).sum();
    Ok(full.plus(account.overhead))
}

/// What of that the budget lacks, whatever was taken from them meanwhile.
///
/// # Errors
/// When the report has no account.
pub fn missing(report: &Report) -> Result<Bytes> {
    let account = report.ledger.as_ref().context("no account")?;
    Ok(promised_in_full(report)?.minus(account.budget))
}
