//! A machine that thrashes: little memory, no swap, and readers of more than fits, so that programs' own pages are dropped and
//! read again all the time. There is none without a live valve.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::kernel_counts::refaults;
use crate::machine::{MIB, meminfo};
use crate::session::Session;
use crate::squeeze::Squeeze;
use crate::wait::until;

/// What is left to everybody: with less, a machine that was in use for long has too few whole huge pages to be taken.
const LEFT_MIB: u64 = 2048;
/// What is read, anywhere and again and again: pages come back sooner than any that programs use now and then.
const FILE_MIB: u64 = 2 * LEFT_MIB;
/// More than processors, so that the disk has always something to do.
const READERS: u64 = 4;
const PAGE: u16 = 4096;
/// So many pages were dropped and read again: the machine thrashes.
const THRASHING: u64 = 20_000;
/// What is left is filled once before anything is read again.
const BEGUN_BY: Duration = Duration::from_mins(3);

/// Thrashing, which ends when it is dropped.
#[derive(Debug)]
pub struct Thrash {
    over: Arc<AtomicBool>,
    readers: Vec<JoinHandle<()>>,
    before: u64,
    squeeze: Squeeze,
}

impl Thrash {
    /// Begins it, and waits until the machine thrashes. The valve opens by this deadline at the latest.
    pub fn begin(session: &Session, deadline: Duration) -> Result<Self> {
        ensure!(meminfo("SwapTotal")? == 0, "with swap it would be another test: see `swapon --show`");
        let path = session.fresh_dir("thrash")?.join("read");
        let mut file = File::create(&path).with_context(|| path.display().to_string())?;
        // Not zeros: a file system might know better than to read them.
        let piece: Vec<u8> = (0..MIB).map(|n| u8::try_from(n % 251).unwrap_or(0)).collect();
        (0..FILE_MIB).try_for_each(|_| file.write_all(&piece))?;
        // Only what is on disk can be dropped.
        file.sync_all()?;
        let file = Arc::new(File::open(&path)?);
        let squeeze = Squeeze::leaving(session, LEFT_MIB, deadline)?;
        let over = Arc::new(AtomicBool::new(false));
        let reader = |seed| {
            let (file, over) = (Arc::clone(&file), Arc::clone(&over));
            std::thread::spawn(move || read_anywhere(&file, seed, &over))
        };
        let thrash =
            Self { readers: (1..=READERS).map(reader).collect(), over, before: refaults()?, squeeze };
        until(BEGUN_BY, "the machine to thrash", || {
            let pages = thrash.pages()?;
            ensure!(pages >= THRASHING, "{pages} pages were read again");
            Ok(())
        })?;
        Ok(thrash)
    }

    /// Pages that were dropped and read again since it began.
    pub fn pages(&self) -> Result<u64> {
        Ok(refaults()?.saturating_sub(self.before))
    }

    /// Fails when the valve has opened: the machine thrashes no more.
    pub fn check(&self) -> Result<()> {
        self.squeeze.opened().map_or(Ok(()), |why| anyhow::bail!("the valve has {why}"))
    }
}

impl Drop for Thrash {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        for reader in self.readers.drain(..) {
            drop(reader.join());
        }
    }
}

/// Reads pages of a file in no order (xorshift, Marsaglia 2003, "Xorshift RNGs").
fn read_anywhere(file: &File, seed: u64, over: &AtomicBool) {
    let (mut state, mut page) = (seed, vec![0; usize::from(PAGE)]);
    while !over.load(Ordering::Relaxed) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let size = u64::from(PAGE);
        let at = state % (FILE_MIB * MIB / size) * size;
        if file.read_exact_at(&mut page, at).is_err() {
            return;
        }
    }
}
