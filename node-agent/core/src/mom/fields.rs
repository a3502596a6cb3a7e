//! What a program is told of the host and of guests: MOM's fields, from our own collectors. Memory is in KiB. docs/mom.md has the
//! table; what is not collected here is declared, so that it is nil.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::Offset;
use serde::{Deserialize, Serialize};

use crate::floor;
use crate::guard::Scene;
use crate::ksm::{Advisor, Knobs};
use crate::model::Track;
use crate::policy::Class;
use crate::sample::{Balloon, Faults, Ksm, Sample};
use crate::units::{Bytes, Monotonic};

/// The kernel's pages, where nobody said how large they are.
const PAGE: Bytes = Bytes::from_kib(4);

/// A sample: values in the order of [`HOST`] or [`GUEST`]; nil where it was not to be had.
pub(super) type Row = Vec<Option<i64>>;

/// Fields of the host that are collected.
pub(super) const HOST: [&str; 27] = [
    "mem_available",
    "mem_unused",
    "mem_free",
    "anon_pages",
    "swap_total",
    "swap_usage",
    "swap_in",
    "swap_out",
    "ksm_run",
    "ksm_pages_to_scan",
    "ksm_sleep_millisecs",
    "ksm_merge_across_nodes",
    "ksm_pages_shared",
    "ksm_pages_sharing",
    "ksm_pages_unshared",
    "ksm_pages_volatile",
    "ksm_full_scans",
    "ksm_shareable",
    "ksmd_cpu_usage",
    "cpu_count",
    "time_year",
    "time_month",
    "time_day",
    "time_hour",
    "time_minute",
    "time_second",
    "time_microsecond",
];

/// Fields of a guest that are collected.
pub(super) const GUEST: [&str; 16] = [
    "mem_available",
    "mem_unused",
    "swap_in",
    "swap_out",
    "major_fault",
    "minor_fault",
    "balloon_cur",
    "balloon_max",
    "balloon_min",
    "rss",
    "vcpu_user_limit",
    "vcpu_quota",
    "vcpu_period",
    "host_minor_faults",
    "host_major_faults",
    "vcpu_count",
];

/// What MOM says of processors that nobody limits (`getVmCpuTuneInfo` of its libvirt interface): all percents of the host's.
/// `KubeVirt` limits them by its pods' cgroups alone, and a program that finds nil here fails for the guest.
const USER_LIMIT: i64 = 100;
/// No quota, and the usual period in microseconds (`Documentation/scheduler/sched-bwc.rst`).
const QUOTA: i64 = -1;
const PERIOD: i64 = 100_000;

/// Fields of a guest that nobody collects here; `KubeVirt` tunes nothing of its processors and disks.
pub(super) const GUEST_NIL: [&str; 5] =
    ["mem_free", "swap_total", "swap_usage", "io_tune", "io_tune_current"];

/// What a kernel says that merges nothing and was never told to (mm/ksm.c). It stands for one without KSM, and for knobs that
/// cannot be read: a program that compares or adds nil fails as a whole, and no balloon would ever move on such a node.
const IDLE: Ksm = Ksm {
    run: 0,
    sharing: Bytes::ZERO,
    shared: Bytes::ZERO,
    full_scans: 0,
    profit: None,
    cpu: Some(Duration::ZERO),
    knobs: Some(IDLE_KNOBS),
    merge_across_nodes: Some(1),
    pages_unshared: Some(0),
    pages_volatile: Some(0),
};
const IDLE_KNOBS: Knobs = Knobs { run: 0, pages_to_scan: 100, sleep_millisecs: 20, advisor: Advisor::None };

/// Counters of the host, of which a program sees what was added since its last cycle.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Counters {
    at: Monotonic,
    swap_in: u64,
    swap_out: u64,
    /// CPU time of ksmd, milliseconds.
    ksmd: Option<u64>,
}

impl Counters {
    pub(super) fn of(sample: &Sample) -> Self {
        let cpu = merging(sample).cpu;
        Self {
            at: sample.host_at(),
            swap_in: sample.host.counters.swap_in_pages,
            swap_out: sample.host.counters.swap_out_pages,
            ksmd: cpu.map(|cpu| u64::try_from(cpu.as_millis()).unwrap_or(u64::MAX)),
        }
    }

    /// ksmd's share of one CPU since `before`, percent.
    fn ksmd_since(&self, before: &Self) -> Option<i64> {
        let used = self.ksmd?.saturating_sub(before.ksmd?);
        let elapsed = u64::try_from(self.at.since(before.at).as_millis()).unwrap_or(u64::MAX);
        used.saturating_mul(100).checked_div(elapsed).map(whole)
    }
}

/// What merging does, or what an idle kernel says. A kernel that knows no NUMA merges among all pages, as does one that was not
/// told otherwise.
fn merging(sample: &Sample) -> Ksm {
    let ksm = sample.host.ksm.unwrap_or(IDLE);
    Ksm {
        knobs: ksm.knobs.or(IDLE.knobs),
        merge_across_nodes: ksm.merge_across_nodes.or(IDLE.merge_across_nodes),
        ..ksm
    }
}

fn whole(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn kib(bytes: Bytes) -> i64 {
    whole(bytes.to_kib_floor())
}

/// As the kernel counts them.
fn pages(bytes: Bytes, page: Bytes) -> i64 {
    whole(bytes.get().checked_div(page.get()).unwrap_or_default())
}

/// The kernel's.
pub(super) fn page(sample: &Sample) -> Bytes {
    sample.host.page.unwrap_or(PAGE)
}

/// A sample of the host.
pub(super) fn host_row(scene: &Scene<'_>, sample: &Sample, before: Option<&Counters>, now: &Counters) -> Row {
    let (memory, ksm, page) = (&sample.host.memory, merging(sample), page(sample));
    let tracks = scene.model.tracks();
    let shareable: Bytes = tracks.map(|t| t.sample.config.full.plus(t.plugged())).sum();
    let since = |of: fn(&Counters) -> u64| before.map(|before| whole(of(now).saturating_sub(of(before))));
    let mut row = vec![
        Some(kib(memory.total)),
        Some(kib(memory.free)),
        Some(kib(memory.free.plus(memory.buffers).plus(memory.cached))),
        Some(kib(memory.anon)),
        Some(kib(memory.swap_total)),
        Some(kib(memory.swap_total.minus(memory.swap_free))),
        since(|counters| counters.swap_in),
        since(|counters| counters.swap_out),
        Some(i64::from(ksm.run)),
        ksm.knobs.map(|knobs| whole(knobs.pages_to_scan)),
        ksm.knobs.map(|knobs| whole(knobs.sleep_millisecs)),
        ksm.merge_across_nodes.map(i64::from),
        Some(pages(ksm.shared, page)),
        Some(pages(ksm.sharing, page)),
        ksm.pages_unshared.map(whole),
        ksm.pages_volatile.map(whole),
        Some(whole(ksm.full_scans)),
        Some(kib(shareable)),
        before.and_then(|before| now.ksmd_since(before)),
        sample.host.cpus.map(i64::from),
    ];
    row.extend(clock(sample.wall.as_secs()).map(|part| Some(whole(part))));
    row.push(Some(i64::from(sample.wall.subsec_micros())));
    row
}

/// Year, month, day, hour, minute and second of a wall clock in UTC; the end of time where it is beyond that.
fn clock(seconds: u64) -> [u64; 6] {
    let at = i64::try_from(seconds).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    let at = Offset::UTC.to_datetime(at.unwrap_or(Timestamp::MAX));
    let year = u64::try_from(at.year()).unwrap_or_default();
    let rest = [at.month(), at.day(), at.hour(), at.minute(), at.second()];
    let [month, day, hour, minute, second] = rest.map(|part| u64::try_from(part).unwrap_or_default());
    [year, month, day, hour, minute, second]
}

/// A sample of a guest, on a host with pages of that size; its process's faults are those since `before`, none in the first.
pub(super) fn guest_row(track: &Track, class: &Class, page: Bytes, before: Option<Faults>) -> Row {
    let faults = track.sample.facts.faults;
    let since = |of: fn(&Faults) -> u64| {
        let now = faults.as_ref().map(of)?;
        Some(whole(now.saturating_sub(before.as_ref().map_or(now, of))))
    };
    let Balloon { available, unused, swap_in, swap_out, major_faults, minor_faults, .. } =
        track.sample.balloon.unwrap_or_default();
    vec![
        available.map(kib),
        unused.map(kib),
        swap_in.map(kib),
        swap_out.map(kib),
        major_faults.map(whole),
        minor_faults.map(whole),
        Some(kib(track.actual)),
        Some(kib(track.ceiling)),
        // A guest on a host without Kubernetes that was found smaller than its floor may have no more than it was found with.
        Some(kib(floor::of(track, class).0.min(track.ceiling))),
        track.sample.facts.resident.map(|resident| pages(resident, page)),
        Some(USER_LIMIT),
        Some(QUOTA),
        Some(PERIOD),
        since(|faults| faults.minor),
        since(|faults| faults.major),
        track.sample.config.vcpus.map(i64::from),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_says_the_date_in_utc() {
        for (seconds, date) in [
            (0, [1970, 1, 1, 0, 0, 0]),
            (951_782_399, [2000, 2, 28, 23, 59, 59]),
            (951_782_400, [2000, 2, 29, 0, 0, 0]),
            (1_709_251_199, [2024, 2, 29, 23, 59, 59]),
            (1_735_689_599, [2024, 12, 31, 23, 59, 59]),
            (4_107_542_400, [2100, 3, 1, 0, 0, 0]),
        ] {
            assert_eq!(clock(seconds), date, "{seconds}");
        }
        clock(u64::MAX);
    }

    #[test]
    fn a_sample_without_anything_has_a_value_for_each_field() {
        assert_eq!(clock(0).len() + 20 + 1, HOST.len());
    }
}
