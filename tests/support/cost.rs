//! What processes cost: CPU time and memory, as the kernel tells it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use rustix::param::clock_ticks_per_second;

/// A program of the product as it is released, not as tests build it.
pub fn released(name: &str) -> Result<PathBuf> {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/release").join(name);
    ensure!(program.is_file(), "{} is missing: run `make measure` or `make bench`", program.display());
    Ok(program)
}

/// CPU time that a process has used, in ms: user and system time of all its threads, the ended ones included
/// (fields 14 and 15 of `/proc/PID/stat`, proc(5)).
pub fn cpu_ms(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).context(path.clone())?;
    // The name may hold spaces and brackets; the third field follows its last bracket.
    let (_, rest) = text.rsplit_once(')').context(path.clone())?;
    let ticks: Option<u32> =
        rest.split_whitespace().skip(11).take(2).map(|word| word.parse::<u32>().ok()).sum();
    let per_second = u32::try_from(clock_ticks_per_second()).context("clock ticks")?;
    Ok(f64::from(ticks.context(path)?) * 1000.0 / f64::from(per_second))
}

/// Memory of a process, in MiB.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// Its own.
    pub anonymous: f64,
    /// Pages of files that it has mapped, programs and libraries, also where others share them.
    pub file: f64,
}

/// Memory of some processes, what they share counted once (`Pss` in `/proc/PID/smaps_rollup`; only they map the program).
pub fn whole(pids: &[u32]) -> Result<Memory> {
    let each = pids.iter().map(|pid| memory(*pid)).collect::<Result<Vec<_>>>()?;
    Ok(Memory { anonymous: each.iter().map(|m| m.anonymous).sum(), file: each.iter().map(|m| m.file).sum() })
}

/// Reads `/proc/PID/smaps_rollup`.
pub fn memory(pid: u32) -> Result<Memory> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path).context(path.clone())?;
    let value = |key: &str| -> Result<f64> {
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        let kib = line.and_then(|rest| rest.trim().strip_suffix(" kB")?.trim().parse::<u32>().ok());
        Ok(f64::from(kib.with_context(|| format!("no {key} in {path}"))?) / 1024.0)
    };
    let anonymous = value("Pss_Anon")?;
    Ok(Memory { anonymous, file: value("Pss")? - anonymous })
}
