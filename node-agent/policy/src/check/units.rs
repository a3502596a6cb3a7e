//! What numbers count, as far as a program shows it: fields have units, sums keep them, and what mixes two is suspicious.

use super::catalog;
use super::facts::Facts;
use crate::builtin::Builtin;
use crate::number::Operation;
use crate::program::Program;
use crate::syntax::{Name, Node, NodeId};
use crate::value::{Method, Value};

/// What a number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    KiB,
    Pages,
    Percent,
    Milliseconds,
    Microseconds,
    /// Events.
    Counter,
    /// Nothing that could be mixed up.
    Plain,
}

impl Unit {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::KiB => "KiB",
            Self::Pages => "pages",
            Self::Percent => "percent",
            Self::Milliseconds => "milliseconds",
            Self::Microseconds => "microseconds",
            Self::Counter => "a count of events",
            Self::Plain => "a number",
        }
    }
}

/// How far variables are followed, and how many values are looked at for one.
const FAR: u32 = 8;
const MANY: u32 = 64;

/// What a value counts, if that is known.
pub(super) fn unit(program: &Program, facts: &Facts, id: NodeId) -> Option<Unit> {
    Search { program, facts, left: MANY }.unit(id, FAR)
}

struct Search<'a> {
    program: &'a Program,
    facts: &'a Facts,
    left: u32,
}

impl Search<'_> {
    fn unit(&mut self, id: NodeId, far: u32) -> Option<Unit> {
        let far = far.checked_sub(1)?;
        self.left = self.left.checked_sub(1)?;
        let syntax = &self.program.syntax;
        match syntax.node(id) {
            Node::Dotted { base, attribute, .. } => self.named(*base, syntax.text(*attribute)),
            Node::Symbol(name) => self.unit(self.facts.only_value(*name)?, far),
            Node::List { from, length } => {
                let (head, arguments) = syntax.parts(*from, *length).split_first()?;
                match syntax.node(*head) {
                    Node::Dotted { base, attribute, .. } => {
                        self.named(*base, sampled(self.program, *attribute, arguments)?)
                    }
                    Node::Symbol(name) | Node::Operator(name) if keeps(self.program.builtin(*name)) => {
                        arguments.iter().find_map(|argument| self.unit(*argument, far))
                    }
                    _ => None,
                }
            }
            Node::Constant(_) | Node::Operator(_) => None,
        }
    }

    /// What that field counts, if it counts the same of everybody whom the name may mean.
    fn named(&self, base: Name, field: &str) -> Option<Unit> {
        let whose = self.facts.whose(self.program, base);
        let mut units = catalog::fields_named(field).filter(|field| field.whose.includes(whose));
        let unit = units.next()?.unit;
        (unit != Unit::Plain && units.all(|other| other.unit == unit)).then_some(unit)
    }
}

/// The field that a call of such an attribute samples, if the program names it.
pub(super) fn sampled<'a>(program: &'a Program, attribute: Name, arguments: &[NodeId]) -> Option<&'a str> {
    if !matches!(program.method(attribute), Some(Method::Stat | Method::StatAvg)) {
        return None;
    }
    match program.syntax.node(*arguments.first()?) {
        Node::Constant(Value::Text(field)) => Some(field),
        _ => None,
    }
}

/// Whether its value counts what its arguments count.
pub(super) fn keeps(builtin: Option<Builtin>) -> bool {
    matches!(
        builtin,
        Some(Builtin::Arithmetic(Operation::Add | Operation::Sub) | Builtin::Min | Builtin::Max)
    )
}

/// Whether its arguments ought to count the same.
pub(super) fn relates(builtin: Builtin) -> bool {
    keeps(Some(builtin)) || matches!(builtin, Builtin::Compare(_) | Builtin::Equal { .. })
}
