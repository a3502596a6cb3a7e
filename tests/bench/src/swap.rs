//! Swap of the machine, for as long as a window lasts.

use std::fs::{self, File};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use overcommit_tests::guardian::Pending;
use overcommit_tests::machine::{self, MIB};
use overcommit_tests::session::Session;
use overcommit_tests::undo::Undo;
use rustix::fs::{FallocateFlags, fallocate};

/// A swap file in use. Dropping it ends that.
#[derive(Debug)]
pub(crate) struct HostSwap {
    // Ended before its file goes.
    _used: Pending,
    _file: Pending,
}

impl HostSwap {
    /// Makes it and has the kernel use it.
    ///
    /// # Errors
    /// When the machine swaps already, for then nobody knows where to, or refuses.
    pub(crate) fn on(session: &Session, mib: u64) -> Result<Self> {
        ensure!(
            machine::meminfo("SwapTotal")? == 0,
            "the machine swaps already: end that first (`swapon --show`)"
        );
        machine::require("mkswap", "util-linux")?;
        let path = session.fresh_dir("swap")?.join("file");
        let file = session.undo_later(Undo::Remove(path.clone()))?;
        // Without holes, which swapon refuses.
        let made = File::create(&path).with_context(|| path.display().to_string())?;
        fallocate(&made, FallocateFlags::empty(), 0, mib * MIB)
            .with_context(|| format!("{mib} MiB for swap"))?;
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
        let used = session.undo_later(Undo::SwapOff(path.clone()))?;
        for program in ["mkswap", "swapon"] {
            let told = Command::new(program).arg(&path).output().with_context(|| program.to_owned())?;
            ensure!(told.status.success(), "{program}: {}", String::from_utf8_lossy(&told.stderr));
        }
        Ok(Self { _used: used, _file: file })
    }
}
