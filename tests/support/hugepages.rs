//! The machine's pool of huge pages, which one user at a time may change: a squeeze of the host, or guests that are backed by them.

use std::fs::{self, File};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::guardian::Pending;
use crate::machine::{self, MIB};
use crate::session::Session;
use crate::undo::Undo;
use crate::wait::until;

/// Size of the pool in pages of the default size (Documentation/admin-guide/mm/hugetlbpage.rst).
pub const NR_HUGEPAGES: &str = "/proc/sys/vm/nr_hugepages";

/// Held by whoever changes the pool, whichever process on the machine that is.
const LOCK: &str = "/run/lock/overcommit-hugepages";

/// The pool grows in pieces, so that the machine can make room in between.
const STEP: u64 = 256 * MIB;

/// Compaction and the dropping of caches work in the background.
const PATIENCE: Duration = Duration::from_mins(3);

/// The pool, ours alone. Dropping it restores the pool's size.
#[derive(Debug)]
pub struct HugePages {
    // Restored before the lock is let go.
    restore: Option<Pending>,
    before: u64,
    page: u64,
    _lock: File,
}

impl HugePages {
    /// Waits until nobody else uses the pool, and takes it over as it is.
    pub fn take_over(session: &Session, patience: Duration) -> Result<Self> {
        let lock = File::create(LOCK).with_context(|| format!("creating {LOCK}"))?;
        until(patience, format!("the end of another use of huge pages ({LOCK})"), || lock.try_lock())?;
        let restore = session.undo_later(Undo::restore(NR_HUGEPAGES)?)?;
        let (before, page) = (machine::meminfo("HugePages_Total")?, machine::meminfo("Hugepagesize")?);
        Ok(Self { restore: Some(restore), before, page, _lock: lock })
    }

    /// Makes the pool larger by so many bytes than it was at the start, step by step; looks at `allowed` before each. A pool that is
    /// larger already stays.
    pub fn grow(&self, bytes: u64, allowed: impl Fn() -> Result<()>) -> Result<()> {
        let goal = self.before + bytes.div_ceil(self.page);
        let end = Instant::now() + PATIENCE;
        let mut wanted = pages()?.max(self.before);
        while wanted < goal {
            wanted = (wanted + STEP / self.page).min(goal);
            allowed()?;
            while ask_for(wanted)? < wanted {
                allowed()?;
                if Instant::now() > end {
                    bail!("the kernel made {} of {goal} huge pages within {PATIENCE:?}", pages()?);
                }
                make_room()?;
            }
        }
        allowed()
    }

    /// How much larger the pool really is now, in bytes.
    pub fn grown(&self) -> Result<u64> {
        Ok(pages()?.saturating_sub(self.before) * self.page)
    }

    /// Restores the pool's size now.
    pub fn release(mut self) -> Result<()> {
        self.restore.take().map_or(Ok(()), Pending::undo)
    }
}

/// Drops caches and joins free pages into larger pieces.
pub fn make_room() -> Result<()> {
    fs::write("/proc/sys/vm/drop_caches", "3").context("dropping caches")?;
    fs::write("/proc/sys/vm/compact_memory", "1").context("compacting memory")
}

/// Asks the kernel for a pool of this many pages; returns how many it has now.
fn ask_for(wanted: u64) -> Result<u64> {
    fs::write(NR_HUGEPAGES, wanted.to_string()).with_context(|| format!("writing {NR_HUGEPAGES}"))?;
    pages()
}

fn pages() -> Result<u64> {
    machine::meminfo("HugePages_Total")
}
