//! Making memory short on this machine by reserving huge pages, which nothing can take back but us: only ever behind a live valve.

use std::fs;
use std::fs::File;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::guardian::Pending;
use crate::machine::{self, MIB};
use crate::session::Session;
use crate::undo::Undo;
use crate::valve::Valve;

/// Pool of huge pages of the default size (Documentation/admin-guide/mm/hugetlbpage.rst).
pub const NR_HUGEPAGES: &str = "/proc/sys/vm/nr_hugepages";

/// What the tools that run the test need themselves.
const LEAST_LEFT: u64 = 1024 * MIB;

/// Reserved in pieces, so that the machine can make room in between.
const STEP: u64 = 256 * MIB;

/// Compaction and the dropping of caches work in the background.
const PATIENCE: Duration = Duration::from_mins(1);

/// One squeeze at a time on a machine, whoever makes it.
const LOCK: &str = "/run/lock/overcommit-squeeze";

/// Memory kept from everybody. Dropping it gives it back.
#[derive(Debug)]
pub struct Squeeze {
    // Given back before the valve goes.
    restore: Option<Pending>,
    before_pages: u64,
    valve: Valve,
    _lock: File,
}

impl Squeeze {
    /// Takes away as much as leaves the machine with so many MiB available.
    pub fn leaving(session: &Session, valve: Valve, left_mib: u64) -> Result<Self> {
        let mut squeeze = Self::begin(session, valve, left_mib.saturating_mul(MIB))?;
        let available = machine::meminfo("MemAvailable")?;
        squeeze.grow(available.saturating_sub(left_mib * MIB))?;
        Ok(squeeze)
    }

    /// Takes away so many MiB.
    pub fn taking(session: &Session, valve: Valve, mib: u64) -> Result<Self> {
        let available = machine::meminfo("MemAvailable")?;
        let mut squeeze = Self::begin(session, valve, available.saturating_sub(mib.saturating_mul(MIB)))?;
        squeeze.grow(mib * MIB)?;
        Ok(squeeze)
    }

    fn begin(session: &Session, valve: Valve, left: u64) -> Result<Self> {
        ensure!(left >= LEAST_LEFT, "a squeeze must leave {} MiB, not {}", LEAST_LEFT / MIB, left / MIB);
        valve.check()?;
        let lock = File::create(LOCK).with_context(|| format!("creating {LOCK}"))?;
        lock.try_lock().with_context(|| format!("another squeeze of this machine goes on ({LOCK})"))?;
        let before_pages = pages()?;
        let restore = session.undo_later(Undo::restore(NR_HUGEPAGES)?)?;
        // What the caches hold is not short: a squeeze that leaves them only moves the moment.
        fs::write("/proc/sys/vm/drop_caches", "3")?;
        fs::write("/proc/sys/vm/compact_memory", "1")?;
        Ok(Self { restore: Some(restore), before_pages, valve, _lock: lock })
    }

    /// Reserves more in steps, and checks what the kernel really reserved.
    fn grow(&mut self, bytes: u64) -> Result<()> {
        let page = machine::meminfo("Hugepagesize")?;
        let goal = self.before_pages + bytes / page;
        let end = Instant::now() + PATIENCE;
        let mut wanted = self.before_pages;
        while wanted < goal {
            wanted = (wanted + STEP / page).min(goal);
            while ask_for(wanted)? < wanted {
                self.valve.check()?;
                if Instant::now() > end {
                    bail!("the kernel reserved {} of {goal} huge pages within {PATIENCE:?}", pages()?);
                }
                fs::write("/proc/sys/vm/drop_caches", "3")?;
                fs::write("/proc/sys/vm/compact_memory", "1")?;
            }
        }
        self.valve.check()
    }

    /// What is really taken now, in MiB; 0 after the valve has opened.
    pub fn taken_mib(&self) -> Result<u64> {
        Ok(pages()?.saturating_sub(self.before_pages) * machine::meminfo("Hugepagesize")? / MIB)
    }

    /// Why the valve opened, if it has: then the machine made no progress, and what was measured since is no squeeze.
    pub fn opened(&self) -> Option<String> {
        self.valve.opened()
    }

    /// Gives it back now.
    pub fn release(mut self) -> Result<()> {
        self.restore.take().map_or(Ok(()), Pending::undo)
    }
}

/// Asks the kernel for a pool of this many pages; returns how many it has now.
fn ask_for(wanted: u64) -> Result<u64> {
    fs::write(NR_HUGEPAGES, wanted.to_string()).with_context(|| format!("writing {NR_HUGEPAGES}"))?;
    pages()
}

fn pages() -> Result<u64> {
    machine::meminfo("HugePages_Total")
}
