//! Facts about this machine that the test bed needs: tools, folders, memory, processes. Reads only.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Bytes per MiB.
pub const MIB: u64 = 1 << 20;

/// Fails with the remedy where a tool of a Debian package is missing.
pub fn require(tool: &str, package: &str) -> Result<()> {
    find_tool(tool)
        .with_context(|| format!("missing {tool} (Debian package {package}): run `make setup`"))
        .map(drop)
}

/// Where a tool lies: `PATH`, and the folders of system daemons, which not every `PATH` names.
pub fn find_tool(tool: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    folders.map(|folder| folder.join(tool)).find(|candidate| candidate.is_file())
}

/// A program of this package, built next to the one that runs.
pub fn sibling(program: &str) -> Result<PathBuf> {
    let own = std::env::current_exe().context("finding the own program")?;
    let folder = own.parent().context("the own program has no folder")?;
    // Test binaries lie one level deeper, in `deps`.
    let candidates = [Some(folder), folder.parent()].into_iter().flatten().map(|dir| dir.join(program));
    for candidate in candidates {
        if candidate.is_file() {
            return Ok(candidate);
        }
    }
    bail!("{program} is not next to {}: run `cargo build -p overcommit-tests --bins`", own.display())
}

/// One value of `/proc/meminfo`, in bytes (the file counts kB, huge pages excepted, which are plain numbers).
pub fn meminfo(key: &str) -> Result<u64> {
    let text = fs::read_to_string("/proc/meminfo").context("reading /proc/meminfo")?;
    let line = text.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(':'));
    let mut words = line.with_context(|| format!("/proc/meminfo has no {key}"))?.split_whitespace();
    let number: u64 = words.next().and_then(|w| w.parse().ok()).with_context(|| format!("reading {key}"))?;
    Ok(if words.next() == Some("kB") { number * 1024 } else { number })
}

/// Start time of a process in clock ticks since boot (field 22 of `/proc/PID/stat`); `None` when it is gone. Together with the id it
/// names a process for good, since ids are used again.
pub fn start_time(pid: u32) -> Option<u64> {
    stat_field(pid, 22)?.parse().ok()
}

/// How often a process has waited for a disk to bring it a page of its own (major faults, field 12 of `/proc/PID/stat`).
pub fn major_faults(pid: u32) -> Result<u64> {
    stat_field(pid, 12).with_context(|| format!("process {pid} is gone"))?.parse().context("major faults")
}

/// Whether the process is there and no zombie.
pub fn is_running(pid: u32) -> bool {
    stat_field(pid, 3).is_some_and(|state| state != "Z" && state != "X")
}

/// A field of `/proc/PID/stat` as proc(5) numbers them, from 3 on. The second, the name, may hold spaces and brackets.
fn stat_field(pid: u32, number: usize) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(')')?;
    rest.split_whitespace().nth(number.checked_sub(3)?).map(str::to_owned)
}

/// Resident memory of a process in bytes (`VmRSS`).
pub fn resident_bytes(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    let line = text
        .lines()
        .find_map(|l| l.strip_prefix("VmRSS:"))
        .with_context(|| format!("{path} has no VmRSS"))?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().with_context(|| format!("VmRSS of {path}"))?;
    Ok(kib * 1024)
}

/// Root of the cgroup v2 hierarchy. On machines with cgroup v1 it has no controllers, and still holds processes together and kills them.
pub fn cgroup2_root() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("reading /proc/self/mounts")?;
    let mut rows = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let root = rows.find_map(|row| match row.as_slice() {
        [_, at, "cgroup2", ..] => Some(PathBuf::from(at)),
        _ => None,
    });
    root.context("no cgroup2 is mounted: run `mount -t cgroup2 none /sys/fs/cgroup/unified`")
}

/// The folder of this package's sources.
pub fn sources() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_tool_names_its_package_and_the_remedy() {
        let message = require("no-such-tool", "no-such-package").unwrap_err().to_string();
        assert!(message.contains("no-such-package") && message.contains("make setup"), "{message}");
    }

    #[test]
    fn the_own_process_is_seen() {
        let pid = std::process::id();
        assert!(is_running(pid) && start_time(pid).is_some());
        assert!(resident_bytes(pid).unwrap() > MIB / 4);
    }

    #[test]
    fn sizes_are_bytes_and_counts_are_not() {
        assert!(meminfo("MemTotal").unwrap() > 256 * MIB);
        assert!(meminfo("HugePages_Total").unwrap() < MIB);
        assert!(meminfo("NoSuchKey").is_err());
    }
}
