//! The words and signs of the language: their arguments, and which of them are evaluated.

use super::super::units::{self, Unit};
use super::Walk;
use crate::builtin::Builtin;
use crate::number::Operation;
use crate::syntax::{Name, Node, NodeId};
use crate::value::Value;
use crate::words::{arguments as counted, shown};

impl<'a> Walk<'a> {
    pub(super) fn form(&mut self, builtin: Builtin, head: NodeId, name: Name, arguments: &'a [NodeId]) {
        let (least, most) = builtin.arity();
        let fits = arguments.len() >= least && most.is_none_or(|most| arguments.len() <= most);
        if !fits && !self.may_be_variable(name) {
            let wanted =
                if most == Some(least) { counted(least) } else { format!("{} or more", counted(least)) };
            let text = self.program.syntax.text(name);
            let text = crate::lex::sign_of(text).map_or_else(|| text.to_string(), str::to_owned);
            let hint = if builtin == Builtin::Eval { " (curly brackets are a call of eval)" } else { "" };
            self.error(head, |_| format!("{text} takes {wanted}, and here are {}{hint}", arguments.len()));
        }
        match (builtin, arguments) {
            (Builtin::Def, [name, parameters, rest @ ..]) => {
                self.name(*name);
                self.parameters(*parameters);
                self.evaluated(rest);
            }
            (Builtin::Defvar | Builtin::Set, [name, rest @ ..]) => {
                self.name(*name);
                if builtin == Builtin::Set {
                    self.assignable(*name);
                }
                self.evaluated(rest);
            }
            (Builtin::Let, [pairs, body @ ..]) => {
                self.evaluated(body);
                self.pairs(*pairs);
            }
            (Builtin::With, [list, variable, rest @ ..]) => {
                self.list_name(*list);
                self.name(*variable);
                self.evaluated(rest);
            }
            _ => {
                self.suspect(builtin, head, arguments);
                self.evaluated(arguments);
            }
        }
    }

    fn name(&mut self, id: NodeId) {
        if self.program.syntax.name_of(id).is_none() {
            self.error(id, |_| "a name is due here".to_owned());
        }
    }

    fn assignable(&mut self, id: NodeId) {
        let Some(name) = self.program.syntax.name_of(id) else { return };
        if self.facts.is_bound(name) {
            return;
        }
        if let Node::Dotted { .. } = self.program.syntax.node(id) {
            let text = self.program.syntax.text(name);
            return self
                .error(id, |_| format!("{} cannot be assigned: attributes are read only", shown(text)));
        }
        self.symbol(id, name);
    }

    fn parameters(&mut self, id: NodeId) {
        let program = self.program;
        let Some(parameters) = program.syntax.parts_of(id) else {
            return self
                .error(id, |_| "the parameters are no list: this function cannot be called".to_owned());
        };
        for parameter in parameters {
            if program.syntax.name_of(*parameter).is_none() {
                self.error(*parameter, |_| {
                    "a parameter is no name: this function cannot be called".to_owned()
                });
            }
        }
        self.twice(parameters.iter().copied(), "a parameter");
    }

    /// Names that stand among these before.
    fn twice(&mut self, ids: impl Iterator<Item = NodeId>, what: &str) {
        let syntax = &self.program.syntax;
        let mut seen: Vec<Name> = Vec::new();
        for (id, name) in ids.filter_map(|id| Some((id, syntax.name_of(id)?))) {
            if seen.contains(&name) {
                let text = syntax.text(name);
                self.warning(id, |_| format!("{} is {what} twice: the first one counts", shown(text)));
            } else if seen.len() < 64 {
                // Who has more of them than this has other troubles.
                seen.push(name);
            }
        }
    }

    fn pairs(&mut self, id: NodeId) {
        let program = self.program;
        let Some(pairs) = program.syntax.parts_of(id) else {
            return self.error(id, |_| "let takes a list of (NAME VALUE) first".to_owned());
        };
        let bound = pairs.iter().filter_map(|pair| match program.syntax.parts_of(*pair) {
            Some([name, _]) => Some(*name),
            _ => None,
        });
        self.twice(bound, "bound");
        for pair in pairs.iter().rev() {
            match program.syntax.parts_of(*pair) {
                Some([name, value]) => {
                    self.name(*name);
                    self.evaluated(&[*value]);
                }
                _ => self
                    .error(*pair, |_| "let takes a list of (NAME VALUE) first, and this is none".to_owned()),
            }
        }
    }

    fn list_name(&mut self, id: NodeId) {
        match self.program.syntax.node(id) {
            Node::Symbol(name) if *name == self.program.host && self.facts.bindings(*name).len() == 1 => {
                self.error(id, |_| {
                    "with takes a list, and this is the host; did you mean Guests?".to_owned()
                });
            }
            Node::Symbol(_) | Node::Dotted { .. } => self.evaluated(&[id]),
            _ => self.error(id, |_| "with takes the name of a list first".to_owned()),
        }
    }

    /// What computes, but probably not what is meant.
    fn suspect(&mut self, builtin: Builtin, head: NodeId, arguments: &[NodeId]) {
        if let (Builtin::Divide, [_, divisor]) = (builtin, arguments)
            && let Node::Constant(zero @ (Value::Int(_) | Value::Float(_))) =
                self.program.syntax.node(*divisor)
            && !zero.is_true()
        {
            self.error(*divisor, |_| "division by zero".to_owned());
        }
        let scales = Builtin::Arithmetic(Operation::Mul) == builtin
            || matches!(builtin, Builtin::Divide | Builtin::Shift { .. });
        let is_pages = |id: &NodeId| units::unit(self.program, &self.facts, *id) == Some(Unit::Pages);
        self.scales_pages |= scales && !self.scales_pages && arguments.iter().take(16).any(is_pages);
        if !units::relates(builtin) {
            return;
        }
        let mut first: Option<Unit> = None;
        for argument in arguments.iter().take(16) {
            let Some(unit) = units::unit(self.program, &self.facts, *argument) else { continue };
            match first {
                Some(other) if other != unit => {
                    return self.warning(head, |_| {
                        format!("this takes {} and {} together", other.word(), unit.word())
                    });
                }
                _ => first = Some(unit),
            }
        }
    }
}
