//! `with`: one turn for each element of a list. What fails in a guest's turn concerns that guest alone.

use super::{Entity, Fault, GuestTrouble, NodeId, Result, Run, Value};
use crate::ops;
use crate::source::At;
use crate::syntax::{Name, Node};
use crate::world::Table;

/// What guests' tables were before this evaluation wrote there, and whose turn failed.
#[derive(Debug)]
pub(super) struct Originals {
    guests: Vec<Option<Box<Tables>>>,
    failed: Vec<u32>,
}

#[derive(Debug)]
struct Tables {
    variables: Table,
    controls: Table,
}

impl Originals {
    pub(super) fn new(guests: usize) -> Self {
        Self { guests: std::iter::repeat_with(|| None).take(guests).collect(), failed: Vec::new() }
    }
}

/// What a failed turn may cost in memory: its message and its place.
const TROUBLE: u64 = 1024;

impl Run<'_> {
    pub(super) fn with(&mut self, list: NodeId, variable: NodeId, body: NodeId) -> Result<Value> {
        let syntax = &self.program.syntax;
        let at = syntax.at(list);
        let elements = match syntax.node(list) {
            Node::Symbol(name) => {
                self.scopes.get(*name).cloned().ok_or_else(|| self.undefined(list, *name))?
            }
            Node::Dotted { whole, base, attribute } => {
                self.attribute(list, *base, *attribute)?.ok_or_else(|| self.undefined(list, *whole))?
            }
            _ => return Err(Fault::new(at, "with takes the name of a list first")),
        };
        let Some(variable) = syntax.name_of(variable) else {
            return Err(Fault::new(syntax.at(variable), "with takes a name for the element second"));
        };
        let mut values = Vec::new();
        match &elements {
            Value::List(list) => {
                for element in list.items() {
                    values.push(self.turn(variable, element.clone(), body)?);
                }
            }
            Value::Text(text) => {
                for character in text.chars() {
                    let mut buffer = [0; 4];
                    let element = Value::text(character.encode_utf8(&mut buffer));
                    self.made(at, &element)?;
                    values.push(self.turn(variable, element, body)?);
                }
            }
            other => return Err(Fault::new(at, format!("with takes a list, and this is {}", other.kind()))),
        }
        let value = ops::list(values).map_err(|message| Fault::new(at, message))?;
        self.made(at, &value)?;
        Ok(value)
    }

    fn turn(&mut self, variable: Name, element: Value, body: NodeId) -> Result<Value> {
        let guest = match element {
            Value::Entity(Entity::Guest(guest)) => Some(guest),
            _ => None,
        };
        let depth = self.depth;
        let mark = self.scopes.enter();
        self.scopes.bind(variable, element);
        let result = self.value(body);
        self.scopes.leave(mark);
        match (result, guest) {
            (Err(fault), Some(guest)) if !fault.0.spent => {
                self.depth = depth;
                self.failed(guest, fault)?;
                Ok(Value::Nil)
            }
            (result, _) => result,
        }
    }

    fn failed(&mut self, guest: u32, fault: Fault) -> Result<()> {
        let at = fault.0.at;
        self.take_memory(at, TROUBLE)?;
        self.work(self.program.text.effort(at), at)?;
        let trouble = self.trouble(fault);
        let name =
            self.world.subject(Entity::Guest(guest)).map(|subject| subject.name.clone()).unwrap_or_default();
        self.out.errors.push(GuestTrouble { guest: name, trouble });
        self.restore(guest);
        self.undone.failed.push(guest);
        Ok(())
    }

    /// Before something is written to a guest's tables.
    pub(super) fn keep_original(&mut self, at: At, entity: Entity) -> Result<()> {
        let (Entity::Guest(guest), Some(subject)) = (entity, self.world.subject(entity)) else {
            return Ok(());
        };
        let place = usize::try_from(guest).ok().and_then(|n| self.undone.guests.get_mut(n));
        if let Some(place @ None) = place {
            let tables = Tables { variables: subject.variables.clone(), controls: subject.controls.clone() };
            // Each entry is copied, and dropped once more.
            let effort = tables.variables.len().saturating_add(tables.controls.len()).saturating_mul(4);
            *place = Some(Box::new(tables));
            self.work(u64::try_from(effort).unwrap_or(u64::MAX), at)?;
        }
        Ok(())
    }

    fn restore(&mut self, guest: u32) {
        let tables =
            usize::try_from(guest).ok().and_then(|n| self.undone.guests.get_mut(n)).and_then(Option::take);
        if let (Some(tables), Some(subject)) = (tables, self.world.subject_mut(Entity::Guest(guest))) {
            subject.variables = tables.variables;
            subject.controls = tables.controls;
        }
    }

    /// What a guest whose turn failed was told after that counts as little as what it was told before.
    pub(super) fn end(&mut self) {
        for guest in std::mem::take(&mut self.undone.failed) {
            self.restore(guest);
        }
    }
}
