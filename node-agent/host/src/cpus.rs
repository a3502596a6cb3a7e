//! `/sys/devices/system/cpu/online` (Documentation/admin-guide/cputopology.rst).

/// How many processors a list such as `0-3,8` names; absent if the text is none.
pub(crate) fn count(text: &str) -> Option<u32> {
    text.trim_end().split(',').try_fold(0_u32, |sum, part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let more = last.parse::<u32>().ok()?.checked_sub(first.parse().ok()?)?.checked_add(1)?;
        sum.checked_add(more)
    })
}

#[cfg(test)]
mod tests {
    use super::count;

    #[test]
    fn ranges_and_single_ones_are_counted() {
        assert_eq!(["0\n", "0-1\n", "0-3,8,10-11\n"].map(count), [Some(1), Some(2), Some(7)]);
    }

    #[test]
    fn anything_else_is_no_count() {
        for text in ["", "\n", "a", "3-1", "0-", "0,,1", "0-4294967295"] {
            assert_eq!(count(text), None, "{text:?}");
        }
    }
}
