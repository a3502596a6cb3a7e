//! The few forms of text that the kernel writes.

use overcommit_core::units::Bytes;

/// `NAME: VALUE kB` of `/proc/meminfo`, `/proc/PID/status` and `smaps`: the name and the value.
pub(crate) fn kib_line(line: &str) -> Option<(&str, Bytes)> {
    let (name, rest) = line.split_once(':')?;
    let mut words = rest.split_ascii_whitespace();
    let value: u64 = words.next()?.parse().ok()?;
    match words.next() {
        Some("kB") => Some((name, Bytes::from_kib(value))),
        _ => None,
    }
}

/// `NAME VALUE` of `/proc/vmstat` and `memory.stat`.
pub(crate) fn counter_line(line: &str) -> Option<(&str, u64)> {
    let (name, value) = line.split_once(' ')?;
    Some((name, value.trim_end().parse().ok()?))
}

/// The value of `NAME VALUE` in a whole text.
pub(crate) fn counter(text: &str, name: &str) -> Option<u64> {
    text.lines().filter_map(counter_line).find(|(n, _)| *n == name).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_kernel_are_understood() {
        assert_eq!(kib_line("MemTotal:       24684476 kB"), Some(("MemTotal", Bytes::from_kib(24_684_476))));
        assert_eq!(counter_line("pswpin 12\n"), Some(("pswpin", 12)));
        assert_eq!(counter("a 1\nb 2\n", "b"), Some(2));
    }

    #[test]
    fn other_lines_are_nothing() {
        for line in ["", ":", "A", "HugePages_Total: 0", "A: x kB", "A: -1 kB", "A: 99999999999999999999 kB"]
        {
            assert_eq!(kib_line(line), None, "{line}");
        }
        for line in ["", " ", "a", "a ", "a -1", "a b"] {
            assert_eq!(counter_line(line), None, "{line}");
        }
    }
}
