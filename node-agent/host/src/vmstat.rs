//! `/proc/vmstat`: counters since boot.

use overcommit_core::sample::HostCounters;

use crate::text::counter_line;

/// The counters, or the name of the one that every kernel has and this text has not.
///
/// Swap counters are absent on kernels without swap: then nothing was ever swapped.
pub(crate) fn parse(text: &str) -> Result<HostCounters, &'static str> {
    let mut counters = HostCounters::default();
    let mut major_faults = None;
    for (name, value) in text.lines().filter_map(counter_line) {
        match name {
            "pswpin" => counters.swap_in_pages = value,
            "pswpout" => counters.swap_out_pages = value,
            "pgmajfault" => major_faults = Some(value),
            "oom_kill" => counters.oom_kills = Some(value),
            _ => {}
        }
    }
    counters.major_faults = major_faults.ok_or("pgmajfault")?;
    Ok(counters)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counters_are_read() {
        let counters = parse("nr_free_pages 5\npswpin 1\npswpout 2\npgmajfault 3\noom_kill 4\n").unwrap();
        assert_eq!((counters.swap_in_pages, counters.swap_out_pages), (1, 2));
        assert_eq!((counters.major_faults, counters.oom_kills), (3, Some(4)));
    }

    #[test]
    fn an_old_kernel_has_no_count_of_kills() {
        assert_eq!(parse("pgmajfault 3\n").unwrap().oom_kills, None);
    }

    #[test]
    fn text_without_faults_is_no_vmstat() {
        assert_eq!(parse("pswpin 1\n"), Err("pgmajfault"));
    }
}
