//! Calls: of what a variable holds, of a word of the language, of a function of the policy, in this order.

use super::{Defined, Entity, Fault, NodeId, Result, Run, Value};
use crate::number::Number;
use crate::source::At;
use crate::syntax::{Name, Node};
use crate::value::{Function, Method};
use crate::{ops, words};

impl<'a> Run<'a> {
    /// A list: its first part says what is called.
    pub(super) fn call(&mut self, id: NodeId, parts: &'a [NodeId]) -> Result<Value> {
        let program = self.program;
        let Some((head, arguments)) = parts.split_first() else {
            return Err(Fault::new(program.syntax.at(id), "an empty list cannot be evaluated"));
        };
        match program.syntax.node(*head) {
            Node::Symbol(name) | Node::Operator(name) => match self.scopes.get(*name) {
                Some(value) if !value.is_nil() => {
                    let value = value.clone();
                    self.call_value(*head, &value, arguments)
                }
                _ => match program.builtin(*name) {
                    Some(builtin) => self.form(builtin, *head, arguments),
                    None => self.call_defined(*head, *name, arguments),
                },
            },
            Node::Dotted { whole, base, attribute } => match self.attribute(*head, *base, *attribute)? {
                Some(value) if !value.is_nil() => self.call_value(*head, &value, arguments),
                _ => self.call_defined(*head, *whole, arguments),
            },
            Node::List { .. } => Err(Fault::new(
                program.syntax.at(*head),
                "a list begins with what it calls, and this is another list",
            )),
            Node::Constant(value) => {
                let message = format!("a list begins with what it calls, and this is {}", value.kind());
                Err(Fault::new(program.syntax.at(*head), message))
            }
        }
    }

    /// What `base.attribute` is, if it is something: the newest binding of `base` that has such an attribute counts.
    pub(super) fn attribute(&mut self, id: NodeId, base: Name, attribute: Name) -> Result<Option<Value>> {
        let newest = self.scopes.get(base).and_then(|value| self.attribute_of(value, attribute));
        if newest.is_some() {
            return Ok(newest);
        }
        self.work(self.scopes.effort(), self.program.syntax.at(id))?;
        Ok(self.scopes.hidden(base).find_map(|value| self.attribute_of(value, attribute)))
    }

    /// Two kinds of attributes exist, methods and fields; a field that is declared and was not sampled is `nil`.
    fn attribute_of(&self, value: &Value, attribute: Name) -> Option<Value> {
        let Value::Entity(entity) = value else { return None };
        if let Some(method) = self.program.method(attribute) {
            return Some(Value::Method(*entity, method));
        }
        let field = self.fields.get(attribute.index()).copied().flatten()?;
        let subject = self.world.subject(*entity).filter(|subject| subject.declares(field))?;
        Some(subject.last(field).cloned().unwrap_or(Value::Nil))
    }

    fn call_value(&mut self, head: NodeId, value: &Value, arguments: &'a [NodeId]) -> Result<Value> {
        let at = self.program.syntax.at(head);
        match value {
            Value::Method(entity, method) => self.call_method(head, *entity, *method, arguments),
            Value::Function(Function::Abs) => {
                let [argument] = arguments else {
                    return self.call_in_vain(arguments, arity(at, "abs", "1 argument", arguments.len()));
                };
                let value = self.value(*argument)?;
                let result = ops::absolute(&value).map_err(|message| Fault::new(at, message))?;
                self.made_long(at, result)
            }
            Value::Function(Function::Debug) => self.debug(at, arguments),
            _ => {
                let why = format!("{} is {} and cannot be called", self.shown(head), value.kind());
                self.call_in_vain(arguments, Fault::new(at, why))
            }
        }
    }

    /// Arguments of what is a value come first, as in MOM: in a guest's turn that fails, what they told the host stays.
    fn call_in_vain(&mut self, arguments: &'a [NodeId], fault: Fault) -> Result<Value> {
        for argument in arguments {
            self.value(*argument)?;
        }
        Err(fault)
    }

    fn debug(&mut self, at: At, arguments: &'a [NodeId]) -> Result<Value> {
        // What nobody reads is not written: a node has no log.
        let mut line = (self.logged < self.limits.log).then(String::new);
        let mut last = None;
        for argument in arguments {
            let value = self.value(*argument)?;
            if let Some(line) = &mut line {
                if !line.is_empty() {
                    line.push(' ');
                }
                words::append(line, &value, self.world);
            }
            last = Some(value);
        }
        let Some(last) = last else { return Err(arity(at, "debug", "1 argument or more", 0)) };
        let Some(line) = line else { return Ok(last) };
        let effort = u64::try_from(line.len() / 4).unwrap_or(u64::MAX);
        self.work(effort.saturating_add(self.program.text.effort(at)), at)?;
        self.logged = self.logged.saturating_add(line.len()).saturating_add(32);
        if self.logged <= self.limits.log {
            self.world.log.push((self.program.text.place(at), line));
        }
        Ok(last)
    }

    fn call_method(
        &mut self,
        head: NodeId,
        entity: Entity,
        method: Method,
        arguments: &'a [NodeId],
    ) -> Result<Value> {
        let at = self.program.syntax.at(head);
        let (least, most) = method.arity();
        if arguments.len() < least || arguments.len() > most {
            let wanted =
                if least == most { words::arguments(least) } else { format!("{least} or {most} arguments") };
            return self.call_in_vain(arguments, arity(at, method.name(), &wanted, arguments.len()));
        }
        let mut values = [Value::Nil, Value::Nil];
        for (place, argument) in values.iter_mut().zip(arguments) {
            *place = self.value(*argument)?;
        }
        let [name, second] = values;
        let Value::Text(name) = name else {
            return Err(Fault::new(
                at,
                format!("{} takes a name as a text, and this is {}", method.name(), name.kind()),
            ));
        };
        self.look_up(at, entity, method, &name)?;
        match method {
            Method::Prop | Method::GetVar | Method::GetControl => self.recall(at, entity, method, &name),
            Method::Stat => self.stat(at, entity, &name),
            Method::StatAvg => self.average(head, entity, &name),
            Method::SetVar | Method::Control => {
                self.made(at, &second)?;
                self.made(at, &Value::Text(std::sync::Arc::clone(&name)))?;
                self.keep_original(at, entity)?;
                if let Some(subject) = self.world.subject_mut(entity) {
                    if method == Method::SetVar {
                        subject.variables.insert(name, second);
                    } else {
                        subject.told.insert(std::sync::Arc::clone(&name), at);
                        subject.controls.insert(name, second);
                    }
                }
                Ok(Value::Nil)
            }
        }
    }

    /// Looking for a long name costs more: it is compared with those that are there, or its hash is made.
    fn look_up(&mut self, at: At, entity: Entity, method: Method, name: &str) -> Result<()> {
        let long = name.len() / 64;
        if long == 0 {
            return Ok(());
        }
        let entries = self.world.subject(entity).map_or(0, |subject| match method {
            Method::Prop => subject.properties.len(),
            Method::SetVar | Method::GetVar => subject.variables.len(),
            // Where it was proposed is looked for in a table of its own.
            Method::Control => subject.controls.len().saturating_add(subject.told.len()),
            Method::GetControl => subject.controls.len(),
            // A hash, which takes some times as long as a comparison.
            Method::Stat | Method::StatAvg => 4,
        });
        let steps = long.saturating_mul(compared(entries)) / 4;
        self.work(u64::try_from(steps).unwrap_or(u64::MAX).saturating_add(1), at)
    }

    fn recall(&self, at: At, entity: Entity, method: Method, name: &str) -> Result<Value> {
        let Some(subject) = self.world.subject(entity) else { return Ok(Value::Nil) };
        let found = match method {
            Method::Prop => &subject.properties,
            Method::GetControl => &subject.controls,
            _ => &subject.variables,
        }
        .get(name);
        match found {
            None if method == Method::Prop => {
                Err(Fault::new(at, format!("there is no property {}", words::shown(name))))
            }
            found => Ok(found.cloned().unwrap_or(Value::Nil)),
        }
    }

    /// The last sample of a field, else `nil`: MOM's collectors fill in what is missing, so that a default never counts.
    fn stat(&self, at: At, entity: Entity, name: &str) -> Result<Value> {
        let (subject, field) = self.declared(at, entity, name)?;
        Ok(subject.last(field).cloned().unwrap_or(Value::Nil))
    }

    fn declared(
        &self,
        at: At,
        entity: Entity,
        name: &str,
    ) -> Result<(&crate::world::Subject, crate::world::Field)> {
        let field = self.world.known(name);
        let subject = self.world.subject(entity);
        match (subject, field) {
            (Some(subject), Some(field)) if subject.declares(field) => Ok((subject, field)),
            _ => Err(Fault::new(at, format!("no collector has the field {}", words::shown(name)))),
        }
    }

    /// The mean of all samples that are not `nil`; 0.0 if each is.
    fn average(&mut self, head: NodeId, entity: Entity, name: &str) -> Result<Value> {
        let at = self.program.syntax.at(head);
        let (subject, field) = self.declared(at, entity, name)?;
        if !subject.sampled() {
            return Err(Fault::new(at, format!("there is no sample of {} yet", words::shown(name))));
        }
        let (mut sum, mut count, mut effort) = (Value::Int(0), 0_i64, 0_u64);
        for sample in subject.samples(field) {
            if let (Some(a), Some(b)) = (Number::of(&sum), Number::of(sample)) {
                effort = effort.saturating_add(a.effort(&b));
            }
            sum = ops::arithmetic(crate::number::Operation::Add, &sum, sample, 0)
                .map_err(|why| Fault::new(at, why))?;
            count = count.saturating_add(1);
        }
        self.work(effort, at)?;
        if count == 0 {
            return Ok(Value::Float(0.0));
        }
        ops::divide(&sum, &Value::Int(count)).map_err(|why| Fault::new(at, why))
    }

    fn call_defined(&mut self, head: NodeId, name: Name, arguments: &'a [NodeId]) -> Result<Value> {
        let at = self.program.syntax.at(head);
        let Some(Defined { parameters, body }) = self.functions.get(name.index()).copied().flatten() else {
            return Err(Fault::new(at, format!("undefined function {}", self.shown(head))));
        };
        let Some(parameters) = self.program.syntax.parts_of(parameters) else {
            return Err(Fault::new(at, format!("the parameters of {} are no list", self.shown(head))));
        };
        if parameters.len() != arguments.len() {
            let wanted = words::arguments(parameters.len());
            return Err(arity(at, &self.shown(head), &wanted, arguments.len()));
        }
        let mark = self.scopes.enter();
        for (parameter, argument) in parameters.iter().zip(arguments) {
            let Some(name) = self.program.syntax.name_of(*parameter) else {
                let message = format!("a parameter of {} is no name", self.shown(head));
                return Err(Fault::new(self.program.syntax.at(*parameter), message));
            };
            // One after the other, as MOM binds them: an argument sees the parameters before it.
            let value = self.value(*argument)?;
            self.scopes.bind(name, value);
        }
        let value = self.value(body)?;
        self.scopes.leave(mark);
        Ok(value)
    }

    /// What a head is called, for messages.
    pub(super) fn shown(&self, head: NodeId) -> String {
        match self.program.syntax.node(head) {
            Node::Operator(name) => {
                crate::lex::sign_of(self.program.syntax.text(*name)).unwrap_or_default().to_owned()
            }
            Node::Symbol(name) | Node::Dotted { whole: name, .. } => {
                words::shown(self.program.syntax.text(*name))
            }
            _ => "this".to_owned(),
        }
    }
}

/// With how many names of a table one is compared at most: a B-tree's nodes have up to 11 names and at least 6 children
/// (`alloc::collections::btree`).
fn compared(entries: usize) -> usize {
    let levels = entries.checked_ilog(6).map_or(1, |levels| levels.saturating_add(1));
    entries.min(usize::try_from(levels).unwrap_or(usize::MAX).saturating_mul(11))
}

#[cold]
pub(super) fn arity(at: At, name: &str, wanted: &str, found: usize) -> Fault {
    Fault::new(at, format!("{name} takes {wanted}, and here are {found}"))
}
