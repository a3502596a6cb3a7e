//! The balloon's statistics as libvirt reports them.

use overcommit_core::sample::Balloon;
use overcommit_core::units::Bytes;
use virt::domain::MemoryStat;
use virt::sys;

/// Values that QEMU sets where a guest reported none: 2^64 − 1 (`virtio_balloon_stats` in hw/virtio/virtio-balloon.c),
/// also after libvirt divided it by 1024; nothing real comes near.
const ABSENT: u64 = u64::MAX >> 10;

/// The statistics; absent without the balloon's size. `period` is what the definition says.
pub(crate) fn from_stats(stats: &[MemoryStat], period: Option<u32>) -> Option<Balloon> {
    let number = |tag: sys::virDomainMemoryStatTags| {
        let stat = stats.iter().find(|stat| stat.tag == tag)?;
        (stat.val < ABSENT).then_some(stat.val)
    };
    let kib = |tag| number(tag).map(Bytes::from_kib);
    Some(Balloon {
        actual: kib(sys::VIR_DOMAIN_MEMORY_STAT_ACTUAL_BALLOON)?,
        last_update: number(sys::VIR_DOMAIN_MEMORY_STAT_LAST_UPDATE).filter(|at| *at > 0),
        period,
        available: kib(sys::VIR_DOMAIN_MEMORY_STAT_AVAILABLE),
        unused: kib(sys::VIR_DOMAIN_MEMORY_STAT_UNUSED),
        usable: kib(sys::VIR_DOMAIN_MEMORY_STAT_USABLE),
        swap_in: kib(sys::VIR_DOMAIN_MEMORY_STAT_SWAP_IN),
        swap_out: kib(sys::VIR_DOMAIN_MEMORY_STAT_SWAP_OUT),
        major_faults: number(sys::VIR_DOMAIN_MEMORY_STAT_MAJOR_FAULT),
        minor_faults: number(sys::VIR_DOMAIN_MEMORY_STAT_MINOR_FAULT),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats(pairs: &[(u32, u64)]) -> Vec<MemoryStat> {
        pairs.iter().map(|(tag, val)| MemoryStat { tag: *tag, val: *val }).collect()
    }

    #[test]
    fn sizes_are_kib_and_counters_are_numbers() {
        let balloon =
            from_stats(&stats(&[(6, 1024), (9, 1_700_000_000), (8, 512), (2, 7), (0, 3)]), Some(10)).unwrap();
        assert_eq!((balloon.actual, balloon.usable), (Bytes::from_mib(1), Some(Bytes::from_kib(512))));
        assert_eq!((balloon.last_update, balloon.major_faults), (Some(1_700_000_000), Some(7)));
        assert_eq!((balloon.swap_in, balloon.period), (Some(Bytes::from_kib(3)), Some(10)));
        assert_eq!((balloon.unused, balloon.minor_faults), (None, None));
    }

    #[test]
    fn impossible_values_are_absent() {
        let balloon =
            from_stats(&stats(&[(6, 1024), (8, u64::MAX), (5, u64::MAX / 1024), (9, 0)]), None).unwrap();
        assert_eq!((balloon.usable, balloon.available, balloon.last_update), (None, None, None));
        assert_eq!(from_stats(&stats(&[(6, u64::MAX)]), None), None);
        assert_eq!(from_stats(&[], None), None);
    }
}
