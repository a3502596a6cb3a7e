//! Variables, dynamically scoped: the newest binding of a name is the one that counts, whoever made it.
//!
//! Each name has one place for its newest binding; what that hid lies on a trail, from which leaving a scope puts it back.
//! Looking a name up is therefore one access, however deep scopes are nested.

use crate::syntax::Name;
use crate::value::Value;

#[derive(Clone, Debug, Default)]
struct Binding {
    value: Option<Value>,
    scope: u32,
}

/// All bindings.
#[derive(Debug)]
pub(crate) struct Scopes {
    newest: Vec<Binding>,
    hidden: Vec<(Name, Binding)>,
    scope: u32,
}

/// A scope that is entered, and how to leave it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    hidden: usize,
    scope: u32,
}

impl Scopes {
    /// For so many names.
    pub(crate) fn new(names: usize) -> Self {
        Self { newest: vec![Binding::default(); names], hidden: Vec::new(), scope: 0 }
    }

    pub(crate) fn enter(&mut self) -> Mark {
        let mark = self.mark();
        self.scope = self.scope.saturating_add(1);
        mark
    }

    /// Where we are.
    pub(crate) fn mark(&self) -> Mark {
        Mark { hidden: self.hidden.len(), scope: self.scope }
    }

    /// Leaves all scopes that were entered since.
    pub(crate) fn leave(&mut self, mark: Mark) {
        while self.hidden.len() > mark.hidden {
            let Some((name, binding)) = self.hidden.pop() else { break };
            if let Some(place) = self.newest.get_mut(name.index()) {
                *place = binding;
            }
        }
        self.scope = mark.scope;
    }

    #[inline]
    pub(crate) fn get(&self, name: Name) -> Option<&Value> {
        self.newest.get(name.index()).and_then(|binding| binding.value.as_ref())
    }

    /// Bindings of a name that newer ones hide, the newest first.
    pub(crate) fn hidden(&self, name: Name) -> impl Iterator<Item = &Value> {
        let hidden = self.hidden.iter().rev().filter(move |(known, _)| *known == name);
        hidden.filter_map(|(_, binding)| binding.value.as_ref())
    }

    /// What it costs to look for these, in steps.
    pub(crate) fn effort(&self) -> u64 {
        u64::try_from(self.hidden.len() / 16).unwrap_or(u64::MAX)
    }

    /// Binds a name in the innermost scope, unless that binds it already; returns what it is bound to.
    pub(crate) fn bind(&mut self, name: Name, value: Value) -> Value {
        let scope = self.scope;
        let Some(place) = self.newest.get_mut(name.index()) else { return value };
        match &place.value {
            Some(bound) if place.scope == scope => bound.clone(),
            _ => {
                let hides = std::mem::replace(place, Binding { value: Some(value.clone()), scope });
                self.hidden.push((name, hides));
                value
            }
        }
    }

    /// Changes the newest binding; false if there is none.
    pub(crate) fn assign(&mut self, name: Name, value: Value) -> bool {
        match self.newest.get_mut(name.index()).and_then(|binding| binding.value.as_mut()) {
            Some(place) => {
                *place = value;
                true
            }
            None => false,
        }
    }
}
