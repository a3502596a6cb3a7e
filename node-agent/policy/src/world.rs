//! What a program sees and says: the host and its guests, their last samples, what is remembered and what is proposed.
//!
//! Fields have numbers that all entities share, so that a sample is a row and no map.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::program::Program;
use crate::source::{At, Place};
use crate::value::{Entity, Value};

/// Samples that are kept of each entity (MOM's `sample-history-length`).
pub const HISTORY: usize = 10;

/// Names and values, in the order of the names.
pub type Table = BTreeMap<Arc<str>, Value>;

/// A field, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field(u32);

impl Field {
    fn index(self) -> usize {
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
    history: Vec<Vec<Option<Value>>>,
    declared: Vec<bool>,
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

    /// Says that it has a field, whether or not there is a sample of it.
    pub fn declare(&mut self, field: Field) {
        if self.declared.len() <= field.index() {
            self.declared.resize(field.index().saturating_add(1), false);
        }
        if let Some(declared) = self.declared.get_mut(field.index()) {
            *declared = true;
        }
    }

    /// Adds a sample, and forgets those that are more than [`HISTORY`].
    pub fn push(&mut self, sample: impl IntoIterator<Item = (Field, Value)>) {
        let mut row = Vec::new();
        for (field, value) in sample {
            self.declare(field);
            if row.len() <= field.index() {
                row.resize(field.index().saturating_add(1), None);
            }
            if let Some(place) = row.get_mut(field.index()) {
                *place = Some(value);
            }
        }
        if self.history.len() >= HISTORY {
            self.history.remove(0);
        }
        self.history.push(row);
    }

    /// Whether some collector has that field.
    pub(crate) fn declares(&self, field: Field) -> bool {
        self.declared.get(field.index()).copied().unwrap_or(false)
    }

    /// Whether each of the first fields is declared; none of the others is.
    pub(crate) fn declared(&self) -> &[bool] {
        &self.declared
    }

    /// The samples, oldest first, each a value for each of the first fields.
    pub(crate) fn history(&self) -> impl Iterator<Item = &[Option<Value>]> {
        self.history.iter().map(Vec::as_slice)
    }

    /// Whether there is a sample at all.
    pub(crate) fn sampled(&self) -> bool {
        !self.history.is_empty()
    }

    /// What the last sample says, if it says something.
    pub(crate) fn last(&self, field: Field) -> Option<&Value> {
        self.history.last().and_then(|row| row.get(field.index())).and_then(Option::as_ref)
    }

    /// What the samples say that say something, oldest first.
    pub(crate) fn samples(&self, field: Field) -> impl Iterator<Item = &Value> {
        let values =
            self.history.iter().filter_map(move |row| row.get(field.index()).and_then(Option::as_ref));
        values.filter(|value| !value.is_nil())
    }
}
