//! Amounts and durations as people write them in a scenario: a policy's notation, and hours and days beside its units.

use std::time::Duration;

use overcommit_core::units::{Bytes, Permille};
use overcommit_crds::quantity::{Size as Written, SizeOrPercent};
use serde::Deserialize;

/// Bytes, as in a policy: `512Mi`, `2Gi`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Size(pub Bytes);

/// A part of something, as in a policy: `30%`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Part(pub Permille);

/// A time or a duration of one unit: `1500ms`, `5s`, `2m`, `12h`, `7d`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Span(pub Duration);

/// As many digits as a policy's period takes.
const DIGITS: usize = 6;

impl TryFrom<String> for Size {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Written(text).parse().map(Self)
    }
}

impl TryFrom<String> for Part {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let bad = format!("{text:?} is no part: write a percentage from 0% to 100% such as 30%");
        match SizeOrPercent(text).parse() {
            Ok(overcommit_core::units::Amount::Part(part)) => Ok(Self(part)),
            _ => Err(bad),
        }
    }
}

impl TryFrom<String> for Span {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
        let millis = match unit {
            "ms" => Some(1),
            "s" => Some(1_000),
            "m" => Some(60_000),
            "h" => Some(3_600_000),
            "d" => Some(86_400_000),
            _ => None,
        };
        let number = number.parse::<u64>().ok().filter(|_| number.len() <= DIGITS);
        let span = number.zip(millis).and_then(|(n, unit)| n.checked_mul(unit)).map(Duration::from_millis);
        span.map(Self).ok_or_else(|| {
            format!("{text:?} is no duration: write one in one unit, such as 500ms, 90s, 10m, 12h or 7d")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(text: &str) -> Option<u64> {
        Span::try_from(text.to_owned()).ok().map(|span| span.0.as_secs())
    }

    #[test]
    fn durations_have_one_unit_up_to_days() {
        assert_eq!(span("1500ms"), Some(1));
        assert_eq!(span("90s"), Some(90));
        assert_eq!(span("7d"), Some(604_800));
        for bad in ["", "5", "s", "1h30m", "-1s", "1.5h", "1234567s", "1 h", "1w"] {
            assert_eq!(span(bad), None, "{bad}");
        }
    }
}
