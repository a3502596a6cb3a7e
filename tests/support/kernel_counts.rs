//! What the machine's kernel counts, read anew here: what the product says is compared with it.

use std::fs;

use anyhow::{Context, Result, ensure};

/// What a QEMU holds, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct QemuMemory {
    /// All that is resident (`Rss` of `smaps_rollup`).
    pub resident: u64,
    /// What of its guest's memory is resident.
    pub guest: u64,
    /// Everything else: its other mappings in proportion to who else maps them, and its page tables.
    pub beside: u64,
}

/// A mapping of `/proc/PID/smaps`, in KiB.
#[derive(Debug, Default)]
struct Mapping {
    begin: u64,
    size: u64,
    proportional: u64,
}

impl QemuMemory {
    /// Reads it; the guest's memory is the mappings in a row that are together as large as it is, `full` bytes.
    pub fn read(pid: u32, full: u64) -> Result<Self> {
        let text = |name: &str| {
            let path = format!("/proc/{pid}/{name}");
            fs::read_to_string(&path).with_context(|| format!("reading {path}"))
        };
        let (rollup, status) = (text("smaps_rollup")?, text("status")?);
        let guest = proportional(&mappings(&text("smaps")?), full >> 10)
            .with_context(|| format!("process {pid} maps no {full} bytes"))?;
        let all = kib(&rollup, "Pss:")?;
        ensure!(all >= guest, "{all} KiB of all, {guest} KiB of its guest's");
        Ok(Self {
            resident: kib(&rollup, "Rss:")? << 10,
            guest: guest << 10,
            beside: (all - guest + kib(&status, "VmPTE:")?) << 10,
        })
    }

    /// All that it costs the machine.
    pub fn all(&self) -> u64 {
        self.guest + self.beside
    }
}

/// What of a process's anonymous memory is its, in bytes: a page that n map is each one's to the nth part (`Pss_Anon`).
///
/// # Errors
/// When the kernel does not say.
pub fn anon_in_proportion(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    Ok(kib(&text, "Pss_Anon:")? << 10)
}

fn mappings(smaps: &str) -> Vec<Mapping> {
    let mut mappings: Vec<Mapping> = Vec::new();
    for line in smaps.lines() {
        let range = line.split_once(' ').and_then(|(range, _)| range.split_once('-'));
        let begin = range.and_then(|(begin, _)| u64::from_str_radix(begin, 16).ok());
        match (begin, mappings.last_mut()) {
            (Some(begin), _) => mappings.push(Mapping { begin, ..Mapping::default() }),
            (None, Some(mapping)) => {
                mapping.size = kib(line, "Size:").unwrap_or(mapping.size);
                mapping.proportional = kib(line, "Pss:").unwrap_or(mapping.proportional);
            }
            (None, None) => {}
        }
    }
    mappings
}

/// `Pss` of the mappings in a row that are together of this size. Smaller ones that touch them may be none of them, so
/// each start is tried.
fn proportional(mappings: &[Mapping], size: u64) -> Option<u64> {
    (0..mappings.len()).find_map(|first| {
        let (mut end, mut covered, mut sum) = (None, 0, 0);
        for mapping in mappings.iter().skip(first) {
            if end.is_some_and(|end| end != mapping.begin) || covered >= size {
                break;
            }
            end = Some(mapping.begin + (mapping.size << 10));
            (covered, sum) = (covered + mapping.size, sum + mapping.proportional);
        }
        (covered == size).then_some(sum)
    })
}

/// The number of the first line with this label.
fn kib(text: &str, label: &str) -> Result<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(label));
    let value = value.with_context(|| format!("no {label}"))?;
    value.trim().trim_end_matches(" kB").parse().with_context(|| format!("{label} {value}"))
}

/// How many processes the machine's kernel has killed for want of memory since boot.
pub fn oom_kills() -> Result<u64> {
    since_boot("oom_kill")
}

/// Pages of files that were dropped and soon read again, since boot: what thrashing is made of.
pub fn refaults() -> Result<u64> {
    since_boot("workingset_refault_file")
}

/// A counter of `/proc/vmstat`.
fn since_boot(name: &str) -> Result<u64> {
    let text = fs::read_to_string("/proc/vmstat").context("reading /proc/vmstat")?;
    let count = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    count.with_context(|| format!("no {name} in /proc/vmstat"))?.parse().with_context(|| name.to_owned())
}

/// Free pages that processors keep for themselves, in bytes: no line of meminfo counts them, and whoever needs memory
/// gets them.
pub fn free_in_lists() -> Result<u64> {
    let text = fs::read_to_string("/proc/zoneinfo").context("reading /proc/zoneinfo")?;
    let counts = text.lines().filter_map(|line| line.trim().strip_prefix("count:"));
    let pages: u64 = counts.filter_map(|count| count.trim().parse::<u64>().ok()).sum();
    Ok(pages * u64::try_from(rustix::param::page_size())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_in_parts_is_found_between_mappings_that_touch_it() {
        let smaps = "1000-2000 rw-p 0 0:0 0 \nSize: 4 kB\nPss: 1 kB\n2000-4000 rw-p 0 0:0 0 \nSize: 8 kB\nPss: 5 kB\n\
                     4000-5000 rw-s 0 0:0 0 \nSize: 4 kB\nPss: 2 kB\n5000-6000 ---p 0 0:0 0 /x: y\nSize: 4 kB\nPss: 0 kB\n";
        let all = mappings(smaps);
        assert_eq!(
            (proportional(&all, 12), proportional(&all, 8), proportional(&all, 32)),
            (Some(6), Some(5), None)
        );
    }

    #[test]
    fn this_very_process_is_counted() {
        let memory = vec![1_u8; 64 << 20];
        let mut counted = None;
        for line in fs::read_to_string("/proc/self/smaps").unwrap().lines() {
            let size = kib(line, "Size:").ok().filter(|size| *size >= 64 << 10);
            counted = counted.or(size.and_then(|size| QemuMemory::read(std::process::id(), size << 10).ok()));
        }
        let counted = counted.unwrap();
        assert_eq!(memory.iter().map(|b| u64::from(*b)).sum::<u64>(), 64 << 20);
        assert!(counted.guest >= 64 << 20 && counted.resident >= counted.guest, "{counted:?}");
    }
}
