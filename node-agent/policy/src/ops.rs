//! What signs do with values of any kind: numbers, texts, lists, and what happens where kinds differ.

use std::cmp::Ordering;
use std::sync::Arc;

use crate::number::{self, Number, Operation};
use crate::value::{List, Value};

/// Why not; the caller knows the place.
pub(crate) type Outcome = Result<Value, String>;

/// Order and equality.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Relation {
    Less,
    Greater,
    LessOrEqual,
    GreaterOrEqual,
}

impl Relation {
    fn holds(self, order: Option<Ordering>) -> bool {
        match self {
            Self::Less => order == Some(Ordering::Less),
            Self::Greater => order == Some(Ordering::Greater),
            Self::LessOrEqual => matches!(order, Some(Ordering::Less | Ordering::Equal)),
            Self::GreaterOrEqual => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
        }
    }
}

/// `a + b`, `a - b`, `a * b`; `length` is what a text or a list may have.
#[inline]
pub(crate) fn arithmetic(operation: Operation, a: &Value, b: &Value, length: usize) -> Outcome {
    if let (Some(a), Some(b)) = (Number::of(a), Number::of(b)) {
        return number::arithmetic(operation, &a, &b).map_err(str::to_owned);
    }
    match (operation, a, b) {
        (Operation::Add, Value::Text(a), Value::Text(b)) => {
            fits(a.len().saturating_add(b.len()), length)?;
            Ok(Value::Text(Arc::from([a.as_ref(), b.as_ref()].concat())))
        }
        (Operation::Add, Value::List(a), Value::List(b)) => {
            fits(a.items().len().saturating_add(b.items().len()), length)?;
            list(a.items().iter().chain(b.items()).cloned().collect())
        }
        (Operation::Mul, Value::Text(_) | Value::List(_), times) => repeat(a, times, length),
        (Operation::Mul, times, Value::Text(_) | Value::List(_)) => repeat(b, times, length),
        _ => {
            let word = match operation {
                Operation::Add => "be added to",
                Operation::Sub => "be diminished by",
                Operation::Mul => "be multiplied with",
            };
            Err(format!("{} cannot {word} {}", a.kind(), b.kind()))
        }
    }
}

fn fits(wanted: usize, length: usize) -> Result<(), String> {
    if wanted > length { Err(format!("the result is longer than {length}")) } else { Ok(()) }
}

/// A list of these, if it does not nest too deep.
pub(crate) fn list(items: Vec<Value>) -> Outcome {
    let deepest = List::DEEPEST;
    List::new(items)
        .map(|list| Value::List(Arc::new(list)))
        .ok_or_else(|| format!("lists in lists, deeper than {deepest}"))
}

fn repeat(what: &Value, times: &Value, length: usize) -> Outcome {
    let times = match Number::of(times) {
        Some(Number::Int(times)) => usize::try_from(times).unwrap_or(0),
        Some(Number::Big(_)) => {
            return Err("an integer of more than 64 bits cannot be a number of times".to_owned());
        }
        _ => return Err(format!("{} cannot be multiplied with {}", what.kind(), times.kind())),
    };
    match what {
        Value::Text(text) => {
            fits(text.len().saturating_mul(times), length)?;
            Ok(Value::Text(Arc::from(if text.is_empty() { String::new() } else { text.repeat(times) })))
        }
        Value::List(items) => {
            let items = items.items();
            fits(items.len().saturating_mul(times), length)?;
            list(if items.is_empty() {
                Vec::new()
            } else {
                std::iter::repeat_n(items, times).flatten().cloned().collect()
            })
        }
        _ => Err(format!("{} cannot be multiplied", what.kind())),
    }
}

/// `a / b`.
#[inline]
pub(crate) fn divide(a: &Value, b: &Value) -> Outcome {
    match (Number::of(a), Number::of(b)) {
        (Some(a), Some(b)) => number::divide(&a, &b).map_err(str::to_owned),
        _ => Err(format!("{} cannot be divided by {}", a.kind(), b.kind())),
    }
}

/// `a << b`, `a >> b`.
pub(crate) fn shift(left: bool, a: &Value, b: &Value) -> Outcome {
    match (Number::of(a), Number::of(b)) {
        (Some(a), Some(b)) => number::shift(left, &a, &b).map_err(str::to_owned),
        _ => Err(format!("{} cannot be shifted by {}", a.kind(), b.kind())),
    }
}

/// `abs`.
pub(crate) fn absolute(value: &Value) -> Outcome {
    match Number::of(value) {
        Some(number) => Ok(number::absolute(&number)),
        None => Err(format!("{} has no amount", value.kind())),
    }
}

/// Whether they are equal: never an error, and kinds that differ are not.
pub(crate) fn equal(a: &Value, b: &Value) -> bool {
    if let (Some(a), Some(b)) = (Number::of(a), Number::of(b)) {
        return number::compare(&a, &b) == Some(Ordering::Equal);
    }
    match (a, b) {
        (Value::Nil, Value::Nil) => true,
        (Value::Text(a), Value::Text(b)) => a == b,
        (Value::List(a), Value::List(b)) => {
            let (a, b) = (a.items(), b.items());
            std::ptr::eq(a, b) || (a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b)))
        }
        (Value::Entity(a), Value::Entity(b)) => a == b,
        (Value::Method(a, m), Value::Method(b, n)) => a == b && m == n,
        (Value::Function(a), Value::Function(b)) => a == b,
        _ => false,
    }
}

/// Whether the order of two values is that; lists compare by the first elements that differ.
#[inline]
pub(crate) fn ordered(relation: Relation, a: &Value, b: &Value) -> Result<bool, String> {
    if let (Some(a), Some(b)) = (Number::of(a), Number::of(b)) {
        return Ok(relation.holds(number::compare(&a, &b)));
    }
    match (a, b) {
        (Value::Text(a), Value::Text(b)) => Ok(relation.holds(Some(a.cmp(b)))),
        (Value::List(a), Value::List(b)) => match difference(a.items(), b.items(), &mut equal) {
            Difference::Pair(a, b) => ordered(relation, a, b),
            Difference::Length(order) => Ok(relation.holds(Some(order))),
        },
        _ => Err(format!("{} and {} have no order", a.kind(), b.kind())),
    }
}

/// Where two lists differ first.
enum Difference<'a> {
    /// In these, which are not both lists.
    Pair(&'a Value, &'a Value),
    /// In their lengths, or not at all.
    Length(Ordering),
}

/// One walk through both, however deep they are nested; `alike` judges what are not both lists.
fn difference<'a>(
    a: &'a [Value],
    b: &'a [Value],
    alike: &mut impl FnMut(&Value, &Value) -> bool,
) -> Difference<'a> {
    for (one, other) in a.iter().zip(b) {
        match (one, other) {
            (Value::List(a), Value::List(b)) if std::sync::Arc::ptr_eq(a, b) => {}
            (Value::List(a), Value::List(b)) => match difference(a.items(), b.items(), alike) {
                Difference::Length(Ordering::Equal) => {}
                differs => return differs,
            },
            _ if alike(one, other) => {}
            _ => return Difference::Pair(one, other),
        }
    }
    Difference::Length(a.len().cmp(&b.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nested(last: i64) -> Value {
        let mut value = list((0..100).map(Value::Int).chain([Value::Int(last)]).collect()).unwrap();
        for _ in 1..List::DEEPEST {
            value = list(vec![value]).unwrap();
        }
        value
    }

    #[test]
    fn the_order_of_nested_lists_takes_one_walk_however_deep_they_are() {
        let (a, b) = (nested(1), nested(2));
        let (Value::List(x), Value::List(y)) = (&a, &b) else { panic!("lists") };
        let mut walked = 0;
        let found = difference(x.items(), y.items(), &mut |a, b| {
            walked += 1;
            equal(a, b)
        });
        assert!(matches!(found, Difference::Pair(Value::Int(1), Value::Int(2))));
        assert_eq!(walked, 101);
        assert_eq!(ordered(Relation::Less, &a, &b), Ok(true));
        assert_eq!(ordered(Relation::GreaterOrEqual, &a, &b), Ok(false));
        assert_eq!(ordered(Relation::LessOrEqual, &a, &nested(1)), Ok(true));
    }
}
