//! What a program defines, wherever: with dynamic scope, a name that is defined somewhere may be defined anywhere.

use std::collections::{BTreeMap, BTreeSet};

use super::catalog::Whose;
use crate::builtin::Builtin;
use crate::program::Program;
use crate::syntax::{Name, Node, NodeId};

/// Bindings of a name that are looked at.
const MANY: usize = 64;

/// How a name comes to a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Binding {
    /// `defvar` and `let`.
    Value(NodeId),
    /// An element of what stands there.
    Element(NodeId),
    /// A parameter of a function, or what is there from the beginning.
    Anything,
}

/// The definitions of a function, however many there are.
#[derive(Clone, Debug, Default)]
pub(super) struct Function {
    /// How many parameters the first one has whose parameters are a list.
    pub(super) first: Option<usize>,
    arities: BTreeSet<usize>,
}

impl Function {
    /// Whether some definition takes so many arguments.
    pub(super) fn takes(&self, arguments: usize) -> bool {
        self.arities.contains(&arguments)
    }
}

/// All that is defined.
#[derive(Debug, Default)]
pub(super) struct Facts {
    bindings: BTreeMap<Name, Vec<Binding>>,
    /// Where each variable and each function stands first.
    places: BTreeMap<Name, NodeId>,
    functions: BTreeMap<Name, Function>,
    assigned: BTreeSet<Name>,
}

impl Facts {
    pub(super) fn of(program: &Program) -> Self {
        let mut facts = Self::given(program);
        for id in program.syntax.all() {
            if let Some((builtin, arguments)) = form(program, id) {
                facts.note(program, builtin, arguments);
            }
        }
        facts
    }

    /// What is there from the beginning.
    pub(super) fn given(program: &Program) -> Self {
        let mut facts = Self::default();
        let entities = [program.host, program.guests].into_iter();
        for name in entities.chain(program.functions.map(|(name, _)| name)) {
            facts.bind(name, Binding::Anything);
        }
        facts
    }

    /// What a call of such a word defines, but for what is in its arguments.
    pub(super) fn note(&mut self, program: &Program, builtin: Builtin, arguments: &[NodeId]) {
        let syntax = &program.syntax;
        match (builtin, arguments) {
            (Builtin::Def, [name, parameters, ..]) => {
                let parameters = syntax.parts_of(*parameters);
                if let Some(named) = syntax.name_of(*name) {
                    self.places.entry(named).or_insert(*name);
                    let function = self.functions.entry(named).or_default();
                    let arity = parameters.map(<[_]>::len);
                    function.first = function.first.or(arity);
                    function.arities.extend(arity);
                }
                for parameter in parameters.unwrap_or_default() {
                    self.bind_at(program, *parameter, Binding::Anything);
                }
            }
            (Builtin::Defvar, [name, value, ..]) => self.bind_at(program, *name, Binding::Value(*value)),
            (Builtin::Set, [name, ..]) => {
                self.assigned.extend(syntax.name_of(*name));
            }
            (Builtin::Let, [pairs, ..]) => {
                for pair in syntax.parts_of(*pairs).unwrap_or_default() {
                    if let Some([name, value]) = syntax.parts_of(*pair) {
                        self.bind_at(program, *name, Binding::Value(*value));
                    }
                }
            }
            (Builtin::With, [list, variable, ..]) => {
                self.bind_at(program, *variable, Binding::Element(*list));
            }
            _ => {}
        }
    }

    pub(super) fn bind_at(&mut self, program: &Program, id: NodeId, binding: Binding) {
        if let Some(name) = program.syntax.name_of(id) {
            self.places.entry(name).or_insert(id);
            self.bind(name, binding);
        }
    }

    pub(super) fn bind(&mut self, name: Name, binding: Binding) {
        self.bindings.entry(name).or_default().push(binding);
    }

    /// Where it is defined first.
    pub(super) fn place(&self, name: Name) -> Option<NodeId> {
        self.places.get(&name).copied()
    }

    /// Whether it can have a value at all.
    pub(super) fn is_bound(&self, name: Name) -> bool {
        self.bindings.contains_key(&name)
    }

    /// Ways in which it can have one.
    pub(super) fn bindings(&self, name: Name) -> &[Binding] {
        self.bindings.get(&name).map(Vec::as_slice).unwrap_or_default()
    }

    /// Whose attributes a name has, if that is sure. With very many bindings nobody looks at all of them at each use.
    pub(super) fn whose(&self, program: &Program, base: Name) -> Whose {
        let guests = |binding: &Binding| match binding {
            Binding::Element(list) => program.syntax.name_of(*list) == Some(program.guests),
            _ => false,
        };
        match self.bindings(base) {
            _ if self.assigned.contains(&base) => Whose::Both,
            [Binding::Anything] if base == program.host => Whose::Host,
            bindings if (1..=MANY).contains(&bindings.len()) && bindings.iter().all(guests) => Whose::Guest,
            _ => Whose::Both,
        }
    }

    /// The one value that it can have, if there is only one and nobody assigns another.
    pub(super) fn only_value(&self, name: Name) -> Option<NodeId> {
        match self.bindings(name) {
            [Binding::Value(value)] if !self.assigned.contains(&name) => Some(*value),
            _ => None,
        }
    }

    /// The function of that name, if there is one.
    pub(super) fn function(&self, name: Name) -> Option<&Function> {
        self.functions.get(&name)
    }

    /// What is defined, for guesses.
    pub(super) fn names(&self) -> impl Iterator<Item = Name> {
        self.bindings.keys().chain(self.functions.keys()).copied()
    }
}

/// The word of the language that a list calls, unless a variable hides it, and the arguments.
pub(super) fn form(program: &Program, id: NodeId) -> Option<(Builtin, &[NodeId])> {
    let (head, arguments) = program.syntax.parts_of(id)?.split_first()?;
    match program.syntax.node(*head) {
        Node::Symbol(name) | Node::Operator(name) => Some((program.builtin(*name)?, arguments)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Source;

    #[test]
    fn a_function_that_is_defined_often_is_as_long_as_its_definitions_differ() {
        let text = format!("(def f () 1) {}", "(def f (a b) 1) ".repeat(1000));
        let program = Program::parse(&[Source { name: "p", bytes: text.as_bytes() }]).unwrap();
        let facts = Facts::of(&program);
        let [function] = facts.functions.values().collect::<Vec<_>>()[..] else { panic!("{facts:?}") };
        assert_eq!((function.first, function.arities.len()), (Some(0), 2));
        assert!(function.takes(0) && !function.takes(1) && function.takes(2));
    }
}
