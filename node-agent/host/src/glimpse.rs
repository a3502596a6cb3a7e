//! A quick look at QEMU processes between two samples: three small files per process, held open, none of which waits
//! for the process's memory lock (`statm`, `stat` and `io` only read counters: fs/proc/{array,base}.c).

use std::collections::HashMap;

use overcommit_core::lane::Glimpse;
use overcommit_core::sample::{Faults, Incarnation};
use overcommit_core::units::Bytes;

use crate::held::Held;
use crate::proc::start_time;
use crate::root::Root;
use crate::text::counter_line;

/// Looks at processes by their incarnation.
#[derive(Debug)]
pub struct Glimpses {
    root: Root,
    page: Bytes,
    held: HashMap<Incarnation, Files>,
}

#[derive(Debug)]
struct Files {
    statm: Held,
    stat: Held,
    io: Held,
}

impl Glimpses {
    /// Looks below `root`.
    pub fn new(root: &Root) -> Self {
        let page = u64::try_from(rustix::param::page_size()).unwrap_or(4096);
        Self { root: root.clone(), page: Bytes::new(page), held: HashMap::new() }
    }

    /// One look at one process; absent once it is gone, or where its files cannot be read.
    pub fn look(&mut self, process: Incarnation) -> Option<Glimpse> {
        let files = self.held.entry(process).or_insert_with(|| Files::new(&self.root, process.pid));
        let glimpse = files.look(process, self.page);
        if glimpse.is_none() {
            self.held.remove(&process);
        }
        glimpse
    }

    /// Lets go of all other processes.
    pub fn keep(&mut self, still: &[Incarnation]) {
        self.held.retain(|process, _| still.contains(process));
    }
}

impl Files {
    fn new(root: &Root, pid: u32) -> Self {
        let file = |name: &str| Held::new(root.join(format!("proc/{pid}/{name}")));
        Self { statm: file("statm"), stat: file("stat"), io: file("io") }
    }

    fn look(&mut self, process: Incarnation, page: Bytes) -> Option<Glimpse> {
        if start_time(self.stat.read().ok()?)? != process.start_ticks {
            return None;
        }
        let resident = self.statm.read().ok()?.split_ascii_whitespace().nth(1)?.parse::<u64>().ok()?;
        let read = self.io.read().map_or(0, bytes_read);
        Some(Glimpse { resident: page.scaled(resident, 1), read: Bytes::new(read) })
    }
}

/// Fields 10 (`minflt`) and 12 (`majflt`).
pub(crate) fn all_faults(text: &str) -> Option<Faults> {
    let mut fields = text.rsplit_once(')')?.1.split_ascii_whitespace();
    let minor = fields.nth(7)?.parse().ok()?;
    Some(Faults { minor, major: fields.nth(1)?.parse().ok()? })
}

/// The larger of what was asked of files and of disks: a cached image costs no disk, direct I/O asks no file.
pub(crate) fn bytes_read(text: &str) -> u64 {
    let value = |line| counter_line(line).filter(|(name, _)| matches!(*name, "rchar:" | "read_bytes:"));
    text.lines().filter_map(value).map(|(_, bytes)| bytes).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_very_process_is_seen_to_read() {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
        let process = Incarnation { pid: std::process::id(), start_ticks: start_time(&stat).unwrap() };
        let mut glimpses = Glimpses::new(&Root::default());
        let before = glimpses.look(process).unwrap();
        assert!(before.resident > Bytes::from_kib(100), "{before:?}");
        std::fs::read("/proc/self/exe").unwrap();
        assert!(glimpses.look(process).unwrap().read > before.read);
    }

    #[test]
    fn another_process_of_the_same_pid_is_not_seen() {
        let process = Incarnation { pid: std::process::id(), start_ticks: 1 };
        assert_eq!(Glimpses::new(&Root::default()).look(process), None);
    }

    #[test]
    fn hostile_names_and_broken_text_are_no_counters() {
        let all = all_faults("7 (a) 1 2) S 1 1 1 0 -1 0 5 3 77 9 0 0 0 0 20 0 1 0 99 1");
        assert_eq!(all, Some(Faults { minor: 5, major: 77 }));
        for text in ["", ")", "1 (x) S", "1 (x) S 1 1 1 0 -1 0 5 3", "1 (x) S 1 1 1 0 -1 0 y 3 7"] {
            assert_eq!(all_faults(text), None, "{text}");
        }
        assert_eq!(bytes_read("rchar: 5\nread_bytes: 9\nwchar: 99\n"), 9);
    }
}
