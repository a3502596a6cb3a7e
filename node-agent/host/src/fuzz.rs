//! Doors to the parsers for `tests/fuzz`, which throws at them what no kernel and no kubelet writes. No part of the
//! interface.

use std::path::{Path, PathBuf};

use overcommit_core::sample::{HostCounters, HostMemory, Pressure};
use overcommit_core::units::Bytes;

use crate::cgroup::{self, Version};
use crate::eviction::EvictionLine;
use crate::mounts::{CgroupMounts, Mount};
use crate::qemu::CommandLine;
use crate::{glimpse, kubelet, meminfo, proc, psi, quantity, smaps, status, vmstat};

/// `/proc/meminfo`.
pub fn meminfo(text: &str) -> Option<HostMemory> {
    meminfo::parse(text).ok()
}

/// `/proc/vmstat`.
pub fn vmstat(text: &str) -> Option<HostCounters> {
    vmstat::parse(text).ok()
}

/// `/proc/pressure/memory`.
pub fn pressure(text: &str) -> Option<Pressure> {
    psi::parse(text)
}

/// `/proc/PID/status`: resident, anonymous, shared memory and page tables.
pub fn status(text: &str) -> Option<[Bytes; 4]> {
    status::parse(text).map(|s| [s.resident, s.anon, s.shmem, s.page_tables])
}

/// The user IDs in `/proc/PID/status` are all root's.
pub fn is_root(text: &str) -> bool {
    kubelet::is_root(text)
}

/// `/proc/PID/smaps`: what lies beside a guest's memory of that size, and beside memory of those `pluggable` sizes.
pub fn beside_guest(text: &[u8], full: Bytes, pluggable: &[Bytes]) -> Option<Bytes> {
    smaps::beside(smaps::parse(text).ok()?, full, pluggable).map(smaps::Beside::all)
}

/// `/proc/PID/stat`: the start time, as it is read of any process.
pub fn start_time(text: &str) -> Option<u64> {
    proc::start_time(text)
}

/// `/proc/PID/io`.
pub fn bytes_read(text: &str) -> u64 {
    glimpse::bytes_read(text)
}

/// `/proc/PID/mountinfo`: root and mount point of the memory controller's trees, of the old interface and of the new.
pub fn mounts(text: &str, base: &Path) -> [Option<(String, PathBuf)>; 2] {
    let CgroupMounts { v1, v2 } = CgroupMounts::parse(text, base);
    [v1, v2].map(|mount| mount.map(|Mount { root, point }| (root, point)))
}

/// `memory.stat` of the old and of the new interface: anonymous and shared memory.
pub fn memory_stat(text: &str) -> [Option<(Bytes, Option<Bytes>)>; 2] {
    [Version::V1, Version::V2].map(|v| cgroup::parse_stat(text, v).map(|holds| (holds.anon, holds.shmem)))
}

/// A limit of a cgroup.
pub fn limit(text: &str) -> Option<Bytes> {
    cgroup::one_limit(text)
}

/// What a QEMU's command line says of its guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hypervisor {
    /// UUID of the domain.
    pub uuid: Option<String>,
    /// Its name.
    pub name: Option<String>,
    /// Its size.
    pub full: Option<Bytes>,
    /// It has a balloon.
    pub has_balloon: bool,
}

/// `/proc/PID/cmdline` of a QEMU.
pub fn hypervisor(cmdline: &[u8]) -> Hypervisor {
    let CommandLine { uuid, name, full, has_balloon } = CommandLine::parse(&proc::split_arguments(cmdline));
    Hypervisor { uuid, name, full, has_balloon }
}

/// The value of a flag in `/proc/PID/cmdline`.
pub fn flag_value(cmdline: &[u8], flag: &str) -> Option<String> {
    proc::flag_value(&proc::split_arguments(cmdline), flag).map(str::to_owned)
}

/// A quantity as the kubelet reads it.
pub fn quantity(text: &str) -> Option<Bytes> {
    quantity::parse(text)
}

/// A percentage as the kubelet reads it.
pub fn percentage(text: &str, whole: Bytes) -> Option<Bytes> {
    quantity::parse_percent(text, whole)
}

/// The kubelet's line by its configuration files, the weakest first, and its flag.
pub fn eviction(files: &[&str], flag: Option<&str>, total: Bytes) -> EvictionLine {
    EvictionLine::of_texts(files, flag, total)
}
