//! Arithmetic as Python 3 has it, for that is what people's policies were written against: integers without bound (but
//! [`MAX_BITS`]), floats, exact comparison of the two, true division rounded once.
//!
//! Sources: the Python language reference, "Binary arithmetic operations", "Comparisons", "Numeric types".

use std::cmp::Ordering;

use num_bigint::{BigInt, Sign};
use num_traits::{Signed as _, ToPrimitive as _, Zero as _};

use crate::value::Value;

/// Most bits of an integer.
pub const MAX_BITS: u64 = 1 << 16;
/// Up to here each integer is a float.
const EXACT: u64 = 1 << 53;
const TOO_LONG: &str = "the result has more than 65536 bits";
const TO_FLOAT: &str = "the integer is too large to become a float";

/// A number taken out of its value.
#[derive(Clone, Debug)]
pub(crate) enum Number<'a> {
    Int(i64),
    Big(&'a BigInt),
    Float(f64),
}

impl<'a> Number<'a> {
    /// Truth values are 0 and 1.
    #[inline]
    pub(crate) fn of(value: &'a Value) -> Option<Self> {
        match value {
            Value::Int(value) => Some(Self::Int(*value)),
            Value::Float(value) => Some(Self::Float(*value)),
            Value::Bool(value) => Some(Self::Int(i64::from(*value))),
            Value::Big(value) => Some(Self::Big(value)),
            _ => None,
        }
    }

    fn to_float(&self) -> Result<f64, &'static str> {
        match self {
            Self::Int(value) => Ok(nearest(*value)),
            Self::Big(value) => value.to_f64().filter(|float| float.is_finite()).ok_or(TO_FLOAT),
            Self::Float(value) => Ok(*value),
        }
    }

    /// None if it is a float.
    fn to_big(&self) -> Option<BigInt> {
        match self {
            Self::Int(value) => Some(BigInt::from(*value)),
            Self::Big(value) => Some((*value).clone()),
            Self::Float(_) => None,
        }
    }

    fn is_float(&self) -> bool {
        matches!(self, Self::Float(_))
    }

    fn bits(&self) -> u64 {
        match self {
            Self::Int(_) | Self::Float(_) => 64,
            Self::Big(value) => value.bits(),
        }
    }

    /// What working with the two costs, in steps: their lengths in words, multiplied.
    pub(crate) fn effort(&self, other: &Self) -> u64 {
        match (self, other) {
            (Self::Big(_), _) | (_, Self::Big(_)) => {
                (self.bits() / 64).saturating_add(1).saturating_mul((other.bits() / 64).saturating_add(1))
                    / 16
            }
            _ => 0,
        }
    }
}

/// The float nearest to it, the even one of two.
#[allow(clippy::cast_precision_loss)] // it is the rounding that is wanted
fn nearest(value: i64) -> f64 {
    value as f64
}

/// A sum, difference or product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Add,
    Sub,
    Mul,
}

pub(crate) type Outcome = Result<Value, &'static str>;

/// `a + b`, `a - b`, `a * b`.
#[inline]
pub(crate) fn arithmetic(operation: Operation, a: &Number<'_>, b: &Number<'_>) -> Outcome {
    if let (Number::Int(a), Number::Int(b)) = (a, b) {
        let short = match operation {
            Operation::Add => a.checked_add(*b),
            Operation::Sub => a.checked_sub(*b),
            Operation::Mul => a.checked_mul(*b),
        };
        if let Some(value) = short {
            return Ok(Value::Int(value));
        }
    }
    if a.is_float() || b.is_float() {
        let (a, b) = (a.to_float()?, b.to_float()?);
        return Ok(Value::Float(match operation {
            Operation::Add => a + b,
            Operation::Sub => a - b,
            Operation::Mul => a * b,
        }));
    }
    long(operation, a, b)
}

fn long(operation: Operation, a: &Number<'_>, b: &Number<'_>) -> Outcome {
    if operation == Operation::Mul && a.bits().saturating_add(b.bits()) > MAX_BITS.saturating_add(64) {
        return Err(TOO_LONG);
    }
    let (Some(a), Some(b)) = (a.to_big(), b.to_big()) else { return Err(TO_FLOAT) };
    bounded(match operation {
        Operation::Add => a + b,
        Operation::Sub => a - b,
        Operation::Mul => a * b,
    })
}

/// The integer, if it is not too long.
pub(crate) fn bounded(value: BigInt) -> Outcome {
    if value.bits() > MAX_BITS { Err(TOO_LONG) } else { Ok(Value::integer(value)) }
}

/// `a / b`: a float, whatever they are.
#[inline]
pub(crate) fn divide(a: &Number<'_>, b: &Number<'_>) -> Outcome {
    let zero = match b {
        Number::Int(value) => *value == 0,
        Number::Float(value) => *value == 0.0,
        Number::Big(_) => false,
    };
    if zero {
        return Err("division by zero");
    }
    match (a, b) {
        (Number::Int(a), Number::Int(b)) if a.unsigned_abs() <= EXACT && b.unsigned_abs() <= EXACT => {
            Ok(Value::Float(nearest(*a) / nearest(*b)))
        }
        (Number::Float(_), _) | (_, Number::Float(_)) => Ok(Value::Float(a.to_float()? / b.to_float()?)),
        _ => match (a.to_big(), b.to_big()) {
            (Some(a), Some(b)) => quotient(&a, &b).map(Value::Float),
            _ => Err(TO_FLOAT),
        },
    }
}

/// Bits of a float's mantissa, and the exponents of what its last one is worth at least and at most (IEEE 754 binary64).
const MANTISSA: i64 = 53;
const LOWEST: i64 = -1074;
const HIGHEST: i64 = 971;

/// The quotient of integers, rounded once, half to even. `b` is not 0.
fn quotient(a: &BigInt, b: &BigInt) -> Result<f64, &'static str> {
    const OVERFLOW: &str = "the quotient is too large for a float";
    if a.is_zero() {
        return Ok(if b.is_negative() { -0.0 } else { 0.0 });
    }
    let bits = |of: &BigInt| i64::try_from(of.bits()).unwrap_or(i64::MAX);
    // The quotient has this many bits before the point, or one less; two more than the mantissa are computed, what is
    // behind these is seen in the remainder.
    let magnitude = bits(a).saturating_sub(bits(b)).saturating_add(1);
    let last = magnitude.saturating_sub(MANTISSA).max(LOWEST);
    let exponent = last.saturating_sub(2);
    let shift = exponent.unsigned_abs();
    let (mut dividend, mut divisor) = (a.magnitude().clone(), b.magnitude().clone());
    if exponent < 0 {
        dividend <<= shift;
    } else {
        divisor <<= shift;
    }
    let whole = &dividend / &divisor;
    let inexact = u64::from(whole.clone() * &divisor != dividend);
    let scaled = whole.to_u64().unwrap_or(u64::MAX);
    // One bit less than thought: one more can be kept, unless the float has no smaller one.
    let short = scaled < (1 << 54) && last > LOWEST;
    let (mantissa, last) = if short {
        (half_even(scaled, 1, inexact), last.saturating_sub(1))
    } else {
        (half_even(scaled, 2, inexact), last)
    };
    let value = scale(mantissa, last).ok_or(OVERFLOW)?;
    Ok(if (a.sign() == Sign::Minus) == (b.sign() == Sign::Minus) { value } else { -value })
}

/// `value` without its last bits, rounded half to even; `below` says that there was more behind them.
fn half_even(value: u64, bits: u32, below: u64) -> u64 {
    let kept = value >> bits;
    let twice = (value & ((1 << bits) - 1)).wrapping_mul(2) | below;
    let half = 1u64 << bits;
    let up = twice > half || (twice == half && kept & 1 == 1);
    kept.wrapping_add(u64::from(up))
}

/// `mantissa * 2^exponent`, which is a float exactly, or too large for one.
fn scale(mantissa: u64, exponent: i64) -> Option<f64> {
    let power = |exponent: i64| {
        let biased = u64::try_from(exponent.saturating_add(1023)).unwrap_or(0);
        f64::from_bits(biased << 52)
    };
    let exact = nearest(i64::try_from(mantissa).ok()?);
    if exponent > HIGHEST {
        return None;
    }
    // In two steps, the first of which stays away from both ends.
    let first = exponent / 2;
    let value = exact * power(first) * power(exponent.saturating_sub(first));
    value.is_finite().then_some(value)
}

/// `a << b`, or `a >> b`; none of them a float.
pub(crate) fn shift(left: bool, a: &Number<'_>, b: &Number<'_>) -> Outcome {
    let (Some(value), Some(by)) = (a.to_big(), b.to_big()) else {
        return Err("only integers can be shifted");
    };
    if by.is_negative() {
        return Err("a shift by less than 0");
    }
    if value.is_zero() {
        return Ok(Value::Int(0));
    }
    match (left, by.to_u64()) {
        (true, Some(by)) if by <= MAX_BITS => bounded(value << by),
        (true, _) => Err(TOO_LONG),
        (false, Some(by)) if by <= MAX_BITS => Ok(Value::integer(value >> by)),
        (false, _) => Ok(Value::Int(if value.is_negative() { -1 } else { 0 })),
    }
}

/// The amount.
pub(crate) fn absolute(number: &Number<'_>) -> Value {
    match number {
        Number::Int(value) => {
            value.checked_abs().map_or_else(|| Value::integer(BigInt::from(*value).abs()), Value::Int)
        }
        Number::Big(value) => Value::integer(value.abs()),
        Number::Float(value) => Value::Float(value.abs()),
    }
}

/// How they compare, exactly; `None` where one is no number ("nan").
#[inline]
pub(crate) fn compare(a: &Number<'_>, b: &Number<'_>) -> Option<Ordering> {
    match (a, b) {
        (Number::Int(a), Number::Int(b)) => Some(a.cmp(b)),
        (Number::Float(a), Number::Float(b)) => a.partial_cmp(b),
        (Number::Float(a), b) => float_with(*a, b),
        (a, Number::Float(b)) => float_with(*b, a).map(Ordering::reverse),
        (Number::Big(a), Number::Big(b)) => Some(a.cmp(b)),
        // An integer that 64 bits do not hold is farther out than each that they do.
        (Number::Big(a), Number::Int(_)) => {
            Some(if a.is_negative() { Ordering::Less } else { Ordering::Greater })
        }
        (Number::Int(_), Number::Big(b)) => {
            Some(if b.is_negative() { Ordering::Greater } else { Ordering::Less })
        }
    }
}

/// A float with an integer.
fn float_with(float: f64, integer: &Number<'_>) -> Option<Ordering> {
    if float.is_nan() {
        return None;
    }
    if let Number::Int(value) = integer
        && value.unsigned_abs() <= EXACT
    {
        return float.partial_cmp(&nearest(*value));
    }
    let Some(whole) = num_traits::FromPrimitive::from_f64(float.trunc()).filter(|_| float.is_finite()) else {
        return Some(if float > 0.0 { Ordering::Greater } else { Ordering::Less });
    };
    let whole: BigInt = whole;
    let order = match integer {
        Number::Int(value) => whole.cmp(&BigInt::from(*value)),
        Number::Big(value) => whole.cmp(value),
        Number::Float(_) => return None,
    };
    let behind = float.fract().partial_cmp(&0.0).unwrap_or(Ordering::Equal);
    Some(order.then(behind))
}
