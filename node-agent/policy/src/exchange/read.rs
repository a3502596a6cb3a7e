//! A world: `{"host": {"properties": {…}, "history": [{FIELD: VALUE}, …], "fields": [FIELD, …], "variables": {…}},
//! "guests": [{"name": …, and as the host has it, "controls": {…}}]}`. Each part may be left out, but a guest's name.

use std::collections::HashSet;
use std::sync::Arc;

use super::json::{Json, Wrong, kind, name, parse};
use crate::ops;
use crate::value::{LONGEST_NAME, Value};
use crate::world::{Subject, Table, World};

/// Fields whose values are objects in MOM. Nobody acts on them here: they are read as nil, whatever they hold.
const OF_DISKS: [&str; 2] = ["io_tune", "io_tune_current"];

/// Most bytes of a world: some thousand guests.
pub const MAX_INPUT: usize = 8 << 20;

type Read<T> = Result<T, String>;

/// Reads a world; what is wrong is told with its place or its path.
pub fn read(bytes: &[u8]) -> Read<World> {
    if bytes.len() > MAX_INPUT {
        return Err(format!("it has more than {MAX_INPUT} bytes"));
    }
    let text = std::str::from_utf8(bytes)
        .map_err(|why| format!("it is not UTF-8 from byte {} on", why.valid_up_to()))?;
    // Files are edited on Windows, too.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let json = parse(text).map_err(|wrong| at(text, &wrong))?;
    let (mut world, mut names) = (World::default(), HashSet::new());
    for (key, value) in object(json, "")? {
        match key.as_str() {
            "host" => world.host = subject(&mut world, value, "host", None)?,
            "guests" => {
                for (n, guest) in array(value, "guests")?.into_iter().enumerate() {
                    let path = format!("guests[{n}]");
                    let guest = subject(&mut world, guest, &path, Some(()))?;
                    if !names.insert(Arc::clone(&guest.name)) {
                        return Err(format!("{path}.name: there are two guests {:?}", guest.name));
                    }
                    world.guests.push(guest);
                }
            }
            other => return Err(unknown("", other, "host and guests")),
        }
    }
    Ok(world)
}

fn at(text: &str, wrong: &Wrong) -> String {
    let before = text.get(..wrong.offset).unwrap_or(text);
    let line = before.matches('\n').count().saturating_add(1);
    let column = before.chars().rev().take_while(|c| *c != '\n').count().saturating_add(1);
    format!("line {line}, column {column}: {}", wrong.message)
}

fn unknown(path: &str, key: &str, known: &str) -> String {
    format!("{}{key}: unknown; here are {known}", inside(path))
}

/// How the path of something begins that is in there.
fn inside(path: &str) -> String {
    if path.is_empty() { String::new() } else { format!("{path}.") }
}

fn subject(world: &mut World, json: Json, path: &str, guest: Option<()>) -> Read<Subject> {
    let mut subject = Subject::default();
    let mut named = guest.is_none();
    for (key, value) in object(json, path)? {
        let path = format!("{path}.{key}");
        match (key.as_str(), guest) {
            ("properties", _) => subject.properties = table(value, &path)?,
            ("variables", _) => subject.variables = table(value, &path)?,
            ("controls", _) => subject.controls = table(value, &path)?,
            ("fields", _) => {
                let fields = array(value, &path)?.into_iter().enumerate();
                let fields = fields.map(|(n, field)| Ok(world.field(&text(field, &format!("{path}[{n}]"))?)));
                subject.declare(fields.collect::<Read<Vec<_>>>()?);
            }
            ("history", _) => {
                let mut rows = Vec::new();
                for (n, sample) in array(value, &path)?.into_iter().enumerate() {
                    let fields = self::sample(sample, &format!("{path}[{n}]"))?.into_iter();
                    let fields = fields.map(|(key, value)| (world.field(&key), value));
                    rows.push(fields.collect::<Vec<_>>());
                }
                // All at once: one after the other takes a walk over all of them for each.
                subject.declare(rows.iter().flatten().map(|(field, _)| *field));
                for row in rows {
                    subject.push(row);
                }
            }
            ("name", Some(())) => {
                let text = text(value, &path)?;
                if text.len() > LONGEST_NAME {
                    let bytes = text.len();
                    return Err(format!(
                        "{path}: it has {bytes} bytes, and no guest's name more than {LONGEST_NAME}"
                    ));
                }
                subject.name = name(&text);
                named = true;
            }
            _ => {
                let known = "properties, history, fields, variables, controls";
                return Err(unknown(
                    "",
                    &path,
                    &format!("{known}{}", if guest.is_some() { ", name" } else { "" }),
                ));
            }
        }
    }
    if !named {
        return Err(format!("{path}.name is missing"));
    }
    if guest.is_some() {
        // As everywhere in MOM, and on a node.
        let own = Value::Text(Arc::clone(&subject.name));
        subject.properties.entry(name("name")).or_insert(own);
    }
    Ok(subject)
}

fn object(json: Json, path: &str) -> Read<Vec<(String, Json)>> {
    match json {
        Json::Object(members) => {
            let mut seen = HashSet::with_capacity(members.len());
            match members.iter().find(|(key, _)| !seen.insert(key.as_str())) {
                Some((key, _)) => Err(format!("{}{key}: it stands there twice", inside(path))),
                None => Ok(members),
            }
        }
        other => Err(format!(
            "{}: an object is due, and this is {}",
            if path.is_empty() { "it" } else { path },
            kind(&other)
        )),
    }
}

fn array(json: Json, path: &str) -> Read<Vec<Json>> {
    match json {
        Json::Array(elements) => Ok(elements),
        other => Err(format!("{path}: an array is due, and this is {}", kind(&other))),
    }
}

fn text(json: Json, path: &str) -> Read<String> {
    match json {
        Json::Plain(Value::Text(text)) => Ok(text.to_string()),
        other => Err(format!("{path}: a text is due, and this is {}", kind(&other))),
    }
}

fn plain(json: Json, path: &str) -> Read<Vec<(String, Value)>> {
    object(json, path)?
        .into_iter()
        .map(|(key, value)| value_of(value, &format!("{path}.{key}")).map(|value| (key, value)))
        .collect()
}

fn sample(json: Json, path: &str) -> Read<Vec<(String, Value)>> {
    let mut fields = object(json, path)?;
    for (_, value) in fields.iter_mut().filter(|(field, _)| OF_DISKS.contains(&field.as_str())) {
        *value = Json::Plain(Value::Nil);
    }
    plain(Json::Object(fields), path)
}

fn table(json: Json, path: &str) -> Read<Table> {
    Ok(plain(json, path)?.into_iter().map(|(key, value)| (name(&key), value)).collect())
}

fn value_of(json: Json, path: &str) -> Read<Value> {
    match json {
        Json::Plain(value) => Ok(value),
        Json::Array(elements) => {
            let items = elements.into_iter().map(|element| value_of(element, path)).collect::<Read<_>>()?;
            ops::list(items).map_err(|why| format!("{path}: {why}"))
        }
        Json::Object(_) => Err(format!("{path}: objects are no values of the language")),
    }
}
