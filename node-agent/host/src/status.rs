//! `/proc/PID/status` (Documentation/filesystems/proc.rst).

use overcommit_core::units::Bytes;

use crate::held::ReadError;
use crate::proc::Proc;
use crate::text::kib_line;

/// What a process holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Status {
    /// `VmRSS`.
    pub(crate) resident: Bytes,
    /// `RssAnon`.
    pub(crate) anon: Bytes,
    /// `RssShmem`: memory of memfds, shared memory and tmpfs that is mapped.
    pub(crate) shmem: Bytes,
    /// `VmPTE`: its page tables.
    pub(crate) page_tables: Bytes,
    /// `VmSwap`: private memory that was swapped out.
    pub(crate) swapped: Bytes,
}

impl Status {
    /// What `process` holds now.
    pub(crate) fn read(process: &Proc) -> Result<Self, ReadError> {
        let text = process.text("status")?;
        parse(&text).ok_or_else(|| ReadError::missing(&process.dir().1.join("status"), "VmRSS"))
    }
}

/// Absent for a zombie or a kernel thread, which hold nothing.
pub(crate) fn parse(text: &str) -> Option<Status> {
    let mut status = Status::default();
    let mut resident = None;
    for (name, value) in text.lines().filter_map(kib_line) {
        match name {
            "VmRSS" => resident = Some(value),
            "RssAnon" => status.anon = value,
            "RssShmem" => status.shmem = value,
            "VmPTE" => status.page_tables = value,
            "VmSwap" => status.swapped = value,
            _ => {}
        }
    }
    Some(Status { resident: resident?, ..status })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sizes_of_a_process_are_read() {
        let text = "Name:\tqemu\nVmRSS:\t     300 kB\nRssAnon:\t     200 kB\nRssFile:\t 60 kB\nRssShmem:\t 40 kB\nVmPTE:\t      10 kB\nVmSwap:\t 5 kB\nThreads:\t4\n";
        let want = Status {
            resident: Bytes::from_kib(300),
            anon: Bytes::from_kib(200),
            shmem: Bytes::from_kib(40),
            page_tables: Bytes::from_kib(10),
            swapped: Bytes::from_kib(5),
        };
        assert_eq!(parse(text), Some(want));
    }

    #[test]
    fn a_zombie_holds_nothing() {
        assert_eq!(parse("Name:\tqemu\nState:\tZ (zombie)\n"), None);
    }

    #[test]
    fn a_name_cannot_pass_for_a_size() {
        assert_eq!(parse("Name:\tVmRSS: 1 kB\n"), None, "the kernel escapes line feeds in names");
    }
}
