//! What a program saw and said in its last cycle, written as `policy eval` reads and prints it: so a program can be tried against
//! a node that lives, before a policy names it.

use std::collections::BTreeMap;
use std::sync::Arc;

use overcommit_policy::{Evaluation, Value, World, exchange};

use super::kept;
use super::memory::Memory;
use crate::sample::GuestId;

/// The last cycle, in JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// What `policy eval --input` takes. Variables are as the next cycle will find them.
    pub input: String,
    /// What `policy eval` prints: controls as the program set them. Values at the top are not kept.
    pub said: String,
}

/// Writes it; guests have the names that people know them by, where these tell them apart.
pub(super) fn of(mut world: World, memory: &Memory) -> Seen {
    let mut named: BTreeMap<Arc<str>, usize> = BTreeMap::new();
    for name in world.guests.iter().filter_map(|guest| name(guest.properties.get("name"))) {
        let count = named.entry(name).or_default();
        *count = count.saturating_add(1);
    }
    world.host.variables = kept::table(&memory.host.variables);
    for guest in &mut world.guests {
        if let Some(known) = memory.guests.get(&GuestId::new(Arc::clone(&guest.name))) {
            guest.variables = kept::table(&known.variables);
        }
        if let Some(name) = name(guest.properties.get("name")).filter(|name| named.get(name) == Some(&1)) {
            guest.name = name;
        }
    }
    let said = exchange::write(&Evaluation::default(), &world);
    world.host.controls.clear();
    world.guests.iter_mut().for_each(|guest| guest.controls.clear());
    Seen { input: exchange::write_world(&world), said }
}

fn name(property: Option<&Value>) -> Option<Arc<str>> {
    match property {
        Some(Value::Text(text)) => Some(Arc::clone(text)),
        _ => None,
    }
}
