//! The host's port: one reading of meminfo, vmstat, PSI, KSM and processors.

use overcommit_core::ports::{HostPort, PortError};
use overcommit_core::sample::HostSample;
use overcommit_core::units::Bytes;

use crate::held::{Held, ReadError};
use crate::ksm::KsmFiles;
use crate::root::Root;
use crate::{cpus, meminfo, psi, vmstat};

/// Reads the host each tick from files that stay open, so that a node under pressure needs no path lookup.
///
/// A new source is one file in this folder, one field here and one line in [`HostReader::sample`].
#[derive(Debug)]
pub struct HostReader {
    meminfo: Held,
    vmstat: Held,
    pressure: Held,
    ksm: KsmFiles,
    cpus: Held,
}

impl HostReader {
    /// A reader of the host below `root`.
    pub fn new(root: &Root) -> Self {
        Self {
            meminfo: Held::new(root.join("proc/meminfo")),
            vmstat: Held::new(root.join("proc/vmstat")),
            pressure: Held::new(root.join("proc/pressure/memory")),
            ksm: KsmFiles::new(root),
            cpus: Held::new(root.join("sys/devices/system/cpu/online")),
        }
    }
}

impl HostPort for HostReader {
    fn sample(&mut self) -> Result<HostSample, PortError> {
        let memory = required(&mut self.meminfo, meminfo::parse)?;
        // After the memory: what was merged in between is counted twice, and not never.
        let ksm = self.ksm.read();
        Ok(HostSample {
            memory,
            counters: required(&mut self.vmstat, vmstat::parse)?,
            pressure: self.pressure.read().ok().and_then(psi::parse),
            ksm_unread: ksm.is_err(),
            ksm: ksm.unwrap_or_default(),
            cpus: self.cpus.read().ok().and_then(cpus::count),
            page: u64::try_from(rustix::param::page_size()).ok().map(Bytes::new),
        })
    }
}

fn required<T>(file: &mut Held, parse: fn(&str) -> Result<T, &'static str>) -> Result<T, PortError> {
    let parsed = file.read().map(parse);
    let read = parsed.and_then(|r| r.map_err(|what| ReadError::missing(file.path(), what)));
    read.map_err(|error| {
        let remedy =
            if error.is_exhaustion() { "" } else { "; the agent needs the host's procfs, mounted readable" };
        PortError { what: file.path().display().to_string(), why: format!("{error}{remedy}") }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("proc")).unwrap();
        let memory = "MemTotal: 1000 kB\nMemFree: 500 kB\nMemAvailable: 800 kB\n";
        std::fs::write(dir.path().join("proc/meminfo"), memory).unwrap();
        std::fs::write(dir.path().join("proc/vmstat"), "pgmajfault 7\n").unwrap();
        dir
    }

    #[test]
    fn a_host_without_psi_and_ksm_is_read() {
        let dir = tree();
        let sample = HostReader::new(&Root::new(dir.path())).sample().unwrap();
        assert_eq!(sample.counters.major_faults, 7);
        assert_eq!((sample.pressure, sample.ksm, sample.ksm_unread), (None, None, false));
    }

    #[test]
    fn the_file_without_which_nothing_is_known_is_named() {
        for name in ["proc/meminfo", "proc/vmstat"] {
            let dir = tree();
            let mut reader = HostReader::new(&Root::new(dir.path()));
            std::fs::write(dir.path().join(name), "garbage\n").unwrap();
            assert!(reader.sample().unwrap_err().to_string().contains(name));
            std::fs::remove_file(dir.path().join(name)).unwrap();
            let mut reader = HostReader::new(&Root::new(dir.path()));
            assert!(reader.sample().unwrap_err().to_string().contains(name));
        }
    }

    #[test]
    fn counters_of_merging_that_cannot_be_read_are_not_taken_for_none() {
        let dir = tree();
        std::fs::create_dir_all(dir.path().join("sys/kernel/mm/ksm")).unwrap();
        std::fs::write(dir.path().join("sys/kernel/mm/ksm/run"), "garbage\n").unwrap();
        let sample = HostReader::new(&Root::new(dir.path())).sample().unwrap();
        assert_eq!((sample.ksm, sample.ksm_unread), (None, true));
    }

    #[test]
    fn this_very_machine_can_be_read_twice() {
        let mut reader = HostReader::new(&Root::default());
        let first = reader.sample().unwrap();
        let second = reader.sample().unwrap();
        assert_eq!(first.memory.total, second.memory.total);
        assert!(second.counters.major_faults >= first.counters.major_faults);
    }
}
