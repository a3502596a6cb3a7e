//! Ways to take back what the test bed did to the machine, as data, so that a second process can do it when the first is gone.
//!
//! Each is idempotent: what is gone already counts as taken back.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use crate::machine;
use crate::wait::until;

/// How long killed processes may take to vanish. A guest with gigabytes to free takes a second or two on a busy machine.
const DYING: Duration = Duration::from_mins(1);

/// One thing to take back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Undo {
    /// Kill this process, if it is still the one that started then.
    Kill {
        /// Process id.
        pid: u32,
        /// From [`machine::start_time`].
        start_time: u64,
    },
    /// Kill all processes in this cgroup (v2) and below, then remove it.
    KillCgroup(PathBuf),
    /// Remove this cgroup folder of any hierarchy and those below it; they must be empty of processes.
    RemoveCgroup(PathBuf),
    /// Write a value back to a file of sysfs or procfs.
    Write {
        /// The file.
        path: PathBuf,
        /// What stood in it.
        value: String,
    },
    /// End the use of this swap file or device.
    SwapOff(PathBuf),
    /// Unmount this and what is mounted below it.
    Unmount(PathBuf),
    /// Delete a network link.
    RemoveLink(String),
    /// Remove an address, as `127.0.0.9/32`, from a link.
    RemoveAddress {
        /// The link.
        link: String,
        /// Address with prefix length.
        address: String,
    },
    /// Delete a file, a link or a whole folder.
    Remove(PathBuf),
}

impl Undo {
    /// The undo that writes back what the file holds now.
    /// Of a choice (`[none] scan-time`) that is what stands in brackets.
    pub fn restore(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let chosen =
            text.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map(|(chosen, _)| chosen);
        Ok(Self::Write { path, value: chosen.unwrap_or_else(|| text.trim()).to_owned() })
    }

    /// Takes it back.
    pub fn perform(&self) -> Result<()> {
        match self {
            Self::Kill { pid, start_time } => kill(*pid, *start_time),
            Self::KillCgroup(dir) => kill_cgroup(dir),
            Self::RemoveCgroup(dir) => remove_cgroup(dir),
            Self::Write { path, value } => gone_is_fine(fs::write(path, value)),
            Self::SwapOff(path) => swap_off(path),
            Self::Unmount(path) => unmount(path),
            Self::RemoveLink(link) => remove_link(link),
            Self::RemoveAddress { link, address } => remove_address(link, address),
            Self::Remove(path) if path.is_dir() && !path.is_symlink() => {
                gone_is_fine(fs::remove_dir_all(path))
            }
            Self::Remove(path) => gone_is_fine(fs::remove_file(path)),
        }
        .with_context(|| format!("taking back {self:?}"))
    }
}

fn gone_is_fine(done: std::io::Result<()>) -> Result<()> {
    match done {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(e.into()),
        _ => Ok(()),
    }
}

fn kill(pid: u32, start_time: u64) -> Result<()> {
    let same = || machine::start_time(pid) == Some(start_time) && machine::is_running(pid);
    let target = i32::try_from(pid).ok().and_then(Pid::from_raw).context("no process id")?;
    if same() {
        gone_is_fine(kill_process(target, Signal::KILL).map_err(Into::into))?;
    }
    until(DYING, format!("the end of process {pid}"), || !same())
}

fn kill_cgroup(dir: &Path) -> Result<()> {
    if !dir.is_dir() {
        return Ok(());
    }
    // One write kills the whole subtree, with no race against forks.
    fs::write(dir.join("cgroup.kill"), "1").context("killing the cgroup")?;
    until(DYING, format!("the end of all processes in {}", dir.display()), || remove_cgroup(dir))
}

fn remove_cgroup(dir: &Path) -> Result<()> {
    let Ok(entries) = fs::read_dir(dir) else { return Ok(()) };
    for entry in entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir())) {
        remove_cgroup(&entry.path())?;
    }
    gone_is_fine(fs::remove_dir(dir)).with_context(|| format!("removing {}", dir.display()))
}

fn swap_off(path: &Path) -> Result<()> {
    let swaps = fs::read_to_string("/proc/swaps").context("reading /proc/swaps")?;
    let name = path.to_str().context("the swap's name is not UTF-8")?;
    if swaps.lines().any(|line| line.split_whitespace().next() == Some(name)) {
        run("swapoff", &[name])
    } else {
        Ok(())
    }
}

fn unmount(path: &Path) -> Result<()> {
    let name = path.to_str().context("the mount point's name is not UTF-8")?;
    let mounts = fs::read_to_string("/proc/self/mounts").context("reading /proc/self/mounts")?;
    let mut below: Vec<_> = mounts
        .lines()
        .filter_map(|l| l.split(' ').nth(1))
        .filter(|at| Path::new(at).starts_with(path))
        .collect();
    below.reverse();
    below
        .into_iter()
        .try_for_each(|at| run("umount", &["--lazy", at]))
        .with_context(|| format!("unmounting {name}"))
}

fn remove_link(link: &str) -> Result<()> {
    if Path::new("/sys/class/net").join(link).exists() {
        run("ip", &["link", "delete", link])
    } else {
        Ok(())
    }
}

fn remove_address(link: &str, address: &str) -> Result<()> {
    let shown =
        Command::new("ip").args(["-oneline", "address", "show", "dev", link, "to", address]).output()?;
    if shown.status.success() && !shown.stdout.is_empty() {
        run("ip", &["address", "delete", address, "dev", link])
    } else {
        Ok(())
    }
}

fn run(program: &str, args: &[&str]) -> Result<()> {
    let done = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("starting {program}"))?;
    if !done.status.success() {
        bail!("{program} {}: {}", args.join(" "), String::from_utf8_lossy(&done.stderr).trim());
    }
    Ok(())
}
