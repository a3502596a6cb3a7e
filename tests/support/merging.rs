//! The machine's merging of equal pages (KSM), which one user at a time may change.

use std::fs::{self, File};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::guardian::Pending;
use crate::machine::MIB;
use crate::session::Session;
use crate::wait::until;

/// How long the kernel may need to forget guests that are gone.
const FORGOTTEN: Duration = Duration::from_mins(1);
/// Held by whoever changes it, whichever process on the machine that is.
const LOCK: &str = "/run/lock/overcommit-ksm";
const FOLDER: &str = "/sys/kernel/mm/ksm";

/// KSM, ours alone, stopped and with the kernel's defaults. Dropping it restores what was there.
#[derive(Debug)]
pub struct Merging {
    // Restored before the lock is let go.
    _restore: Vec<Pending>,
    _lock: File,
}

impl Merging {
    /// Waits until nobody else uses it.
    ///
    /// # Errors
    /// When somebody does for longer, or the kernel has none.
    pub fn take_over(session: &Session, patience: Duration) -> Result<Self> {
        let lock = File::create(LOCK).with_context(|| format!("creating {LOCK}"))?;
        until(patience, format!("the end of another use of KSM ({LOCK})"), || lock.try_lock())?;
        let knobs =
            [("run", "0"), ("pages_to_scan", "100"), ("sleep_millisecs", "20"), ("advisor_mode", "none")];
        let there = knobs.into_iter().filter(|(name, _)| path(name).exists());
        let write = |(name, value)| session.write_for_now(path(name), value);
        // The advisor, which older kernels have not, is put back before what it would refuse.
        let mut restore = there.map(write).collect::<Result<Vec<_>>>()?;
        restore.reverse();
        Ok(Self { _restore: restore, _lock: lock })
    }

    /// Has the kernel forget what was merged of guests that are gone, which it does only while it scans.
    ///
    /// # Errors
    /// When it does not within `patience`.
    pub fn forget_the_dead(&self, patience: Duration) -> Result<()> {
        self.write("run", "1")?;
        until(patience, "the end of what was merged before", || {
            let saved = self.saved_mib()?;
            ensure!(saved == 0, "{saved} MiB");
            Ok(())
        })?;
        self.write("run", "0")
    }

    /// What stands in one of its files.
    ///
    /// # Errors
    /// When that cannot be read.
    pub fn read(&self, name: &str) -> Result<String> {
        let text = fs::read_to_string(path(name)).with_context(|| name.to_owned())?;
        Ok(text.trim().to_owned())
    }

    /// The same as a number.
    ///
    /// # Errors
    /// When it is none.
    pub fn number(&self, name: &str) -> Result<i64> {
        Ok(self.read(name)?.parse()?)
    }

    /// What merging saves now, in MiB.
    ///
    /// # Errors
    /// When that cannot be read.
    pub fn saved_mib(&self) -> Result<i64> {
        let page = i64::try_from(rustix::param::page_size())?;
        Ok(self.number("pages_sharing")? * page / i64::try_from(MIB)?)
    }

    /// Writes a knob, as somebody else would.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn write(&self, name: &str, value: &str) -> Result<()> {
        fs::write(path(name), value).with_context(|| format!("{name}: {value}"))
    }

    /// `run`, `pages_to_scan` and `sleep_millisecs`.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn knobs(&self) -> Result<[i64; 3]> {
        Ok([self.number("run")?, self.number("pages_to_scan")?, self.number("sleep_millisecs")?])
    }
}

impl Drop for Merging {
    /// The next agent would keep from its guests what others of before had merged: the kernel counts it until it scans.
    fn drop(&mut self) {
        if self.saved_mib().is_ok_and(|saved| saved > 0) {
            drop(self.forget_the_dead(FORGOTTEN));
        }
    }
}

/// The kernel thread that merges.
///
/// # Errors
/// When the kernel has none.
pub fn daemon() -> Result<u32> {
    let is_ksmd =
        |pid: &u32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "ksmd");
    let entries = fs::read_dir("/proc")?.flatten();
    let mut pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.find(is_ksmd).context("no ksmd")
}

fn path(name: &str) -> PathBuf {
    PathBuf::from(FOLDER).join(name)
}
