//! What a variable of a program may hold beyond its cycle: numbers and short texts. It is written into recordings, and it is
//! kept as long as its guest, so that it has bounds.

use std::collections::BTreeMap;
use std::sync::Arc;

use overcommit_policy::Value;
use overcommit_policy::world::Table;
use serde::{Deserialize, Serialize};

/// So many variables of a guest, or of the host, last.
pub(super) const MOST: usize = 64;
/// Bytes that a name or a text may have.
const LONGEST: usize = 256;

/// A value that lasts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Kept {
    Nil,
    Bool(bool),
    Int(i64),
    /// By its bits: JSON has no infinity, and what was remembered must come back as it was.
    Float(u64),
    Text(Arc<str>),
}

/// Variables that last, by name.
pub(super) type Variables = BTreeMap<Arc<str>, Kept>;

impl Kept {
    fn of(value: Value) -> Option<Self> {
        match value {
            Value::Nil => Some(Self::Nil),
            Value::Bool(value) => Some(Self::Bool(value)),
            Value::Int(value) => Some(Self::Int(value)),
            Value::Float(value) => Some(Self::Float(value.to_bits())),
            Value::Text(text) => Some(Self::Text(text)),
            _ => None,
        }
        .filter(|kept| !matches!(kept, Self::Text(text) if text.len() > LONGEST))
    }

    fn value(&self) -> Value {
        match self {
            Self::Nil => Value::Nil,
            Self::Bool(value) => Value::Bool(*value),
            Self::Int(value) => Value::Int(*value),
            Self::Float(bits) => Value::Float(f64::from_bits(*bits)),
            Self::Text(text) => Value::Text(Arc::clone(text)),
        }
    }
}

/// What lasts of these; also how many do not.
pub(super) fn keep(table: Table) -> (Variables, usize) {
    let all = table.len();
    let fits = table.into_iter().filter(|(name, _)| name.len() <= LONGEST);
    let kept: Variables =
        fits.filter_map(|(name, value)| Some((name, Kept::of(value)?))).take(MOST).collect();
    let lost = all.saturating_sub(kept.len());
    (kept, lost)
}

/// The same as a program sees them.
pub(super) fn table(variables: &Variables) -> Table {
    variables.iter().map(|(name, kept)| (Arc::clone(name), kept.value())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lasts_is_written_and_read_as_it_was_and_the_rest_is_counted() {
        let values = [
            Value::Nil,
            Value::Bool(true),
            Value::Int(-7),
            Value::Float(f64::INFINITY),
            Value::text("x"),
            Value::text(&"y".repeat(300)),
        ];
        let names = ["a", "b", "c", "d", "e", "f"].map(Arc::from);
        let (kept, lost) = keep(names.into_iter().zip(values).collect());
        assert_eq!((kept.len(), lost), (5, 1));
        let written = serde_json::to_string(&kept).unwrap();
        assert_eq!(serde_json::from_str::<Variables>(&written).unwrap(), kept);
        assert!(matches!(table(&kept).get("d"), Some(Value::Float(f)) if f.is_infinite()));
        let (many, lost) = keep((0..1000).map(|n| (Arc::from(format!("v{n}")), Value::Int(n))).collect());
        assert_eq!((many.len(), lost), (MOST, 1000 - MOST));
    }
}
