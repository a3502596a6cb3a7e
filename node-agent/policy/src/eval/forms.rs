//! The words and signs of the language.

use super::calls::arity;
use super::{Defined, Fault, NodeId, Result, Run, Value};
use crate::builtin::Builtin;
use crate::number::{Number, Operation};
use crate::ops::{self, Relation};
use crate::source::At;
use crate::syntax::Name;
use crate::words;

impl<'a> Run<'a> {
    pub(super) fn form(&mut self, builtin: Builtin, head: NodeId, arguments: &'a [NodeId]) -> Result<Value> {
        let (least, most) = builtin.arity();
        if arguments.len() < least || most.is_some_and(|most| arguments.len() > most) {
            let wanted = if most == Some(least) {
                words::arguments(least)
            } else {
                format!("{} or more", words::arguments(least))
            };
            return Err(arity(self.program.syntax.at(head), &self.shown(head), &wanted, arguments.len()));
        }
        match (builtin, arguments) {
            (Builtin::If, [condition, yes, no]) => {
                let branch = if self.value(*condition)?.is_true() { yes } else { no };
                self.value(*branch)
            }
            (Builtin::Let, [bindings, body @ ..]) => self.bind_all(*bindings, body),
            (Builtin::With, [list, variable, body]) => self.with(*list, *variable, *body),
            (Builtin::Eval, body) => self.sequence(body),
            (Builtin::Def, [name, parameters, body]) => self.define(*name, *parameters, *body),
            (Builtin::Defvar, [name, value]) => {
                let name = self.variable(*name)?;
                let value = self.value(*value)?;
                Ok(self.scopes.bind(name, value))
            }
            (Builtin::Set, [name, value]) => self.assign(*name, *value),
            (Builtin::And | Builtin::Or, operands) => self.choose(builtin == Builtin::Or, operands),
            (Builtin::Min | Builtin::Max, operands) => self.extreme(builtin == Builtin::Max, head, operands),
            (Builtin::Null | Builtin::Valid, operands) => self.nothing(builtin == Builtin::Null, operands),
            (Builtin::Not, [operand]) => Ok(Value::Bool(!self.value(*operand)?.is_true())),
            (_, [a, b]) => {
                let (a, b) = (self.value(*a)?, self.value(*b)?);
                self.binary(builtin, head, &a, &b)
            }
            _ => Ok(Value::Nil),
        }
    }

    /// A name that can be defined.
    fn variable(&self, id: NodeId) -> Result<Name> {
        self.program
            .syntax
            .name_of(id)
            .ok_or_else(|| Fault::new(self.program.syntax.at(id), "a name is due here"))
    }

    fn define(&mut self, name: NodeId, parameters: NodeId, body: NodeId) -> Result<Value> {
        let name = self.variable(name)?;
        if let Some(place) = self.functions.get_mut(name.index()) {
            *place = Some(Defined { parameters, body });
        }
        Ok(Value::Text(std::sync::Arc::clone(self.program.syntax.text(name))))
    }

    fn assign(&mut self, id: NodeId, value: NodeId) -> Result<Value> {
        let name = self.variable(id)?;
        let value = self.value(value)?;
        if self.scopes.assign(name, value.clone()) { Ok(value) } else { Err(self.undefined(id, name)) }
    }

    fn bind_all(&mut self, bindings: NodeId, body: &'a [NodeId]) -> Result<Value> {
        let syntax = &self.program.syntax;
        let Some(pairs) = syntax.parts_of(bindings) else {
            return Err(Fault::new(syntax.at(bindings), "let takes a list of (NAME VALUE) first"));
        };
        let mark = self.scopes.enter();
        for pair in pairs {
            let (name, value) = match syntax.parts_of(*pair) {
                Some([name, value]) => (syntax.name_of(*name), value),
                _ => (None, pair),
            };
            let Some(name) = name else {
                return Err(Fault::new(
                    syntax.at(*pair),
                    "let takes a list of (NAME VALUE) first, and this is none",
                ));
            };
            let value = self.value(*value)?;
            self.scopes.bind(name, value);
        }
        let value = self.sequence(body)?;
        self.scopes.leave(mark);
        Ok(value)
    }

    fn sequence(&mut self, body: &'a [NodeId]) -> Result<Value> {
        let mut last = Value::Nil;
        for id in body {
            last = self.value(*id)?;
        }
        Ok(last)
    }

    /// All operands are evaluated, as MOM does it.
    fn choose(&mut self, truth: bool, operands: &'a [NodeId]) -> Result<Value> {
        let mut chosen: Option<Value> = None;
        for id in operands {
            let value = self.value(*id)?;
            if chosen.as_ref().is_none_or(|chosen| chosen.is_true() != truth) {
                chosen = Some(value);
            }
        }
        Ok(chosen.unwrap_or(Value::Nil))
    }

    /// All are evaluated, as in MOM, also behind two that have no order.
    fn extreme(&mut self, most: bool, head: NodeId, operands: &'a [NodeId]) -> Result<Value> {
        let relation = if most { Relation::Greater } else { Relation::Less };
        let mut chosen: Result<Option<Value>> = Ok(None);
        for id in operands {
            let value = self.value(*id)?;
            chosen = match chosen {
                Ok(Some(best)) => self
                    .ordered(relation, head, &value, &best)
                    .map(|better| Some(if better { value } else { best })),
                Ok(None) => Ok(Some(value)),
                failed => failed,
            };
        }
        Ok(chosen?.unwrap_or(Value::Nil))
    }

    fn nothing(&mut self, null: bool, operands: &'a [NodeId]) -> Result<Value> {
        let mut all = true;
        for id in operands {
            let value = self.value(*id)?;
            all &= if null { value.is_null() } else { !value.is_nil() };
        }
        Ok(Value::Bool(all))
    }

    fn binary(&mut self, builtin: Builtin, head: NodeId, a: &Value, b: &Value) -> Result<Value> {
        let result = match builtin {
            Builtin::Arithmetic(operation) => {
                self.effort(head, a, b)?;
                if let (Value::Float(a), Value::Float(b)) = (a, b) {
                    return Ok(Value::Float(match operation {
                        Operation::Add => a + b,
                        Operation::Sub => a - b,
                        Operation::Mul => a * b,
                    }));
                }
                ops::arithmetic(operation, a, b, self.limits.length)
            }
            Builtin::Divide => {
                self.effort(head, a, b)?;
                ops::divide(a, b)
            }
            Builtin::Shift { left } => {
                self.effort(head, a, b)?;
                ops::shift(left, a, b)
            }
            Builtin::Compare(relation) => return self.ordered(relation, head, a, b).map(Value::Bool),
            Builtin::Equal { negated } => {
                self.effort(head, a, b)?;
                return Ok(Value::Bool(ops::equal(a, b) != negated));
            }
            _ => Ok(Value::Nil),
        };
        let at = self.program.syntax.at(head);
        match result {
            Ok(value) => self.made_long(at, value),
            Err(message) => Err(Fault::new(at, message)),
        }
    }

    fn ordered(&mut self, relation: Relation, head: NodeId, a: &Value, b: &Value) -> Result<bool> {
        self.effort(head, a, b)?;
        ops::ordered(relation, a, b).map_err(|message| Fault::new(self.program.syntax.at(head), message))
    }

    /// Work on what is long costs more.
    #[inline]
    fn effort(&mut self, head: NodeId, a: &Value, b: &Value) -> Result<()> {
        let steps = match (a, b) {
            (
                Value::Int(_) | Value::Float(_) | Value::Bool(_) | Value::Nil,
                Value::Int(_) | Value::Float(_),
            ) => return Ok(()),
            _ => match (Number::of(a), Number::of(b)) {
                (Some(a), Some(b)) => a.effort(&b),
                _ => a.weight().saturating_add(b.weight()) / 256,
            },
        };
        self.work(steps, self.program.syntax.at(head))
    }

    /// A value that was made, counted if it may be long.
    #[inline]
    pub(super) fn made_long(&mut self, at: At, value: Value) -> Result<Value> {
        if matches!(value, Value::Text(_) | Value::Big(_) | Value::List(_)) {
            self.made(at, &value)?;
        }
        Ok(value)
    }
}
