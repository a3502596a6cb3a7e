//! What is read of the host.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ksm::Knobs;
use crate::units::Bytes;

/// The host at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HostSample {
    /// `/proc/meminfo`.
    pub memory: HostMemory,
    /// `/proc/vmstat`, counters since boot.
    pub counters: HostCounters,
    /// `/proc/pressure/memory`; absent where the kernel has no PSI.
    pub pressure: Option<Pressure>,
    /// `/sys/kernel/mm/ksm`; absent where the kernel has no KSM.
    pub ksm: Option<Ksm>,
    /// It is absent because it could not be read: the kernel has it, and nobody knows what it does.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ksm_unread: bool,
    /// Processors that are online; for programs alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpus: Option<u32>,
    /// Size of the kernel's pages, in which it counts for programs; absent in recordings of builds that did not read it: 4 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub page: Option<Bytes>,
}

/// The lines of `/proc/meminfo` that the ledger and programs use (Documentation/filesystems/proc.rst).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostMemory {
    /// `MemTotal`.
    pub total: Bytes,
    /// `MemFree`.
    pub free: Bytes,
    /// `MemAvailable`.
    pub available: Bytes,
    /// `AnonPages`: mapped anonymous pages, transparent huge pages counted by what is still mapped of them.
    pub anon: Bytes,
    /// `Shmem`: tmpfs and shared memory, not reclaimable without swap.
    pub shmem: Bytes,
    /// `SUnreclaim`.
    pub slab_unreclaimable: Bytes,
    /// `KernelStack`.
    pub kernel_stack: Bytes,
    /// `PageTables` and `SecPageTables`.
    pub page_tables: Bytes,
    /// `Percpu`.
    pub percpu: Bytes,
    /// `Hugetlb`: all huge page pools together, free pages included.
    pub hugetlb: Bytes,
    /// `SwapTotal`.
    pub swap_total: Bytes,
    /// `SwapFree`.
    pub swap_free: Bytes,
    /// `Buffers`; for programs alone, and 0 in recordings of builds that did not read it.
    #[serde(default, skip_serializing_if = "Bytes::is_zero")]
    pub buffers: Bytes,
    /// `Cached`; the same.
    #[serde(default, skip_serializing_if = "Bytes::is_zero")]
    pub cached: Bytes,
}

/// Counters of `/proc/vmstat` since boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostCounters {
    /// `pswpin`, pages.
    pub swap_in_pages: u64,
    /// `pswpout`, pages.
    pub swap_out_pages: u64,
    /// `pgmajfault`.
    pub major_faults: u64,
    /// `oom_kill`; absent before Linux 4.13.
    pub oom_kills: Option<u64>,
}

/// Pressure stall information: share of the last 10 s lost to memory stalls, in hundredths of a percent
/// (Documentation/accounting/psi.rst).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pressure {
    /// `some avg10`: at least one task stalled; 100 is 1 %.
    pub some_avg10: u32,
    /// `full avg10`: all tasks stalled; 100 is 1 %.
    pub full_avg10: u32,
}

/// Kernel samepage merging (Documentation/admin-guide/mm/ksm.rst).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ksm {
    /// `run`: 0 stopped, 1 running, 2 unmerging.
    pub run: u8,
    /// Bytes that merging saves now (`pages_sharing`).
    pub sharing: Bytes,
    /// What is left of what was merged (`pages_shared`), each page once.
    #[serde(default)]
    pub shared: Bytes,
    /// `full_scans` since boot.
    pub full_scans: u64,
    /// `general_profit`: bytes that merging saves less those that the kernel needs for it.
    #[serde(default)]
    pub profit: Option<i64>,
    /// CPU time of ksmd since boot; absent where the host's processes cannot be seen.
    #[serde(default)]
    pub cpu: Option<Duration>,
    /// What it is set to; absent where that cannot be read.
    #[serde(default)]
    pub knobs: Option<Knobs>,
    /// `merge_across_nodes`; absent where the kernel knows no NUMA. For programs alone: nobody here writes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merge_across_nodes: Option<u8>,
    /// `pages_unshared`, pages; for programs alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pages_unshared: Option<u64>,
    /// `pages_volatile`, pages; the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pages_volatile: Option<u64>,
}
