//! The world that a program sees: its samples, what it remembers, and which guests there are for it.

use overcommit_policy::world::{Field, Subject, World};
use overcommit_policy::{Value, world};

use super::fields::{GUEST, GUEST_NIL, HOST, Row};
use super::kept;
use super::memory::{self, Memory};
use crate::eligibility::standing;
use crate::evidence::Evidence;
use crate::guard::Scene;
use crate::model::Track;
use crate::policy::Class;

/// Guests that a program sees: in a class of the policy, not exempt, and with a balloon and statistics that say something. Without
/// these MOM would have no fields that its policies cannot do without.
pub(super) fn shown<'a>(scene: &Scene<'a>) -> impl Iterator<Item = (&'a Track, &'a Class)> {
    let Scene { model, policy, now, .. } = *scene;
    let seen = model.tracks().filter(|track| says_something(track));
    seen.filter_map(move |track| Some((track, standing(track, policy, now).class()?)))
}

/// Whether a program sees that guest.
pub(super) fn is_shown(track: &Track, scene: &Scene<'_>) -> bool {
    says_something(track) && standing(track, scene.policy, scene.now).class().is_some()
}

fn says_something(track: &Track) -> bool {
    let heard = matches!(track.evidence, Evidence::Fresh(_) | Evidence::Stale { .. });
    heard && track.sample.balloon.is_some() && track.is_reachable()
}

/// The world, and its guests in their order.
pub(super) fn of<'a>(memory: &Memory, scene: &Scene<'a>) -> (World, Vec<&'a Track>) {
    let mut world = World::default();
    let fields = |world: &mut World, names: &[&str]| -> Vec<Field> {
        names.iter().map(|name| world.field(name)).collect()
    };
    let host = fields(&mut world, &HOST);
    let (guest, guest_nil) = (fields(&mut world, &GUEST), fields(&mut world, &GUEST_NIL));
    let interval = i64::try_from(scene.policy.interval.as_secs()).unwrap_or(i64::MAX);
    world.host = subject("", &memory.host, &host, &[]);
    world.host.properties = properties([("name", Value::text("host")), ("interval", Value::Int(interval))]);
    let mut tracks = Vec::new();
    for (track, _) in shown(scene) {
        let Some(known) = memory.guests.get(&track.sample.id) else { continue };
        // By its identity: people may name two alike.
        let mut subject = subject(track.sample.id.as_str(), known, &guest, &guest_nil);
        let id = track.sample.id.as_str();
        let uuid = id.split_once('/').map_or(id, |(_, uuid)| uuid);
        let pid = track.sample.incarnation.map_or(Value::Nil, |process| Value::Int(i64::from(process.pid)));
        let name = Value::text(&track.sample.name.to_string());
        subject.properties = properties([("uuid", Value::text(uuid)), ("name", name), ("pid", pid)]);
        world.guests.push(subject);
        tracks.push(track);
    }
    (world, tracks)
}

fn properties<const N: usize>(of: [(&str, Value); N]) -> world::Table {
    of.into_iter().map(|(name, value)| (name.into(), value)).collect()
}

fn subject(name: &str, known: &memory::Subject, fields: &[Field], nil: &[Field]) -> Subject {
    let mut subject = Subject::named(name);
    subject.declare(nil.iter().copied());
    for row in &known.history {
        subject.push(values(fields, row));
    }
    subject.variables = kept::table(&known.variables);
    subject
}

fn values<'a>(fields: &'a [Field], row: &'a Row) -> impl Iterator<Item = (Field, Value)> + 'a {
    fields.iter().zip(row).map(|(field, value)| (*field, value.map_or(Value::Nil, Value::Int)))
}
