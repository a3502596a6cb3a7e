//! What the kernel says of the host and of cgroups.

use std::path::Path;

use overcommit_core::units::Bytes;
use overcommit_host::fuzz;

use crate::lossy;

/// The text without the lines that begin with `name`.
fn without(text: &str, name: &str) -> String {
    text.lines().filter(|line| !line.starts_with(name)).flat_map(|line| [line, "\n"]).collect()
}

/// True if a line that begins with `name` has this number in it somewhere.
fn says(text: &str, name: &str, number: u64) -> bool {
    let digits = |word: &str| word.trim_start_matches('+').parse::<u64>().ok() == Some(number);
    text.lines().any(|line| {
        line.strip_prefix(name)
            .is_some_and(|rest| rest.split(|c: char| c.is_whitespace() || c == ':').any(digits))
    })
}

/// True if `bytes` are zero, or so many KiB as such a line says.
fn says_kib(text: &str, name: &str, bytes: Bytes) -> bool {
    let saturated = bytes == Bytes::MAX;
    bytes.is_zero() || saturated || says(text, name, bytes.to_kib_floor())
}

/// No number that no line says, and none without the lines that no budget can do without.
pub(crate) fn meminfo(bytes: &[u8]) {
    let text = lossy(bytes);
    for name in ["MemTotal", "MemFree", "MemAvailable"] {
        assert_eq!(fuzz::meminfo(&without(&text, name)), None, "{name} is invented");
    }
    let Some(memory) = fuzz::meminfo(&text) else { return };
    assert!(memory.total > Bytes::ZERO);
    for (name, value) in [
        ("MemTotal", memory.total),
        ("MemFree", memory.free),
        ("MemAvailable", memory.available),
        ("AnonPages", memory.anon),
        ("Shmem", memory.shmem),
        ("SUnreclaim", memory.slab_unreclaimable),
        ("KernelStack", memory.kernel_stack),
        ("Percpu", memory.percpu),
        ("Hugetlb", memory.hugetlb),
        ("SwapTotal", memory.swap_total),
        ("SwapFree", memory.swap_free),
    ] {
        assert!(says_kib(&text, name, value), "{name} {value:?}");
    }
    let bare = without(&without(&text, "PageTables"), "SecPageTables");
    assert_eq!(fuzz::meminfo(&bare).map(|m| m.page_tables), Some(Bytes::ZERO));
}

/// The same for counters.
pub(crate) fn vmstat(bytes: &[u8]) {
    let text = lossy(bytes);
    assert_eq!(fuzz::vmstat(&without(&text, "pgmajfault")), None);
    let Some(counters) = fuzz::vmstat(&text) else { return };
    assert!(says(&text, "pgmajfault", counters.major_faults));
    assert!(counters.oom_kills.is_none_or(|kills| says(&text, "oom_kill", kills)));
    for (name, value) in [("pswpin", counters.swap_in_pages), ("pswpout", counters.swap_out_pages)] {
        assert!(value == 0 || says(&text, name, value), "{name} {value}");
    }
}

/// Both lines or nothing.
pub(crate) fn pressure(bytes: &[u8]) {
    let text = lossy(bytes);
    for kind in ["some ", "full "] {
        assert_eq!(fuzz::pressure(&without(&text, kind)), None, "{kind}");
    }
    let Some(pressure) = fuzz::pressure(&text) else { return };
    for hundredths in [pressure.some_avg10, pressure.full_avg10] {
        // As the kernel writes it, or with a sign or zeros that it never writes.
        let fraction = format!(".{:02}", hundredths % 100);
        let signed = format!(".+{}", hundredths % 100);
        assert!(text.contains(&fraction) || text.contains(&signed), "{hundredths}");
    }
}

/// A limit is a number that stands there, and `max` and whatever else is none.
pub(crate) fn limits(bytes: &[u8]) {
    let text = lossy(bytes);
    if let Some(limit) = fuzz::limit(&text) {
        assert_eq!(text.trim().trim_start_matches('+').parse::<u64>().ok(), Some(limit.get()));
        assert!(limit < Bytes::new(1 << 62), "no limit at all");
    }
}

/// Absent without its line, in the names of either interface.
pub(crate) fn memory_stat(bytes: &[u8]) {
    let text = lossy(bytes);
    let names = [("total_rss", "total_shmem"), ("anon", "shmem")];
    for (holds, (anon, shmem)) in fuzz::memory_stat(&text).into_iter().zip(names) {
        let Some((held, shared)) = holds else { continue };
        assert!(says(&text, anon, held.get()), "{anon} {held:?}");
        assert!(shared.is_none_or(|shared| says(&text, shmem, shared.get())), "{shmem} {shared:?}");
    }
    assert_eq!(fuzz::memory_stat(&without(&without(&text, "anon "), "total_rss ")), [None, None]);
}

/// Mount points lie below the base that they are told to lie below, unless the text climbs out by itself.
pub(crate) fn mountinfo(bytes: &[u8]) {
    let (text, base) = (lossy(bytes), Path::new("/base"));
    let mounts = fuzz::mounts(&text, base);
    for (root, point) in mounts.into_iter().flatten() {
        assert!(point.starts_with(base), "{}", point.display());
        assert!(text.contains(&root), "{root}");
    }
    let others: String = text.lines().filter(|l| !l.contains("cgroup")).flat_map(|l| [l, "\n"]).collect();
    assert_eq!(fuzz::mounts(&others, base), [None, None]);
}
