//! `/proc/pressure/memory` (Documentation/accounting/psi.rst).

use overcommit_core::sample::Pressure;

/// The pressure; absent if the text is not what a kernel with PSI writes.
pub(crate) fn parse(text: &str) -> Option<Pressure> {
    let average = |kind: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(kind))?;
        hundredths(line.split_ascii_whitespace().find_map(|word| word.strip_prefix("avg10="))?)
    };
    Some(Pressure { some_avg10: average("some ")?, full_avg10: average("full ")? })
}

/// `12.34` as 1234.
fn hundredths(text: &str) -> Option<u32> {
    let (whole, part) = text.split_once('.')?;
    if part.len() != 2 {
        return None;
    }
    whole.parse::<u32>().ok()?.checked_mul(100)?.checked_add(part.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn averages_are_hundredths_of_a_percent() {
        let text = "some avg10=4.50 avg60=0.91 avg300=0.00 total=681245\n\
                    full avg10=100.00 avg60=0.12 avg300=0.00 total=391926\n";
        assert_eq!(parse(text), Some(Pressure { some_avg10: 450, full_avg10: 10_000 }));
    }

    #[test]
    fn anything_else_is_no_pressure() {
        for text in
            ["", "some\nfull\n", "some avg10=1.0\nfull avg10=1.0\n", "some avg10=1.00\n", "full avg10=x.00\n"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
