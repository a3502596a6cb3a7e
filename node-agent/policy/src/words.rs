//! How things are called in messages and in the log.

use std::fmt::Write as _;

use crate::value::{Entity, Value};
use crate::world::World;

/// Characters of a name that messages show.
const LONGEST: usize = 60;

/// A name for a message: what is too long for one is cut.
pub(crate) fn shown(name: &str) -> String {
    match name.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", name.get(..end).unwrap_or_default()),
        None => name.to_owned(),
    }
}

/// So many arguments.
pub(crate) fn arguments(count: usize) -> String {
    if count == 1 { "1 argument".to_owned() } else { format!("{count} arguments") }
}

/// Bytes that one line of the log has, about.
const LINE: usize = 1024;

/// Appends a value as `debug` shows it; long ones in part.
pub(crate) fn append(line: &mut String, value: &Value, world: &World) {
    if line.len() > LINE {
        return;
    }
    // Writing to a String cannot fail.
    let _ = match value {
        Value::Nil => write!(line, "nil"),
        Value::Bool(value) => write!(line, "{value}"),
        Value::Int(value) => write!(line, "{value}"),
        Value::Float(value) => write!(line, "{value:?}"),
        Value::Big(value) => write!(line, "an integer of {} bits", value.bits()),
        Value::Text(text) => write!(line, "{}", text.chars().take(LINE).collect::<String>()),
        Value::List(list) => {
            line.push('(');
            for (n, item) in list.items().iter().take(LINE).enumerate() {
                if n > 0 {
                    line.push(' ');
                }
                append(line, item, world);
            }
            write!(line, ")")
        }
        Value::Entity(entity) | Value::Method(entity, _) => write!(line, "{}", entity_name(*entity, world)),
        Value::Function(function) => write!(line, "{}", function.name()),
    };
}

/// `Host`, or the guest's name.
pub(crate) fn entity_name(entity: Entity, world: &World) -> &str {
    match entity {
        Entity::Host => "Host",
        Entity::Guest(_) => world.subject(entity).map_or("", |subject| subject.name.as_ref()),
    }
}
