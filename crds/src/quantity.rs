//! Amounts and durations as people write them, each with a schema of its own whose refusal says what to write.

use std::borrow::Cow;
use std::time::Duration;

use overcommit_core::units::{Amount, Bytes, Permille};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// Bytes as Kubernetes writes them: `512Mi`, `2Gi`, `1500M`, `"1073741824"`; text, for a number would not tell it from a
/// percentage that lacks its sign.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Size(pub String);

/// Bytes, or a percentage of what the field names: `512Mi`, `5%`, `2.5%`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SizeOrPercent(pub String);

/// A duration of one unit: `5s`, `1500ms`, `2m`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Period(pub String);

const SIZE: &str = "[0-9]{1,12}(\\\\.[0-9]{1,3})?(k|M|G|T|Ki|Mi|Gi|Ti)?";
const PERCENT: &str = "(100(\\\\.0)?|[0-9]{1,2}(\\\\.[0-9])?)%";
const SIZE_HELP: &str = "write bytes such as 512Mi or 2Gi, or a number in quotes such as \"1073741824\"";
const SIZE_OR_PERCENT_HELP: &str = "write bytes such as 512Mi, or a percentage from 0% to 100% such as 5%; a number alone in quotes, \"1073741824\"";
/// As many digits as the schema takes.
const PERIOD_DIGITS: usize = 6;
const PERIOD_HELP: &str = "write a duration from 1s to 5m in one unit, such as 5s or 90s";

fn text(description: &str, max_length: u32, rule: &str, help: &str) -> Schema {
    json_schema!({
        "type": "string",
        "description": description,
        "maxLength": max_length,
        "x-kubernetes-validations": [{ "rule": rule, "message": help }],
    })
}

impl JsonSchema for Size {
    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        text(
            "Bytes, such as 512Mi or 2Gi; a number without a unit in quotes, \"1073741824\".",
            24,
            &format!("self.matches('^{SIZE}$')"),
            SIZE_HELP,
        )
    }
}

impl JsonSchema for SizeOrPercent {
    fn schema_name() -> Cow<'static, str> {
        "SizeOrPercent".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let rule = format!("self.matches('^({SIZE}|{PERCENT})$')");
        text(
            "Bytes such as 512Mi, or a percentage such as 5%; a number without a unit in quotes, \"1073741824\".",
            24,
            &rule,
            SIZE_OR_PERCENT_HELP,
        )
    }
}

impl JsonSchema for Period {
    fn schema_name() -> Cow<'static, str> {
        "Period".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let rule = "self.matches('^[0-9]{1,6}(ms|s|m)$') \
                    && duration(self) >= duration('1s') && duration(self) <= duration('5m')";
        text("A duration from 1s to 5m in one unit, such as 5s or 90s.", 16, rule, PERIOD_HELP)
    }
}

impl Default for Period {
    /// 5 s: oVirt's MOM decides every 10 s and is asked to be faster; statistics come each 1 to 10 s.
    fn default() -> Self {
        Self("5s".to_owned())
    }
}

impl Size {
    /// Bytes in whole Mi, as a status shows them; in whole Gi where that has more digits than are read.
    pub fn from_bytes(bytes: Bytes) -> Self {
        const DIGITS_END: u64 = 1_000_000_000_000;
        Self(match bytes.to_mib_floor() {
            0 => "0".to_owned(),
            mib if mib < DIGITS_END => format!("{mib}Mi"),
            mib => format!("{}Gi", mib >> 10),
        })
    }

    /// The number of bytes.
    ///
    /// # Errors
    /// What to write instead.
    pub fn parse(&self) -> Result<Bytes, String> {
        parse_bytes(&self.0).ok_or_else(|| format!("{:?} is no amount of memory: {SIZE_HELP}", self.0))
    }
}

impl SizeOrPercent {
    /// The amount.
    ///
    /// # Errors
    /// What to write instead.
    pub fn parse(&self) -> Result<Amount, String> {
        let bad = || format!("{:?} is no amount: {SIZE_OR_PERCENT_HELP}", self.0);
        match self.0.strip_suffix('%') {
            Some(number) => parse_permille(number).map(Amount::Part).ok_or_else(bad),
            None => parse_bytes(&self.0).map(Amount::Bytes).ok_or_else(bad),
        }
    }
}

impl Period {
    /// Shortest period: balloon statistics come at whole seconds, so a faster loop would see nothing new.
    pub const MIN: Duration = Duration::from_secs(1);
    /// Longest period: beyond it a loop reacts to the past.
    pub const MAX: Duration = Duration::from_mins(5);

    /// The duration.
    ///
    /// # Errors
    /// What to write instead.
    pub fn parse(&self) -> Result<Duration, String> {
        let digits = self.0.len() - self.0.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, unit) = self.0.split_at(digits);
        let number = Some(number).filter(|number| number.len() <= PERIOD_DIGITS);
        let scale_ms = match unit {
            "ms" => Some(1),
            "s" => Some(1_000),
            "m" => Some(60_000),
            _ => None,
        };
        number
            .and_then(|number| number.parse::<u64>().ok())
            .zip(scale_ms)
            .and_then(|(n, ms)| n.checked_mul(ms))
            .map(Duration::from_millis)
            .filter(|d| (Self::MIN..=Self::MAX).contains(d))
            .ok_or_else(|| format!("{:?} is no period: {PERIOD_HELP}", self.0))
    }
}

/// Kubernetes' decimal and binary suffixes (apimachinery/pkg/api/resource/suffix.go), without exponents.
fn parse_bytes(text: &str) -> Option<Bytes> {
    let split = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, suffix) = text.split_at(split);
    let scale: u64 = match suffix {
        "" => 1,
        "k" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "T" => 1_000_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "Ti" => 1 << 40,
        _ => return None,
    };
    let thousandths = parse_thousandths(number, 12)?;
    let bytes = u128::from(thousandths).checked_mul(u128::from(scale))? / 1000;
    u64::try_from(bytes).ok().map(Bytes::new)
}

/// Tenths of a percent, written as the schema takes them: two digits, or one hundred, with one decimal at most.
fn parse_permille(number: &str) -> Option<Permille> {
    if matches!(number, "100" | "100.0") {
        return Some(Permille::new(1000));
    }
    let one_decimal = number.split_once('.').is_none_or(|(_, decimals)| decimals.len() == 1);
    let thousandths = parse_thousandths(number, 2).filter(|_| one_decimal)?;
    u32::try_from(thousandths / 100).ok().map(Permille::new)
}

/// `12.5` → 12,500; up to three decimals.
fn parse_thousandths(number: &str, max_digits: usize) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |s: &str, max: usize| (1..=max).contains(&s.len()) && s.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole, max_digits) || !digits(fraction, 3) {
        return None;
    }
    let padded = format!("{fraction:0<3}");
    whole.parse::<u64>().ok()?.checked_mul(1000)?.checked_add(padded.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(text: &str) -> Option<u64> {
        Size(text.into()).parse().ok().map(Bytes::get)
    }

    #[test]
    fn sizes_are_read_as_kubernetes_writes_them() {
        assert_eq!(size("512Mi"), Some(512 << 20));
        assert_eq!(size("1.5Gi"), Some(3 << 29));
        assert_eq!(size("1500M"), Some(1_500_000_000));
        assert_eq!(size("0"), Some(0));
        for bad in ["", "Mi", "-1", "1e3", "1.Gi", ".5Gi", "5%", "12 Mi", "1Pi", "9999999999999"] {
            assert_eq!(size(bad), None, "{bad}");
        }
    }

    #[test]
    fn percentages_over_one_hundred_are_refused() {
        let parse = |t: &str| SizeOrPercent(t.into()).parse();
        assert_eq!(parse("2.5%"), Ok(Amount::Part(Permille::new(25))));
        assert_eq!(parse("100%"), Ok(Amount::Part(Permille::new(1000))));
        for bad in ["101%", "100.1%", "%", "-5%", "5 %", "2.55%", "005%", "5.00%"] {
            assert!(parse(bad).unwrap_err().contains("0% to 100%"), "{bad}");
        }
    }

    #[test]
    fn periods_outside_their_bounds_are_refused() {
        let parse = |t: &str| Period(t.into()).parse();
        assert_eq!(parse("5s"), Ok(Duration::from_secs(5)));
        assert_eq!(parse("1500ms"), Ok(Duration::from_millis(1500)));
        assert!(parse("1m30s").unwrap_err().contains("in one unit, such as 5s or 90s"));
        for bad in ["0s", "9h", "999ms", "6m", "5", "s", "-5s", "0000005s", "99999999999999999999s"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_status_shows_whole_mebibytes() {
        assert_eq!(Size::from_bytes(Bytes::from_gib(2)).0, "2048Mi");
        assert_eq!(Size::from_bytes(Bytes::new(5)).0, "0");
        // A sum that saturated must not be read as nothing.
        assert_eq!(Size::from_bytes(Bytes::MAX).parse(), Ok(Bytes::from_gib((1 << 34) - 1)));
    }
}
