//! Kubernetes quantities, as far as memory is written with them
//! (k8s.io/apimachinery/pkg/api/resource/quantity.go).

use overcommit_core::units::Bytes;

/// The amount, rounded up to bytes; absent for what is no positive quantity.
pub(crate) fn parse(text: &str) -> Option<Bytes> {
    let text = text.trim();
    let digits = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let (numerator, denominator) = fixed(number)?;
    let unit: u128 = match suffix {
        "" => 1,
        "k" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "T" => 1_000_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "Ti" => 1 << 40,
        "m" => return bytes(numerator.div_ceil(denominator.checked_mul(1000)?)),
        _ => power_of_ten(suffix)?,
    };
    bytes(numerator.checked_mul(unit)?.div_ceil(denominator))
}

fn bytes(n: u128) -> Option<Bytes> {
    u64::try_from(n).ok().map(Bytes::new)
}

/// `e6` or `E6`.
fn power_of_ten(suffix: &str) -> Option<u128> {
    let exponent = suffix.strip_prefix(['e', 'E'])?;
    10_u128.checked_pow(exponent.strip_prefix('+').unwrap_or(exponent).parse().ok()?)
}

/// As many as 2^64 has; with nine decimals more it still fits.
const DIGITS: usize = 20;

/// `12.5` as 125 and 10; at most nine decimals.
fn fixed(number: &str) -> Option<(u128, u128)> {
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && part.is_empty()) || part.len() > 9 || whole.len() > DIGITS || part.contains('.') {
        return None;
    }
    let denominator = 10_u128.checked_pow(u32::try_from(part.len()).ok()?)?;
    let number = |digits: &str| if digits.is_empty() { Some(0_u128) } else { digits.parse().ok() };
    Some((number(whole)?.checked_mul(denominator)?.checked_add(number(part)?)?, denominator))
}

/// `5%` or `2.5%` of `whole`, rounded up; absent for what is no percentage between 0 and 100.
pub(crate) fn parse_percent(text: &str, whole: Bytes) -> Option<Bytes> {
    let (numerator, denominator) = fixed(text.trim().strip_suffix('%')?)?;
    let denominator = denominator.checked_mul(100)?;
    if numerator > denominator {
        return None;
    }
    bytes(u128::from(whole.get()).checked_mul(numerator)?.div_ceil(denominator))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read() {
        for (text, want) in [
            ("100Mi", 100 << 20),
            ("1Gi", 1 << 30),
            ("1.5Gi", 3 << 29),
            ("100M", 100_000_000),
            ("128974848", 128_974_848),
            ("18446744073709551615", u64::MAX),
            ("129e6", 129_000_000),
            ("1500m", 2),
            (".5Ki", 512),
        ] {
            assert_eq!(parse(text), Some(Bytes::new(want)), "{text}");
        }
        assert_eq!(parse_percent("5%", Bytes::new(1000)), Some(Bytes::new(50)));
        assert_eq!(parse_percent("2.5%", Bytes::new(1000)), Some(Bytes::new(25)));
    }

    #[test]
    fn anything_else_is_none() {
        for text in [
            "",
            "Mi",
            "-1Gi",
            "1GB",
            "1.2.3",
            "1 Gi",
            "99999999999999999999Ti",
            "18446744073709551616",
            "5%",
            "1e99",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
        for text in ["5", "%", "101%", "-5%"] {
            assert_eq!(parse_percent(text, Bytes::new(1000)), None, "{text}");
        }
    }
}
