//! `/proc/meminfo` (Documentation/filesystems/proc.rst).

use overcommit_core::sample::HostMemory;
use overcommit_core::units::Bytes;

use crate::text::kib_line;

/// The host's memory, or the name of the line without which no budget can be known.
pub(crate) fn parse(text: &str) -> Result<HostMemory, &'static str> {
    let mut memory = HostMemory::default();
    let (mut total, mut free, mut available) = (None, None, None);
    for (name, value) in text.lines().filter_map(kib_line) {
        match name {
            "MemTotal" => total = Some(value),
            "MemFree" => free = Some(value),
            "MemAvailable" => available = Some(value),
            "AnonPages" => memory.anon = value,
            "Shmem" => memory.shmem = value,
            "SUnreclaim" => memory.slab_unreclaimable = value,
            "KernelStack" => memory.kernel_stack = value,
            "PageTables" | "SecPageTables" => memory.page_tables = memory.page_tables.plus(value),
            "Percpu" => memory.percpu = value,
            "Hugetlb" => memory.hugetlb = value,
            "SwapTotal" => memory.swap_total = value,
            "SwapFree" => memory.swap_free = value,
            "Buffers" => memory.buffers = value,
            "Cached" => memory.cached = value,
            _ => {}
        }
    }
    memory.total = total.filter(|t| *t > Bytes::ZERO).ok_or("MemTotal")?;
    memory.free = free.ok_or("MemFree")?;
    memory.available = available.ok_or("MemAvailable")?;
    Ok(memory)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "MemTotal: 1000 kB\nMemFree: 500 kB\nMemAvailable: 800 kB\nAnonPages: 70 kB\nShmem: 8 kB\n\
        KernelStack: 3 kB\nPageTables: 5 kB\nSecPageTables: 2 kB\nSUnreclaim: 11 kB\nPercpu: 4 kB\n\
        HugePages_Total: 2\nHugetlb: 64 kB\nSwapTotal: 10 kB\nSwapFree: 9 kB\nBuffers: 6 kB\nCached: 60 kB\nSwapCached: 1 kB\n";

    #[test]
    fn the_lines_of_the_ledger_are_read() {
        let memory = parse(TEXT).unwrap();
        assert_eq!(memory.total, Bytes::from_kib(1000));
        assert_eq!(memory.available, Bytes::from_kib(800));
        assert_eq!(memory.page_tables, Bytes::from_kib(7), "both kinds of page tables");
        assert_eq!(memory.hugetlb, Bytes::from_kib(64));
        assert_eq!(memory.swap_free, Bytes::from_kib(9));
        assert_eq!((memory.buffers, memory.cached), (Bytes::from_kib(6), Bytes::from_kib(60)));
    }

    #[test]
    fn a_line_without_which_there_is_no_budget_is_named() {
        for name in ["MemTotal", "MemFree", "MemAvailable"] {
            assert_eq!(parse(&TEXT.replace(name, "Other")), Err(name));
        }
        assert_eq!(parse(""), Err("MemTotal"));
        assert_eq!(parse(&TEXT.replace("MemTotal: 1000", "MemTotal: 0")), Err("MemTotal"));
    }
}
