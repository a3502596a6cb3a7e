//! A disk of a few pages, which can be filled and made read-only.

use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::guardian::Pending;
use crate::session::Session;
use crate::undo::Undo;
use crate::wait::until;

/// Whoever writes there is done by then.
const UNUSED_BY: Duration = Duration::from_mins(3);

/// Mounted until it is dropped.
#[derive(Debug)]
pub struct SmallDisk {
    dir: PathBuf,
    _mounted: Pending,
}

impl SmallDisk {
    /// Mounts it, as a state directory wants to be: for its owner alone.
    ///
    /// # Errors
    /// When it cannot be mounted.
    pub fn mount() -> Result<Self> {
        let session = Session::shared()?;
        let dir = session.fresh_dir("disk")?;
        let mounted = session.undo_later(Undo::Unmount(dir.clone()))?;
        mount(&["-t", "tmpfs", "-o", "size=64k,mode=0700", "tmpfs"], &dir)?;
        Ok(Self { dir, _mounted: mounted })
    }

    /// Where it is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Leaves no room.
    ///
    /// # Errors
    /// When it cannot be written for another reason.
    pub fn fill(&self) -> Result<()> {
        let mut filler = File::create(self.dir.join("filler"))?;
        loop {
            match filler.write_all(&[0; 4096]) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Takes away what filled it.
    ///
    /// # Errors
    /// When it was not filled.
    pub fn make_room(&self) -> Result<()> {
        Ok(std::fs::remove_file(self.dir.join("filler"))?)
    }

    /// Mounts it anew, `ro` or `rw`; not while a file there is open for writing.
    ///
    /// # Errors
    /// When it cannot be mounted so.
    pub fn remount(&self, how: &str) -> Result<()> {
        until(UNUSED_BY, "a moment without a writer", || mount(&["-o", &format!("remount,{how}")], &self.dir))
    }
}

fn mount(words: &[&str], dir: &Path) -> Result<()> {
    let done = Command::new("mount").args(words).arg(dir).output()?;
    ensure!(done.status.success(), "mount {words:?}: {}", String::from_utf8_lossy(&done.stderr));
    Ok(())
}
