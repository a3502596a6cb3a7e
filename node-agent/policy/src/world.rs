//! What a program sees and says: the host and its guests, their last samples, what is remembered and what is proposed.
//!
//! Fields have numbers that all entities share, so that a sample is a row in their order and no map. A row costs what it has,
//! however many fields others have.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::program::Program;
use crate::source::{At, Place};
use crate::value::{Entity, Value};

/// Samples that are kept of each entity (MOM's `sample-history-length`).
pub const HISTORY: usize = 10;

/// Names and values, in the order of the names.
pub type Table = BTreeMap<Arc<str>, Value>;

/// Values by their fields, in the order of the fields' numbers.
type Row = Vec<(Field, Value)>;

/// A field, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Field(u32);

impl Field {
    pub(crate) fn index(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

/// The host and its guests.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// The host.
    pub host: Subject,
    /// The guests, in the order in which `with` takes them.
    pub guests: Vec<Subject>,
    /// What `debug` has logged, and where.
    pub log: Vec<(Place, String)>,
    fields: HashMap<Arc<str>, Field>,
}

/// The host or a guest.
#[derive(Clone, Debug, Default)]
pub struct Subject {
    /// What it is told by; the host has none.
    pub name: Arc<str>,
    /// What `Prop` knows.
    pub properties: Table,
    /// What `SetVar` has remembered.
    pub variables: Table,
    /// What `Control` has proposed.
    pub controls: Table,
    /// Where each was proposed last.
    pub(crate) told: BTreeMap<Arc<str>, At>,
    /// Oldest first; a value that is absent was not sampled, one that is nil was not to be had.
    history: Vec<Row>,
    /// In the order of their numbers.
    declared: Vec<Field>,
}

impl World {
    /// The number of that field; a new one if nobody named it yet.
    pub fn field(&mut self, name: &str) -> Field {
        if let Some(field) = self.fields.get(name) {
            return *field;
        }
        let field = Field(u32::try_from(self.fields.len()).unwrap_or(u32::MAX));
        self.fields.insert(Arc::from(name), field);
        field
    }

    /// The names of all fields, by their numbers.
    pub(crate) fn field_names(&self) -> Vec<&str> {
        let mut names: Vec<_> = self.fields.iter().collect();
        names.sort_unstable_by_key(|(_, field)| field.index());
        names.into_iter().map(|(name, _)| &**name).collect()
    }

    /// The number of that field, if somebody has it.
    pub(crate) fn known(&self, name: &str) -> Option<Field> {
        self.fields.get(name).copied()
    }

    /// The one that is meant; a guest that does not exist is never met.
    pub(crate) fn subject(&self, entity: Entity) -> Option<&Subject> {
        match entity {
            Entity::Host => Some(&self.host),
            Entity::Guest(n) => usize::try_from(n).ok().and_then(|n| self.guests.get(n)),
        }
    }

    pub(crate) fn subject_mut(&mut self, entity: Entity) -> Option<&mut Subject> {
        match entity {
            Entity::Host => Some(&mut self.host),
            Entity::Guest(n) => usize::try_from(n).ok().and_then(|n| self.guests.get_mut(n)),
        }
    }
}

impl Subject {
    /// One without any data.
    pub fn named(name: &str) -> Self {
        Self { name: Arc::from(name), ..Self::default() }
    }

    /// Where `program` proposed that control last; absent where it did not.
    pub fn told_at(&self, program: &Program, control: &str) -> Option<Place> {
        self.told.get(control).map(|at| program.text.place(*at))
    }

    /// Says that it has fields, whether or not there is a sample of them.
    pub fn declare(&mut self, fields: impl IntoIterator<Item = Field>) {
        self.declared.extend(fields);
        if !self.declared.is_sorted_by(|a, b| a < b) {
            self.declared.sort_unstable();
            self.declared.dedup();
        }
    }

    /// Adds a sample, and forgets those that are more than [`HISTORY`]. Of a field that it has twice the last value counts.
    pub fn push(&mut self, sample: impl IntoIterator<Item = (Field, Value)>) {
        let mut row: Row = sample.into_iter().collect();
        if !row.is_sorted_by(|(a, _), (b, _)| a < b) {
            row.reverse();
            row.sort_by_key(|(field, _)| *field);
            row.dedup_by_key(|(field, _)| *field);
        }
        let fields = || row.iter().map(|(field, _)| *field);
        // The samples of one entity mostly have the same fields.
        let known = self.history.last().is_some_and(|last| last.iter().map(|(field, _)| *field).eq(fields()));
        if !known && fields().any(|field| !self.declares(field)) {
            self.declare(fields());
        }
        if self.history.len() >= HISTORY {
            self.history.remove(0);
        }
        self.history.push(row);
    }

    /// Whether some collector has that field.
    pub(crate) fn declares(&self, field: Field) -> bool {
        self.declared.binary_search(&field).is_ok()
    }

    /// The fields that are declared, in the order of their numbers.
    pub(crate) fn declared(&self) -> &[Field] {
        &self.declared
    }

    /// The samples, oldest first.
    pub(crate) fn history(&self) -> impl Iterator<Item = &[(Field, Value)]> {
        self.history.iter().map(Vec::as_slice)
    }

    /// Whether there is a sample at all.
    pub(crate) fn sampled(&self) -> bool {
        !self.history.is_empty()
    }

    /// What the last sample says, if it says something.
    pub(crate) fn last(&self, field: Field) -> Option<&Value> {
        self.history.last().and_then(|row| value(row, field))
    }

    /// What the samples say that say something, oldest first.
    pub(crate) fn samples(&self, field: Field) -> impl Iterator<Item = &Value> {
        let values = self.history.iter().filter_map(move |row| value(row, field));
        values.filter(|value| !value.is_nil())
    }
}

fn value(row: &[(Field, Value)], field: Field) -> Option<&Value> {
    let at = row.binary_search_by_key(&field, |(field, _)| *field).ok()?;
    row.get(at).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_costs_what_it_has_however_many_fields_others_have() {
        let mut world = World::default();
        let fields: Vec<Field> = (0..10_000).map(|n| world.field(&format!("f{n}"))).collect();
        let (first, last) = (fields[0], fields[9999]);
        let mut guest = Subject::named("g");
        guest.push([(last, Value::Int(1))]);
        guest.declare([first, last]);
        assert_eq!((guest.history[0].capacity(), guest.declared.len()), (1, 2));
        assert!(guest.declares(first) && guest.declares(last) && !guest.declares(fields[5]));
        assert!(matches!(guest.last(last), Some(Value::Int(1))) && guest.last(first).is_none());
    }

    #[test]
    fn the_last_value_of_a_field_that_a_sample_has_twice_counts() {
        let mut world = World::default();
        let [a, b] = ["a", "b"].map(|name| world.field(name));
        let mut guest = Subject::named("g");
        guest.push([(b, 1), (a, 2), (b, 3), (a, 4)].map(|(field, value)| (field, Value::Int(value))));
        let last = [a, b].map(|field| guest.last(field).and_then(Value::to_whole));
        assert_eq!((last, guest.declared()), ([Some(4), Some(3)], [a, b].as_slice()));
    }
}
