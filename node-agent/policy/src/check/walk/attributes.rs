//! What is behind the dot: fields, methods, and the names that methods take.

use super::super::catalog::{self, CONTROLS, Effect, FIELDS, OF_DISKS, PROPERTIES, UNMERGE, Whose};
use super::super::nearest::hint;
use super::super::units::{self, Unit};
use super::Walk;
use crate::syntax::{Name, Node, NodeId};
use crate::value::{Method, Value};
use crate::words::{arguments as counted, shown};

impl Walk<'_> {
    /// A dotted name as a value.
    pub(super) fn dotted(&mut self, id: NodeId, whole: Name, base: Name, attribute: Name) {
        let program = self.program;
        let text = program.syntax.text(whole);
        if text.matches('.').count() > 1 {
            self.warning(id, |_| format!("what follows the second dot of {} is ignored", shown(text)));
        }
        if !self.facts.is_bound(base) {
            let base = program.syntax.text(base);
            return self.error(id, |walk| {
                let variables = walk.facts.names().filter(|name| walk.facts.is_bound(*name));
                let variables = variables.map(|name| program.syntax.text(name).as_ref());
                format!("undefined symbol {}{}", shown(text), hint(base, variables))
            });
        }
        let (owner, name) = (self.facts.whose(program, base), program.syntax.text(attribute));
        if program.method(attribute).is_none() && !self.of_a_disk(id, owner, name) {
            self.field(id, owner, name);
        }
    }

    /// Whether it may be of an object in `io_tune`. Where there is none nothing of it is evaluated, so that it is no error.
    fn of_a_disk(&mut self, id: NodeId, whose: Whose, name: &str) -> bool {
        let of_a_disk = whose == Whose::Both && OF_DISKS.contains(&name);
        if of_a_disk && !self.disks {
            self.disks = true;
            self.warning(id, |_| {
                format!("{name} is of a disk in io_tune, which is nil under KubeVirt: nobody acts on it")
            });
        }
        of_a_disk
    }

    /// A field that is read of somebody.
    fn field(&mut self, id: NodeId, whose: Whose, name: &str) {
        let mut named = catalog::fields_named(name);
        let field = named.clone().find(|field| field.whose.includes(whose));
        match field {
            None if named.next().is_none() => self.error(id, |_| {
                let known = FIELDS.iter().filter(|field| field.whose.includes(whose)).map(|field| field.name);
                format!("unknown field {}{}", shown(name), hint(name, known))
            }),
            None => {
                let (has_not, has) = if whose == Whose::Host {
                    ("the host", "guests have it")
                } else {
                    ("a guest", "the host has it")
                };
                self.error(id, |_| format!("{has_not} has no field {name}: {has}"));
            }
            Some(field) => {
                if catalog::is_sum(field) && !self.counters.contains(&field.name) {
                    self.counters.push(field.name);
                    self.warning(id, |_| sum(field));
                }
                if field.name == "rss" {
                    self.rss.get_or_insert(id);
                }
            }
        }
    }

    /// A call through a dotted name: a method, or a function of the policy whose name has a dot.
    pub(super) fn method_call(
        &mut self,
        head: NodeId,
        whole: Name,
        (base, attribute): (Name, Name),
        arguments: &[NodeId],
    ) {
        let program = self.program;
        let defined = self.facts.function(whole).is_some();
        let method = program.method(attribute).filter(|_| self.facts.is_bound(base));
        match method {
            Some(method) => self.method(head, method, self.facts.whose(program, base), arguments),
            None if defined => self.defined_call(head, whole, arguments.len()),
            None if !self.facts.is_bound(base) => self.dotted(head, whole, base, attribute),
            None => {
                let name = program.syntax.text(attribute);
                if self.of_a_disk(head, self.facts.whose(program, base), name) {
                    return;
                }
                let methods = Method::ALL.iter().map(|(name, _)| *name);
                if catalog::fields_named(name).next().is_some() {
                    return self.error(head, |_| {
                        format!("{name} is a field and cannot be called: leave the brackets out")
                    });
                }
                self.error(head, |_| format!("undefined method {}{}", shown(name), hint(name, methods)));
            }
        }
    }

    fn method(&mut self, head: NodeId, method: Method, whose: Whose, arguments: &[NodeId]) {
        let (least, most) = method.arity();
        if arguments.len() < least || arguments.len() > most {
            let wanted = if least == most { counted(least) } else { format!("{least} or {most} arguments") };
            let found = arguments.len();
            return self.error(head, |_| format!("{} takes {wanted}, and here are {found}", method.name()));
        }
        let Some(first) = arguments.first().copied() else { return };
        let name = match self.program.syntax.node(first) {
            Node::Constant(Value::Text(name)) => name,
            Node::Constant(other) => {
                let kind = other.kind();
                return self.error(first, |_| {
                    format!("{} takes a name as a text, and this is {kind}", method.name())
                });
            }
            _ => return,
        };
        match method {
            Method::Stat | Method::StatAvg => self.field(first, whose, name),
            Method::Prop => self.property(first, whose, name),
            Method::Control | Method::GetControl => {
                self.control(first, whose, name, arguments.get(1).copied());
            }
            Method::SetVar | Method::GetVar => {}
        }
    }

    fn property(&mut self, id: NodeId, whose: Whose, name: &str) {
        if PROPERTIES.iter().any(|(known, has)| *known == name && has.includes(whose)) {
            return;
        }
        self.warning(id, |_| {
            let known = PROPERTIES.iter().filter(|(_, has)| has.includes(whose)).map(|(name, _)| *name);
            format!("unknown property {}{}", shown(name), hint(name, known))
        });
    }

    fn control(&mut self, id: NodeId, whose: Whose, name: &str, value: Option<NodeId>) {
        let Some(control) = CONTROLS.iter().find(|control| control.name == name) else {
            return self.warning(id, |_| {
                let known = CONTROLS
                    .iter()
                    .filter(|control| control.whose.includes(whose))
                    .map(|control| control.name);
                format!("unknown control {}: nobody acts on it{}", shown(name), hint(name, known))
            });
        };
        if let Effect::Unsupported(why) = control.effect {
            self.unsupported(id, control.name, why);
        } else if !control.whose.includes(whose) {
            let has = if whose == Whose::Host { "guests have" } else { "the host has" };
            self.warning(id, |_| format!("nobody acts on {name} here: {has} it"));
        }
        if let Some(value) = value
            && control.name == UNMERGE.0
            && let Node::Constant(constant) = self.program.syntax.node(value)
            && constant.to_whole() == Some(2)
        {
            self.unsupported(value, UNMERGE.1, UNMERGE.2);
        }
        let acted_on = control.effect == Effect::Works && control.whose.includes(whose);
        if let Some(value) = value.filter(|_| acted_on)
            && let Node::Constant(constant) = self.program.syntax.node(value)
            && let Some(is) = refused(constant, control.unit)
        {
            let takes = match control.unit {
                Unit::Plain => "a number".to_owned(),
                unit => format!("a number of {}", unit.word()),
            };
            self.warning(value, |_| {
                format!("{name} takes {takes} from 0 up, and this is {is}: no node acts on it")
            });
        }
        if let Some(value) = value
            && let Some(unit) = units::unit(self.program, &self.facts, value)
            && control.unit != Unit::Plain
            && unit != control.unit
        {
            let wanted = control.unit.word();
            self.warning(value, |_| format!("{name} is in {wanted}, and this is in {}", unit.word()));
        }
    }
}

/// What a sum over time is of, and since when.
fn sum(field: &catalog::Field) -> String {
    let name = field.name;
    if field.unit == Unit::Counter {
        return format!(
            "{name} counts events as the guest's source does it, since boot under libvirt; MOM's other sources differ"
        );
    }
    format!(
        "{name} is a sum: of the host pages since its last sample, of guests KiB as their source counts them, since boot under \
         libvirt; MOM's other sources differ"
    )
}

/// What a constant is that nobody takes for a control's number; as the node's door has it.
fn refused(constant: &Value, unit: Unit) -> Option<String> {
    // No machine addresses more than 52 bits (Intel SDM, MAXPHYADDR; CONFIG_ARM64_PA_BITS_52).
    const LARGEST_KIB: i64 = 1 << 42;
    match constant.to_whole() {
        None => Some(match constant {
            Value::Float(_) | Value::Big(_) => "a number that 64 bits do not hold".to_owned(),
            other => other.kind().to_owned(),
        }),
        Some(whole) if whole < 0 => Some("less than 0".to_owned()),
        Some(whole) if unit == Unit::KiB && whole > LARGEST_KIB => {
            Some("more than any machine has".to_owned())
        }
        Some(_) => None,
    }
}
